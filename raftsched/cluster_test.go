package raftsched

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// town is where nodes of a test find each other beside Raft, by address.
type town struct {
	mu    sync.Mutex
	nodes map[string]*Node
	// cut tells that a call from one address to another does not get through.
	cut func(from, to string) bool
}

var errCut = errors.New("cut off")

func newTown() *town { return &town{nodes: map[string]*Node{}} }

func (t *town) move(addr string, n *Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n == nil {
		delete(t.nodes, addr)
		return
	}
	t.nodes[addr] = n
}

func (t *town) call(ctx context.Context, from, to string) (*Node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[to]
	if n == nil || t.cut != nil && t.cut(from, to) {
		return nil, fmt.Errorf("%s: %w", to, errCut)
	}
	return n, ctx.Err()
}

// resident is a node's way to the others.
type resident struct {
	town *town
	addr string
}

func (r resident) Meet(ctx context.Context, addr string, from Introduction, founding []string) (Introduction, error) {
	n, err := r.town.call(ctx, r.addr, addr)
	if err != nil {
		return Introduction{}, err
	}
	return n.Meet(from, founding), nil
}

func (r resident) Join(ctx context.Context, addr string, req JoinRequest) (fsm.WorkflowID, error) {
	n, err := r.town.call(ctx, r.addr, addr)
	if err != nil {
		return fsm.WorkflowID{}, err
	}
	id, err := n.Join(ctx, req)
	if leader, known := n.LeaderHint(); errors.Is(err, ErrNotLeader) && known && leader.RaftAddr != addr {
		if n, err = r.town.call(ctx, r.addr, leader.RaftAddr); err == nil {
			id, err = n.Join(ctx, req)
		}
	}
	return id, err
}

// tcp is a Network on the loopback interface.
type tcp struct{ net.Listener }

func (tcp) Dial(_, addr string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", addr, timeout)
}

func listen(t *testing.T) tcp {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return tcp{l}
}

// member is one of several nodes over one table.
type member struct {
	*world
	addr string
}

// street has nodes on TCP, each with a directory, over one table.
type street struct {
	t     *testing.T
	town  *town
	table *table
	all   map[string]*member
	// timings, unless zero, are other ones than the default.
	timings RaftTimings
}

func newStreet(t *testing.T) *street {
	s := &street{t: t, town: newTown(), table: newTable(), all: map[string]*member{}}
	t.Cleanup(func() {
		for id := range s.all {
			s.stop(id)
		}
	})
	return s
}

// add a node that is not started.
func (s *street) add(id string) *member {
	w := &world{t: s.t, table: s.table, cfg: DefaultConfig(), fatal: make(chan error, 1), ends: make(chan []End, 100)}
	w.cfg.ID, w.cfg.Dir = id, s.t.TempDir()
	w.cfg.Raft = cmp.Or(s.timings, w.cfg.Raft)
	w.cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})).With("node", id)
	if testing.Verbose() {
		w.cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", id)
	}
	w.cfg.Fatal = func(err error) { w.fatal <- err }
	m := &member{world: w}
	s.all[id] = m
	return m
}

// start a node on a port of its own.
func (s *street) start(id string, peers []string, expect int) *member {
	s.t.Helper()
	m := s.all[id]
	if m == nil {
		m = s.add(id)
	}
	l := listen(s.t)
	s.open(m, l, peers, expect)
	return m
}

func (s *street) open(m *member, l tcp, peers []string, expect int) {
	s.t.Helper()
	m.addr = l.Addr().String()
	m.cfg.Network, m.cfg.Address, m.cfg.Peers = l, m.addr, resident{s.town, m.addr}
	m.cfg.APIAddr = "http://" + m.addr
	m.cfg.PeerAddrs, m.cfg.Expect = peers, expect
	n, err := New(m.cfg, m.table, m.world)
	if err != nil {
		s.t.Fatal(err)
	}
	m.node = n
	if err := n.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.town.move(m.addr, n)
}

// trio starts n1 to n3 together.
func (s *street) trio() []*member {
	s.t.Helper()
	var ls []tcp
	var addrs []string
	for range 3 {
		l := listen(s.t)
		ls, addrs = append(ls, l), append(addrs, l.Addr().String())
	}
	var out []*member
	for i, l := range ls {
		m := s.add(fmt.Sprint("n", i+1))
		s.open(m, l, addrs, 3)
		out = append(out, m)
	}
	return out
}

func (s *street) stop(id string) {
	s.t.Helper()
	m := s.all[id]
	if m.node == nil {
		return
	}
	s.town.move(m.addr, nil)
	if err := m.node.Stop(context.Background()); err != nil {
		s.t.Error(err)
	}
	m.node = nil
}

// await a condition of real nodes.
func (s *street) await(what string, f func() bool) {
	s.t.Helper()
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !f() {
		select {
		case <-look.C:
		case <-late.C:
			for id, m := range s.all {
				if m.node != nil {
					s.t.Logf("%s: %+v", id, m.node.Status())
				}
			}
			s.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// leader that dispatches, awaited.
func (s *street) leader() *member {
	s.t.Helper()
	var found *member
	s.await("leader", func() bool {
		for _, m := range s.all {
			if m.node != nil && m.node.Ready() {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func (s *street) voters(n *Node) (ids []string) {
	for _, m := range n.Status().Members {
		if m.Voter {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// TestThreeNodesBegin: three fresh nodes begin one cluster, know each other's
// records and their leader, and run a job.
func TestThreeNodesBegin(t *testing.T) {
	s := newStreet(t)
	nodes := s.trio()
	leader := s.leader()
	for _, m := range nodes {
		s.await("all know the leader", func() bool {
			hint, known := m.node.LeaderHint()
			return known && hint.ID == leader.cfg.ID && hint.APIAddr == leader.cfg.APIAddr
		})
		s.await("records of all", func() bool {
			st := m.node.Status()
			for _, mm := range st.Members {
				if mm.APIAddr == "" || !mm.Voter {
					return false
				}
			}
			return len(st.Members) == 3 && st.Quorum == 2 && st.Cluster == leader.node.Cluster() && st.Features[fsm.FeatureCheck] == 1
		})
	}
	k := leader.worker("p1")
	leader.submit(1)
	g := k.poll(1, 5*time.Second)
	if len(g) != 1 || k.report(g[0], nil) != Admitted {
		t.Fatalf("granted %+v", g)
	}
	for _, m := range nodes {
		s.await("nothing leased", func() bool { return m.leases() == 0 && m.node.Status().AppliedIndex > 3 })
	}
}

// TestJoinAndLeave: a cluster of one grows to three by joining, a member comes
// back with another address, and one is removed for good.
func TestJoinAndLeave(t *testing.T) {
	s := newStreet(t)
	first := s.start("n1", nil, 0)
	s.leader()
	cluster := first.node.Cluster()
	s.start("n2", []string{first.addr}, 0)
	s.await("n2 votes", func() bool { return len(s.voters(first.node)) == 2 })
	s.start("n3", []string{s.all["n2"].addr}, 0)
	s.await("n3 votes", func() bool { return len(s.voters(first.node)) == 3 })
	s.stop("n3")
	third := s.start("n3", []string{s.all["n2"].addr}, 0)
	s.await("n3 has its new address", func() bool {
		for _, m := range first.node.Status().Members {
			if m.ID == "n3" && m.RaftAddr == third.addr && m.APIAddr == third.cfg.APIAddr {
				return true
			}
		}
		return false
	})
	s.await("n3 knows the leader", func() bool { _, known := third.node.LeaderHint(); return known })
	if id := third.node.Cluster(); id != cluster {
		t.Errorf("cluster %v of n3, %v of n1", id, cluster)
	}
	if err := first.node.Remove(context.Background(), "n3"); err != nil {
		t.Fatal(err)
	}
	if got := s.voters(first.node); strings.Join(got, " ") != "n1 n2" {
		t.Errorf("voters %v", got)
	}
	s.await("n3 says that it was removed", func() bool { return strings.Contains(third.node.Status().Trouble, ErrRemoved.Error()) })
	if err := first.node.Remove(context.Background(), "n3"); !errors.Is(err, ErrNoMember) {
		t.Errorf("removed twice: %v", err)
	}
	if err := s.all["n2"].node.Remove(context.Background(), "n1"); !errors.Is(err, ErrNotLeader) {
		t.Errorf("removed by a follower: %v", err)
	}
}

// TestStopHandsOver: a leader that stops hands over first. The others see no
// more than a blink without a leader that dispatches.
func TestStopHandsOver(t *testing.T) {
	s := newStreet(t)
	s.trio()
	for range 3 {
		leader := s.leader()
		k := leader.worker("p1")
		leader.submit(1)
		g := k.poll(1, 5*time.Second)
		s.await("followers follow", func() bool {
			for _, m := range leader.node.Status().Members {
				if m.LastContact < 0 || m.LastContact > 200*time.Millisecond {
					return false
				}
			}
			return true
		})
		begun := time.Now()
		s.stop(leader.cfg.ID)
		stopped := time.Since(begun)
		next := s.leader()
		gap := time.Since(begun)
		t.Logf("stopped after %v, another leader dispatches after %v", stopped, gap)
		if gap > 2*time.Second {
			t.Errorf("no leader for %v", gap)
		}
		k.w = next.world
		if c := k.mustBeat(); len(c.Lost) != 0 {
			t.Errorf("I7: %+v", c)
		}
		if a := k.report(g[0], nil); a != Admitted {
			t.Errorf("I7: report at the next leader: %v", a)
		}
		s.table.set(func() { clear(s.table.ended) })
		s.open(leader, listen(t), []string{next.addr}, 0)
		s.await("it is back", func() bool { _, known := leader.node.LeaderHint(); return known })
	}
}
