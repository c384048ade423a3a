package main

import (
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	. "github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/internal/pgtest"
	"github.com/heddle-io/heddle/internal/porttest"
)

// shown is a ClusterService that answers what a test wants.
type shown struct {
	heddlev1connect.UnimplementedClusterServiceHandler
	status *heddlev1.ClusterServiceStatusResponse
	err    error
	token  string
	asked  []string
}

func (s *shown) Status(_ context.Context, req *connect.Request[heddlev1.ClusterServiceStatusRequest]) (*connect.Response[heddlev1.ClusterServiceStatusResponse], error) {
	if s.token != "" && req.Header().Get("Authorization") != "Bearer "+s.token {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("this call takes a token"))
	}
	return connect.NewResponse(s.status), s.err
}

func (s *shown) Remove(_ context.Context, req *connect.Request[heddlev1.ClusterServiceRemoveRequest]) (*connect.Response[heddlev1.ClusterServiceRemoveResponse], error) {
	s.asked = append(s.asked, "remove "+req.Msg.GetId())
	return connect.NewResponse(&heddlev1.ClusterServiceRemoveResponse{}), s.err
}

func (s *shown) Transfer(_ context.Context, req *connect.Request[heddlev1.ClusterServiceTransferRequest]) (*connect.Response[heddlev1.ClusterServiceTransferResponse], error) {
	s.asked = append(s.asked, "transfer "+req.Msg.GetTo())
	return connect.NewResponse(&heddlev1.ClusterServiceTransferResponse{Leader: "b"}), s.err
}

func (s *shown) Adopt(_ context.Context, req *connect.Request[heddlev1.ClusterServiceAdoptRequest]) (*connect.Response[heddlev1.ClusterServiceAdoptResponse], error) {
	s.asked = append(s.asked, "adopt "+req.Msg.GetOwner())
	return connect.NewResponse(&heddlev1.ClusterServiceAdoptResponse{}), s.err
}

// serveShown serves it and gives its URL.
func serveShown(t *testing.T, s *shown) string {
	t.Helper()
	_, handler := heddlev1connect.NewClusterServiceHandler(s)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func member(id, state string, change func(*heddlev1.Member)) *heddlev1.Member {
	m := &heddlev1.Member{
		Id: id, Address: "10.0.0.1:7400", Version: "1.0", Suffrage: heddlev1.Suffrage_SUFFRAGE_VOTER, State: state,
		MatchIndex: 100, LastContact: durationpb.New(12345 * time.Microsecond), CheckedIndex: 64, StateHash: "0a",
	}
	if change != nil {
		change(m)
	}
	return m
}

func TestClusterStatus(t *testing.T) {
	whole := func() *heddlev1.ClusterServiceStatusResponse {
		return &heddlev1.ClusterServiceStatusResponse{
			ClusterId: "c1", Node: "b", State: "follower", Leader: "a", Dispatching: true, Epoch: 3, Term: 4, Quorum: 2, Sessions: 5, Leases: 6,
			Members: []*heddlev1.Member{
				member("a", "leader", func(m *heddlev1.Member) { m.Leader = true }),
				member("b", "follower", func(m *heddlev1.Member) { m.MatchIndex = 98 }),
				member("c", "follower", func(m *heddlev1.Member) {
					m.Suffrage, m.MatchIndex, m.LastContact, m.CheckedIndex = heddlev1.Suffrage_SUFFRAGE_NONVOTER, 0, nil, 0
				}),
			},
		}
	}
	for _, c := range []struct {
		name   string
		change func(*heddlev1.ClusterServiceStatusResponse)
		code   int
		says   []string
	}{
		{"all is well", func(*heddlev1.ClusterServiceStatusResponse) {}, 0, []string{
			"cluster c1, epoch 3, term 4, leader a, quorum 2 of 2 voters",
			"5 sessions, 6 leases; replicated state equal on 2 of 3 nodes",
			"NODE  ROLE      ADDRESS        LAG  LAST CONTACT  VERSION",
			"a     leader    10.0.0.1:7400  -    -             1.0",
			"b     follower  10.0.0.1:7400  2    12ms          1.0",
			"c     joining   10.0.0.1:7400  ?    ?             1.0",
		}},
		{"a member is away", func(s *heddlev1.ClusterServiceStatusResponse) {
			m := s.Members[2]
			m.State, m.Trouble, m.LastContact = "", "no answer within 1s", durationpb.New(90*time.Second)
		}, 0, []string{"c     away      10.0.0.1:7400  ?    1m30s", "c: no answer within 1s"}},
		{"no quorum", func(s *heddlev1.ClusterServiceStatusResponse) {
			s.Leader, s.Dispatching, s.Members[0].Leader, s.Members[0].State = "", false, false, ""
		}, 1, []string{"leader unknown", "no quorum: 1 of 2 voters answer, 2 must: start the others; submissions and reads go on meanwhile"}},
		{"an election", func(s *heddlev1.ClusterServiceStatusResponse) { s.Leader, s.Dispatching = "", false }, 1,
			[]string{"no leader dispatches: an election or a takeover is under way"}},
		{"a foreign database", func(s *heddlev1.ClusterServiceStatusResponse) {
			s.Dispatching, s.Trouble = false, "the database belongs to another cluster"
		}, 1, []string{"no leader dispatches: the database belongs to another cluster"}},
		{"no cluster yet", func(s *heddlev1.ClusterServiceStatusResponse) {
			s.ClusterId, s.Leader, s.Dispatching, s.Members, s.State, s.Trouble = "", "", false, nil, "waiting", "met 1 of the 3 nodes"
		}, 1, []string{"node b belongs to no cluster yet", "no cluster yet: met 1 of the 3 nodes"}},
		{"states differ", func(s *heddlev1.ClusterServiceStatusResponse) { s.Members[0].StateHash = "0b" }, 0, []string{"replicated state DIFFERS at entry 64"}},
		{"states not compared", func(s *heddlev1.ClusterServiceStatusResponse) { s.Members[0].CheckedIndex = 128 }, 0, []string{"not compared yet"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := whole()
			c.change(s)
			code, out, err := call(nil, "cluster", "status", "--engine", serveShown(t, &shown{status: s}))
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, says := range c.says {
				if !strings.Contains(out+err, says) {
					t.Errorf("%q is not said in:\n%s%s", says, out, err)
				}
			}
		})
	}
	code, out, _ := call(nil, "cluster", "--json", "status", "--engine", serveShown(t, &shown{status: whole()}))
	if code != 0 || !strings.Contains(strings.ReplaceAll(out, " ", ""), `"clusterId":"c1"`) {
		t.Errorf("as JSON, exit code %d: %s", code, out)
	}
}

func TestClusterCommands(t *testing.T) {
	s := &shown{}
	url := serveShown(t, s)
	for _, c := range []struct {
		args []string
		env  []string
		asks string
		code int
		says string
	}{
		{args: []string{"remove", "b"}, asks: "remove b", says: "b is no member any more"},
		{args: []string{"transfer"}, asks: "transfer ", says: "b leads"},
		{args: []string{"transfer", "b"}, asks: "transfer b", says: "b leads"},
		{args: []string{"adopt", "--owner", "c1"}, asks: "adopt c1", says: "the database is this cluster's"},
		{args: []string{"adopt"}, env: []string{"HEDDLE_OWNER=c2"}, asks: "adopt c2"},
		{args: []string{"remove"}, code: 2, says: "remove takes the id of a node"},
		{args: []string{"adopt"}, code: 2, says: "adopt takes --owner"},
		{args: []string{"status", "b"}, code: 2, says: `unexpected argument "b"`},
		{args: []string{"remove", "b", "c"}, code: 2, says: `unexpected argument "c"`},
		{args: []string{"explode"}, code: 2, says: `"explode" is none of status, remove, transfer, adopt`},
		{args: nil, code: 2, says: "none of status, remove, transfer, adopt"},
	} {
		s.asked = nil
		code, out, err := call(append(c.env, "HEDDLE_ENGINE="+url), append([]string{"cluster"}, c.args...)...)
		if code != c.code || !strings.Contains(out+err, c.says) {
			t.Errorf("%v: exit code %d, want %q in:\n%s%s", c.args, code, c.says, out, err)
		}
		if strings.Join(s.asked, "; ") != c.asks {
			t.Errorf("%v asks %q, want %q", c.args, s.asked, c.asks)
		}
	}

	s.err = connect.NewError(connect.CodeFailedPrecondition, errors.New("too few voters would be left: start the others first"))
	if code, _, err := call(nil, "cluster", "remove", "b", "--engine", url); code != 1 || err != "engine: too few voters would be left: start the others first\n" {
		t.Errorf("a refusal: exit code %d, %s", code, err)
	}
	locked := serveShown(t, &shown{token: "secret", status: &heddlev1.ClusterServiceStatusResponse{Dispatching: true}})
	if code, _, err := call(nil, "cluster", "status", "--engine", locked); code != 1 || !strings.Contains(err, "HEDDLE_TOKEN") {
		t.Errorf("without a token: exit code %d, %s", code, err)
	}
	if code, _, err := call([]string{"HEDDLE_TOKEN=secret"}, "cluster", "status", "--engine", locked); code != 0 {
		t.Errorf("with a token: exit code %d, %s", code, err)
	}
	if code, _, err := call(nil, "cluster", "status", "--engine", "10.0.0.1:7400"); code != 1 || !strings.Contains(err, "is no URL") {
		t.Errorf("an address that is none: exit code %d, %s", code, err)
	}
	if code, _, err := call(nil, "cluster", "status", "--engine", "http://127.0.0.1:1"); code != 1 || !strings.Contains(err, "engine: http://127.0.0.1:1: ") {
		t.Errorf("nobody there: exit code %d, %s", code, err)
	}
}

// freeAddrs finds addresses on this machine.
func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

// until repeats a command until it says what is wanted.
func until(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	late := time.After(startLimit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		got, out, err := call(nil, args...)
		if got == code && strings.Contains(out+err, says) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%v: exit code %d, want %d and %q in:\n%s%s", args, got, code, says, out, err)
		}
	}
}

// Three processes are a cluster, with certificates: they begin it, go on when
// one is killed, take it back at another address, and say when too few are left.
func TestClusterOfProcesses(t *testing.T) {
	dsn, ca := pgtest.DSN(t), porttest.New(t)
	addrs := freeAddrs(t, 4)
	dirs, certs := make(map[string]string), make(map[string]porttest.Files)
	start := func(id, addr string) *server {
		if dirs[id] == "" {
			dirs[id], certs[id] = filepath.Join(t.TempDir(), id), ca.Issue(t, id, nil)
		}
		return launch(t, "serve", "--postgres", dsn, "--data-dir", dirs[id], "--node-id", id, "--listen", addr,
			"--peers", strings.Join(addrs[:2], ","), "--peers", addrs[2], "--cluster-expect", "3",
			"--tls-cert", certs[id].Cert, "--tls-key", certs[id].Key, "--tls-ca", certs[id].CA)
	}
	servers := map[string]*server{}
	for i, id := range []string{"a", "b", "c"} {
		servers[id] = start(id, addrs[i])
	}
	show := ca.Issue(t, "operator", nil)
	status := func(id string) []string {
		return []string{"cluster", "status", "--engine", "https://" + servers[id].addr, "--tls-ca", ca.File, "--tls-cert", show.Cert, "--tls-key", show.Key}
	}
	until(t, 0, "quorum 2 of 3 voters", status("a")...)
	leader := func(ask string) string {
		t.Helper()
		_, out, _ := call(nil, status(ask)...)
		_, rest, _ := strings.Cut(out, "leader ")
		id, _, _ := strings.Cut(rest, ",")
		return id
	}
	first := leader("a")
	if servers[first] == nil {
		t.Fatalf("%q leads", first)
	}

	servers[first].kill()
	var left string
	for id := range servers {
		if id != first {
			left = id
		}
	}
	until(t, 0, "away", status(left)...)
	if now := leader(left); now == first || servers[now] == nil {
		t.Errorf("%q leads after %q was killed", now, first)
	}
	c := DialTLS(t, servers[left].addr, ca.Client())
	worker := c.Work(2, map[string]Handler{"k": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport { return Succeed("") }})
	c.WantThrough(c.Put(Lone("k", "", nil))[0], succeeded)
	worker.Stop()

	servers[first] = start(first, addrs[3]) // at another address
	until(t, 0, addrs[3], status(left)...)
	for id := range servers {
		if id != left {
			servers[id].interrupt()
		}
	}
	until(t, 1, "no quorum: 1 of 3 voters answer", status(left)...)
	id := c.Put(Lone("k", "", nil))[0] // facts need no quorum
	if job := c.JobOf(id, 1); job.GetKind() != "k" {
		t.Errorf("read back: %v", job)
	}
	servers[left].interrupt()
}

// What does not fit a cluster is said before anything starts.
func TestClusterFlags(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	base := []string{"serve", "--postgres", "postgres://127.0.0.1/db", "--data-dir", dir}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--listen", "0.0.0.0:7400"}, `--listen: "0.0.0.0:7400" can be reached from other machines, and everybody there could read and change everything; set --tls-cert and --tls-key, or --allow-plaintext`},
		{[]string{"--cluster-expect", "3"}, "--cluster-expect: 3 nodes shall meet, but --peers is empty"},
		{[]string{"--peers", "127.0.0.1:7400", "--cluster-expect", "3"}, `--peers: "127.0.0.1:7400" is this node alone, but --cluster-expect is 3`},
		{[]string{"--peers", "b"}, "--peers: address b: missing port"},
		{[]string{"--raft-profile", "moon"}, `--raft-profile: raft profile "moon"`},
		{[]string{"--tls-cert", "cert"}, "--tls-cert:"},
		{[]string{"--tls-cert", key, "--tls-key", key, "--listen", "127.0.0.1:0"}, "TLS: certificate " + key},
	} {
		if code, _, err := call(nil, append(base[:len(base):len(base)], c.args...)...); code != 1 || !strings.Contains(err, c.says) {
			t.Errorf("%v: exit code %d, want %q in:\n%s", c.args, code, c.says, err)
		}
	}
}
