package engine

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	. "github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/internal/pgtest"
	"github.com/heddle-io/heddle/raftsched"
)

// ring is a cluster of engines in this process, each at an address of its own.
type ring struct {
	t       *testing.T
	dsn     string
	configs map[string]Config
	engines map[string]*Engine
	addrs   []string
}

// freeAddrs finds addresses on this machine. Another process may take one
// before it is used; then the test fails at Listen and says so.
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

// steady keeps the leader where it is, also on a busy machine.
func steady(c *Config) { c.RaftProfile = "wan" }

// newRing prepares a cluster of the nodes given; start starts them.
func newRing(t *testing.T, change func(*Config), ids ...string) *ring {
	t.Helper()
	r := &ring{t: t, dsn: pgtest.DSN(t), configs: make(map[string]Config), engines: make(map[string]*Engine), addrs: freeAddrs(t, len(ids))}
	for i, id := range ids {
		c := r.config(id, r.addrs[i])
		c.ClusterExpect = len(ids)
		if change != nil {
			change(&c)
		}
		r.configs[id] = c
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return r
}

func (r *ring) config(id, addr string) Config {
	c := testConfig(r.t, r.dsn)
	c.NodeID, c.Listen, c.Peers = id, addr, r.addrs
	c.Logger = slog.New(slog.NewTextHandler(testWriter{r.t}, &slog.HandlerOptions{Level: slog.LevelInfo})).With("on", id)
	return c
}

func (r *ring) start(ids ...string) {
	r.t.Helper()
	for _, id := range ids {
		r.engines[id] = startEngine(r.t, r.configs[id])
	}
}

func (r *ring) stop(id string) {
	r.t.Helper()
	stopEngine(r.t, r.engines[id])
	delete(r.engines, id)
}

// limit is far beyond what anything takes on a busy machine.
const limit = time.Minute

// eventually polls a condition that other goroutines and nodes bring about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	late := time.After(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// leader waits until a node leads and every other one knows it.
func (r *ring) leader() string {
	r.t.Helper()
	var id string
	eventually(r.t, "one node leads and the others know it", func() bool {
		id = ""
		for _, e := range r.engines {
			hint, known := e.node.LeaderHint()
			if !known || id != "" && id != hint.ID || r.engines[hint.ID] == nil {
				return false
			}
			id = hint.ID
		}
		return r.engines[id].node.Ready()
	})
	return id
}

func (r *ring) follower() string {
	r.t.Helper()
	leader := r.leader()
	for id := range r.engines {
		if id != leader {
			return id
		}
	}
	r.t.Fatal("no follower is left")
	return ""
}

// status asks a node for the whole cluster.
func (r *ring) status(id string) *heddlev1.ClusterServiceStatusResponse {
	r.t.Helper()
	c := r.engines[id].cluster.Status(r.t.Context())
	return c
}

// voters waits until exactly these nodes are voters, as the leader sees it.
func (r *ring) voters(ids ...string) {
	r.t.Helper()
	slices.Sort(ids)
	eventually(r.t, "the voters are as wanted", func() bool {
		var got []string
		for _, m := range r.engines[r.leader()].node.Status().Members {
			if m.Voter {
				got = append(got, m.ID)
			}
		}
		slices.Sort(got)
		return slices.Equal(got, ids)
	})
}

// known waits until the leader has these nodes' addresses, and nothing else.
func (r *ring) known(ids ...string) {
	r.t.Helper()
	eventually(r.t, "the members are known", func() bool {
		members := r.engines[r.leader()].node.Status().Members
		for _, m := range members {
			if e := r.engines[m.ID]; e == nil || m.RaftAddr != e.Addr() || m.APIAddr != e.URL() {
				return false
			}
		}
		return len(members) == len(ids)
	})
}

// admin is the ClusterService of a node.
func (r *ring) admin(id string) heddlev1connect.ClusterServiceClient {
	return heddlev1connect.NewClusterServiceClient(http.DefaultClient, "http://"+r.engines[id].Addr())
}

// Three nodes begin a cluster; jobs that are submitted to any of them run, and
// go on running when the leader stops; who comes back finds its place, also at
// another address.
func TestThreeNodes(t *testing.T) {
	r := newRing(t, steady, "a", "b", "c")
	r.start("a", "b", "c")
	first := r.leader()
	r.voters("a", "b", "c")

	clients := make(map[string]*Client)
	for id, e := range r.engines {
		clients[id] = Dial(t, e.Addr())
	}
	worker := clients[first].Work(4, map[string]Handler{"k": ok})
	// The leader last: it does not know yet of a kind that another node met first.
	for _, id := range []string{r.follower(), first} {
		clients[id].WantThrough(clients[id].Put(Lone("k", "", nil))[0], heddlev1.State_STATE_SUCCEEDED)
	}
	worker.Stop()
	r.known("a", "b", "c")

	follower := r.follower()
	var s *heddlev1.ClusterServiceStatusResponse
	eventually(t, "all members are well", func() bool {
		s = r.status(follower)
		return len(s.GetMembers()) == 3 && !slices.ContainsFunc(s.GetMembers(), func(m *heddlev1.Member) bool {
			return m.GetTrouble() != "" || m.GetState() == "" || m.GetApi() == "" || m.GetLastContact() == nil
		})
	})
	if s.GetNode() != follower || s.GetLeader() != first || !s.GetDispatching() || s.GetQuorum() != 2 || s.GetClusterId() == "" || s.GetEpoch() == 0 {
		t.Errorf("status: %v", s)
	}
	for _, m := range s.GetMembers() {
		if m.GetSuffrage() != heddlev1.Suffrage_SUFFRAGE_VOTER || m.GetApi() != "http://"+m.GetAddress() ||
			m.GetLeader() != (m.GetId() == first) {
			t.Errorf("member: %v", m)
		}
	}

	r.stop(first)
	second := r.leader()
	for _, m := range r.status(second).GetMembers() {
		if m.GetId() == first && (m.GetState() != "" || !strings.Contains(m.GetTrouble(), "no answer")) {
			t.Errorf("a stopped member: %v", m)
		}
	}
	if second == first {
		t.Fatal("a stopped node leads")
	}
	c := clients[second]
	w := c.Work(4, map[string]Handler{"k": ok})
	c.WantThrough(c.Put(Lone("k", "", nil))[0], heddlev1.State_STATE_SUCCEEDED)
	w.Stop()

	// It comes back at another address.
	config := r.configs[first]
	config.Listen = freeAddrs(t, 1)[0]
	r.configs[first] = config
	r.start(first)
	r.known("a", "b", "c")
	r.voters("a", "b", "c")
}

// A fourth node joins through any member, counts once it has caught up, and is
// removed; removed, it is refused.
func TestJoinAndRemove(t *testing.T) {
	r := newRing(t, steady, "a", "b", "c")
	r.start("a", "b", "c")
	through := r.follower()
	d := r.config("d", "127.0.0.1:0")
	steady(&d)
	d.Peers = []string{r.engines[through].Addr()}
	r.configs["d"] = d
	r.start("d")
	r.voters("a", "b", "c", "d")

	// A node that does not lead passes a request on.
	r.known("a", "b", "c", "d")
	joined, err := r.engines["d"].cluster.peers.Join(t.Context(), r.engines[r.follower()].Addr(), raftsched.JoinRequest{
		Member: memberIn(r.status("d").GetMembers()[3]), Cluster: r.engines["d"].node.Cluster(),
	})
	if err != nil || joined != r.engines["d"].node.Cluster() {
		t.Errorf("joined %v through a follower: %v", joined, err)
	}

	leader := r.leader()
	if _, err := r.admin(leader).Remove(t.Context(), connect.NewRequest(&heddlev1.ClusterServiceRemoveRequest{Id: "nobody"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("removal of nobody: %v", err)
	}
	if leader == "d" {
		if _, err := r.admin(leader).Transfer(t.Context(), connect.NewRequest(&heddlev1.ClusterServiceTransferRequest{To: "a"})); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a leads", func() bool { return r.leader() == "a" })
		leader = "a"
	}
	if _, err := r.admin(leader).Remove(t.Context(), connect.NewRequest(&heddlev1.ClusterServiceRemoveRequest{Id: "d"})); err != nil {
		t.Fatal(err)
	}
	r.stop("d")
	r.voters("a", "b", "c")
	r.start("d")
	eventually(t, "the removed node says that it is", func() bool {
		return strings.Contains(r.engines["d"].cluster.Here().GetTrouble(), "removed")
	})
	r.stop("d")
}

// A node that was alone, even without an address, takes others in; after that it
// needs its address.
func TestGrowsFromOne(t *testing.T) {
	r := newRing(t, nil, "a", "b")
	a := r.configs["a"]
	alone := a
	alone.Listen, alone.Peers, alone.ClusterExpect = "", nil, 0
	r.configs["a"] = alone
	r.start("a")
	r.stop("a")

	a.Peers, a.ClusterExpect = nil, 0 // as it was, but for its address
	r.configs["a"] = a
	r.start("a")
	b := r.configs["b"]
	b.Peers, b.ClusterExpect = r.addrs[:1], 0
	r.configs["b"] = b
	r.start("b")
	r.voters("a", "b")
	r.known("a", "b")
	r.stop("b")
	r.stop("a")

	e, err := New(alone)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := e.Start(ctx); err == nil || !strings.Contains(err.Error(), `member of the cluster of ["a" "b"]`) {
		t.Errorf("a member without an address starts: %v", err)
	}
}

// The leadership is handed to whom the operator names.
func TestTransfer(t *testing.T) {
	r := newRing(t, steady, "a", "b", "c")
	r.start("a", "b", "c")
	r.voters("a", "b", "c")
	from, to := r.leader(), r.follower()
	res, err := r.admin(from).Transfer(t.Context(), connect.NewRequest(&heddlev1.ClusterServiceTransferRequest{To: to}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Msg.GetLeader() != to {
		t.Errorf("%q leads, they say, not %q", res.Msg.GetLeader(), to)
	}
	eventually(t, to+" leads", func() bool { return r.leader() == to })
	if _, err := r.admin(to).Transfer(t.Context(), connect.NewRequest(&heddlev1.ClusterServiceTransferRequest{To: to})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("transfer to itself: %v", err)
	}
}
