package raftsched

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// joiner asks for a place as a node of another process would.
func joiner(id string) JoinRequest {
	return JoinRequest{Member: fsm.Member{ID: id, RaftAddr: id + ":1", Features: fsm.Features()}}
}

// TestJoinRefusals: each names its reason and says what to do.
func TestJoinRefusals(t *testing.T) {
	three(t, func(t *testing.T, r *ring) {
		leader := r.lead()
		node, _ := leader.now()
		time.Sleep(2 * time.Second) // features are in use, records are known
		follower := r.others(leader)[0]
		with := func(id string, change func(*JoinRequest)) JoinRequest {
			req := joiner(id)
			change(&req)
			return req
		}
		for name, c := range map[string]struct {
			req  JoinRequest
			want error
			says string
		}{
			"foreign":  {with("x", func(r *JoinRequest) { r.Cluster = fsm.WorkflowID{1} }), ErrForeignCluster, "remove its data directory"},
			"features": {with("x", func(r *JoinRequest) { r.Member.Features = nil }), ErrFeatureLevel, "upgrade that node"},
			"removed":  {with("x", func(r *JoinRequest) { r.Cluster = node.Cluster() }), ErrRemoved, "remove its data directory"},
			"leader":   {joiner(leader.id), ErrIDTaken, "an id of its own"},
			"alive":    {with(follower.id, func(r *JoinRequest) { r.Member.RaftAddr = "elsewhere:1" }), ErrIDTaken, "an id of its own"},
			"no id":    {joiner(""), nil, "must have an id"},
		} {
			_, err := node.Join(context.Background(), c.req)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
		}
		other, _ := follower.now()
		if _, err := other.Join(context.Background(), joiner("x")); !errors.Is(err, ErrNotLeader) {
			t.Errorf("at a follower: %v", err)
		}
		if n := len(node.Status().Members); n != 3 {
			t.Errorf("%d members after refusals", n)
		}
		// One that is taken in and never speaks stays a non-voter.
		for range 2 {
			if id, err := node.Join(context.Background(), joiner("mute")); err != nil || id != node.Cluster() {
				t.Fatalf("%v %v", id, err)
			}
		}
		time.Sleep(10 * time.Second)
		for _, m := range node.Status().Members {
			if m.ID == "mute" && m.Voter {
				t.Error("a node that never answered votes")
			}
		}
		if err := node.Remove(context.Background(), "mute"); err != nil {
			t.Error(err)
		}
	})
}

// TestRemoveKeepsQuorum: no member is removed whose removal the others could not
// carry; a leader that removes itself is followed by another.
func TestRemoveKeepsQuorum(t *testing.T) {
	three(t, func(t *testing.T, r *ring) {
		leader := r.lead()
		node, _ := leader.now()
		others := r.others(leader)
		r.alone(others[0], true)
		time.Sleep(2 * time.Second)
		if err := node.Remove(context.Background(), others[1].id); !errors.Is(err, ErrUnsafe) {
			t.Errorf("the last follower that answers: %v", err)
		}
		if _, err := node.Transfer(context.Background(), others[0].id); err == nil {
			t.Error("transferred to a node that does not answer")
		}
		r.alone(others[0], false)
		r.await(10*time.Second, "it answers", func() bool { return node.alive(others[0].id) })
		if to, err := node.Transfer(context.Background(), others[0].id); err != nil || to != others[0].id {
			t.Fatalf("transfer to %s: %q, %v", others[0].id, to, err)
		}
		next := r.lead()
		if next != others[0] {
			t.Fatalf("%s leads", next.id)
		}
		nextNode, _ := next.now()
		if err := nextNode.Remove(context.Background(), next.id); err != nil {
			t.Fatal(err)
		}
		third, _ := r.lead(next).now()
		r.await(10*time.Second, "its record goes", func() bool {
			known := true
			third.replica.read(func(s *fsm.State) { _, known = s.Member(next.id) })
			return !known && len(third.Status().Members) == 2
		})
	})
}

// TestLostDisk: a voter that lost its data comes back fresh. It counts for no
// quorum before it has everything again.
func TestLostDisk(t *testing.T) {
	three(t, func(t *testing.T, r *ring) {
		leader := r.lead()
		node, _ := leader.now()
		k := leader.at().worker("p0")
		leader.at().submit(1)
		k.poll(1, time.Second)
		poor := r.others(leader)[0]
		poor.crash()
		time.Sleep(2 * time.Second)
		poor.shelf = newShelf()
		poor.start()
		fresh, _ := poor.now()
		nonvoter := false
		r.await(20*time.Second, "it votes again", func() bool {
			if server, ok := node.server(poor.id); !ok || server.Suffrage == raft.Nonvoter {
				nonvoter = true
			}
			return nonvoter && len(node.Status().Members) == 3 && node.Status().Quorum == 2 && poor.at().leases() == 1
		})
		if fresh.Cluster() != node.Cluster() {
			t.Error("another cluster")
		}
	})
}

// TestPromises: a fresh node is promised to one set at a time, in writing; only
// the founder of that set replaces it.
func TestPromises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 1, 1)
		defer r.close()
		r.lead()
		n := &ringNode{r: r, id: "m2", addr: "m2:1", peers: []string{"nowhere:1"}, shelf: newShelf()}
		n.expect = 2
		n.start()
		defer func() { n.shutdown() }()
		node, _ := n.now()
		ask := func(founder string, cluster byte, set ...string) bool {
			return node.Meet(Introduction{ID: founder, Address: founder + ":1", Fresh: true, Cluster: fsm.WorkflowID{cluster}}, set).Promised
		}
		for i, c := range []struct {
			founder string
			cluster byte
			set     []string
			want    bool
		}{
			{"m1", 0, []string{"m1", "m2"}, false},       // no cluster
			{"m1", 1, []string{"m1", "m3"}, false},       // not of it
			{"m1", 1, []string{"m1", "m2", "m3"}, false}, // it expects two
			{"m3", 1, []string{"m2", "m3"}, false},       // not the first
			{"m1", 1, []string{"m1", "m2"}, true},
			{"m1", 1, []string{"m2", "m1"}, true},
			{"m0", 2, []string{"m0", "m2"}, false}, // promised
			{"m1", 3, []string{"m1", "m2"}, true},  // its founder began anew
		} {
			if got := ask(c.founder, c.cluster, c.set...); got != c.want {
				t.Errorf("%d: %+v: %v", i, c, got)
			}
		}
		n.shutdown()
		n.start() // a promise outlives the process
		node, _ = n.now()
		if ask("m0", 2, "m0", "m2") {
			t.Error("promised twice")
		}
		if me := node.Meet(Introduction{ID: "m0"}, nil); !me.Fresh || me.Cluster != (fsm.WorkflowID{3}) {
			t.Errorf("introduces itself as %+v", me)
		}
		// The founder went another way, and says so.
		node.Meet(Introduction{ID: "m1", Cluster: fsm.WorkflowID{9}}, nil)
		if !ask("m0", 2, "m0", "m2") {
			t.Error("not released")
		}
	})
}

// TestOneNodeGrows: a data directory from before there were clusters goes on: its
// node has another name for its address then, and notes the real one.
func TestOneNodeGrows(t *testing.T) {
	s := newStreet(t)
	m := s.add("n1")
	start := func() {
		t.Helper()
		n, err := New(m.cfg, m.table, m.world)
		if err != nil {
			t.Fatal(err)
		}
		m.node = n
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.leader()
	}
	start()
	k := m.worker("p0")
	m.submit(1)
	g := k.poll(1, 5*time.Second)
	cluster := m.node.Cluster()
	if err := m.node.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	forgetKeys(t, filepath.Join(m.cfg.Dir, "raft.db"))
	s.open(m, listen(t), nil, 0)
	s.leader()
	s.await("its address", func() bool {
		members := m.node.Status().Members
		return len(members) == 1 && members[0].RaftAddr == m.addr
	})
	second := s.start("n2", []string{m.addr}, 0)
	s.await("n2 votes", func() bool { return len(s.voters(m.node)) == 2 })
	if second.node.Cluster() != cluster || m.node.Cluster() != cluster {
		t.Errorf("cluster %v became %v", cluster, second.node.Cluster())
	}
	if a := k.report(g[0], nil); a != Admitted {
		t.Errorf("I7: report after the restart: %v", a)
	}
}

// TestAllMove: every member comes back at another address, so that nobody could
// note a new one. They find each other by their lists of peers.
func TestAllMove(t *testing.T) {
	s := newStreet(t)
	nodes := s.trio()
	cluster := s.leader().node.Cluster()
	for _, m := range nodes {
		s.stop(m.cfg.ID)
	}
	var ls []tcp
	var addrs []string
	for range nodes {
		l := listen(t)
		ls, addrs = append(ls, l), append(addrs, l.Addr().String())
	}
	for i, m := range nodes {
		s.open(m, ls[i], addrs, 3)
	}
	leader := s.leader()
	if leader.node.Cluster() != cluster {
		t.Error("another cluster")
	}
	s.await("all addresses are noted", func() bool {
		for _, m := range s.leader().node.Status().Members { // another one may lead by now
			if m.RaftAddr != s.all[m.ID].addr {
				return false
			}
		}
		return true
	})
}

// TestForeignPeer: a peer of another cluster is named as what troubles a node.
func TestForeignPeer(t *testing.T) {
	s := newStreet(t)
	one := s.start("n1", nil, 0)
	s.leader()
	other := newStreet(t)
	other.town = s.town
	two := other.start("n1", []string{one.addr}, 1)
	other.await("it says that its id is taken", func() bool { return strings.Contains(two.node.Status().Trouble, ErrIDTaken.Error()) })
	if st := two.node.Status(); st.State != "waiting" {
		t.Errorf("begins a cluster: %+v", st)
	}
	third := newStreet(t)
	third.town = s.town
	three := third.start("n3", nil, 0)
	third.leader()
	third.stop("n3")
	third.open(three, listen(t), []string{one.addr}, 0)
	third.await("it says so", func() bool { return strings.Contains(three.node.Status().Trouble, ErrForeignCluster.Error()) })
	if !strings.Contains(three.node.Status().Trouble, "remove the data directory") {
		t.Errorf("trouble %q", three.node.Status().Trouble)
	}
}

// forgetKeys removes from a closed log what earlier versions did not keep.
func forgetKeys(t *testing.T, path string) {
	t.Helper()
	b, err := raftboltdb.NewBoltStore(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range [][]byte{keyNode, keyBond} {
		if err := b.Set(key, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRefusedConnections: who speaks of another cluster, or means another node,
// is not heard.
func TestRefusedConnections(t *testing.T) {
	mine := fsm.WorkflowID{1}
	w := newWire(Config{ID: "n1"}, func() fsm.WorkflowID { return mine }, &moves{})
	for _, c := range []struct {
		g    greeting
		says string
	}{
		{greeting{"n2", "n1", mine}, ""},
		{greeting{"n2", "n3", mine}, `meant for node "n3"`},
		{greeting{"n2", "n1", fsm.WorkflowID{2}}, "it speaks for cluster"},
		{greeting{"n2", "n1", fsm.WorkflowID{}}, "it speaks for cluster"},
	} {
		got, err := readGreeting(bytes.NewReader(c.g.encode()))
		if err != nil || got != c.g {
			t.Errorf("%+v read as %+v: %v", c.g, got, err)
		}
		err = w.refuse(got)
		if fmt.Sprint(err) == "" || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.g, err)
		}
	}
	mine = fsm.WorkflowID{}
	if err := w.refuse(greeting{"n2", "n1", mine}); err == nil {
		t.Error("a node without a cluster listens")
	}
	for _, b := range []string{"", "\x01", "\x02\x00\x20", "\x01\xff\xff", "\x01\x00\x02ab", "\x01\x00\x12" + strings.Repeat("\xff", 18)} {
		if g, err := readGreeting(strings.NewReader(b)); err == nil {
			t.Errorf("%q is read as %+v", b, g)
		}
	}
}

func TestBondCodec(t *testing.T) {
	for _, b := range []bond{{}, {cluster: fsm.WorkflowID{1}}, {cluster: fsm.WorkflowID{2}, founding: []string{"a", "", "long name"}}} {
		in := b.encode()
		got, err := decodeBond(in)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(b) {
			t.Errorf("%+v read as %+v: %v", b, got, err)
		}
		for i := range in {
			if _, err := decodeBond(in[:i]); err == nil {
				t.Errorf("%d of %d bytes are taken", i, len(in))
			}
		}
	}
}
