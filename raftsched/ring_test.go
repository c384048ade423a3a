package raftsched

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

var (
	ringSeed   = flag.Uint64("ring.seed", 0, "seed of the ring's faults; 0: by the clock")
	ringFaults = flag.Int("ring.faults", 150, "faults of each ring")
	ringLog    = flag.Bool("ring.log", false, "log what the ring does")
)

// ring has nodes, workers and a database in one bubble, and breaks what is
// between them.
type ring struct {
	t     *testing.T
	seed  uint64
	net   *simnet
	town  *town
	db    *database
	nodes []*ringNode
	begun time.Time

	oracle  *ringOracle
	workers []*ringWorker
	over    chan struct{} // closed when the workers shall end
	calm    atomic.Bool   // no messages are lost any more
	settled bool          // all has come to rest: no lease is left
	wg      sync.WaitGroup

	mu     sync.Mutex
	rand   *rand.Rand
	jobs   int32
	faults int
}

// ringNode is a node through all its lives.
type ringNode struct {
	r     *ring
	id    string
	addr  string
	peers []string
	// expect, unless 0, is another number of nodes than of its peers.
	expect int
	shelf  *shelf

	mu      sync.Mutex
	node    *Node
	process *process
	lives   int
}

func newRing(t *testing.T, size int, seed uint64) *ring {
	r := &ring{
		t: t, seed: seed, net: newSimnet(), town: newTown(), db: newDatabase(), over: make(chan struct{}), begun: time.Now(),
		rand: rand.New(rand.NewPCG(seed, uint64(size))),
	}
	r.oracle = newRingOracle(r)
	r.town.cut = func(from, to string) bool { return r.net.isCut(from, to) || r.net.isCut(to, from) }
	var addrs []string
	for i := range size {
		addrs = append(addrs, fmt.Sprintf("n%d:1", i+1))
	}
	for i, addr := range addrs {
		n := &ringNode{r: r, id: fmt.Sprint("n", i+1), addr: addr, peers: addrs, shelf: newShelf()}
		r.nodes = append(r.nodes, n)
		n.start()
	}
	return r
}

// random numbers are drawn under a lock; their order, and with it the run, is
// the bubble's.
func (r *ring) intn(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rand.IntN(n)
}

func (r *ring) chance(percent int) bool { return r.intn(100) < percent }

func (r *ring) between(low, high time.Duration) time.Duration {
	return low + time.Duration(r.intn(int((high-low)/time.Millisecond)+1))*time.Millisecond
}

func (r *ring) logf(format string, args ...any) {
	if *ringLog {
		fmt.Fprintf(os.Stderr, "%10.3f %s\n", time.Since(r.begun).Seconds(), fmt.Sprintf(format, args...))
	}
}

// ringTTL is short, that sessions are lost now and then.
const ringTTL = 3 * time.Second

func (n *ringNode) start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lives++
	p := &process{}
	cfg := DefaultConfig()
	cfg.ID, cfg.Ephemeral = n.id, true
	cfg.Network, cfg.Address, cfg.Peers = n.r.net.listen(n.addr), n.addr, gatedPeers{resident{n.r.town, n.addr}, p}
	cfg.PeerAddrs, cfg.Expect = n.peers, cmp.Or(n.expect, len(n.peers))
	cfg.APIAddr = "http://" + n.addr
	cfg.SessionTTL = ringTTL
	life := fmt.Sprintf("%s.%d", n.id, n.lives)
	cfg.Fatal = func(err error) {
		p.mu.Lock()
		dead := p.dead
		p.mu.Unlock()
		if !dead {
			n.r.oracle.violate("node %s stopped itself: %v", life, err)
		}
	}
	if *ringLog {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				a.Value = slog.StringValue(fmt.Sprintf("%.3f", time.Since(n.r.begun).Seconds()))
			}
			return a
		}})).With("node", life)
	}
	sink := &ringSink{r: n.r, p: p}
	node, err := New(cfg, ringStore{n.r.db, p}, sink)
	if err != nil {
		n.r.t.Fatal(err)
	}
	sink.node = node
	node.open = func(Config) (*disk, error) {
		stores := gatedStores{n.shelf.mem, p}
		return &disk{log: stores, stable: stores, snapshots: n.shelf.snapshots, close: func() error { return nil }}, nil
	}
	node.replica.applied = func(index uint64, s *fsm.State) { n.r.oracle.applied(life, index, s) }
	n.node, n.process = node, p
	if err := node.Start(context.Background()); err != nil {
		n.r.t.Fatal(err)
	}
	n.r.town.move(n.addr, node)
}

func (n *ringNode) now() (*Node, *process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.node, n.process
}

// crash ends the process as kill -9 does: what it had not stored is gone.
func (n *ringNode) crash() {
	node, p := n.now()
	p.kill()
	n.r.town.move(n.addr, nil)
	n.r.net.kill(n.addr)
	_ = node.cfg.Network.Close()
	n.r.wg.Go(func() { _ = node.Stop(context.Background()) })
}

// shutdown is a graceful stop.
func (n *ringNode) shutdown() {
	node, _ := n.now()
	n.r.town.move(n.addr, nil)
	if err := node.Stop(context.Background()); err != nil {
		n.r.t.Errorf("stop %s: %v", n.id, err)
	}
}

// gatedPeers hold while the process is paused.
type gatedPeers struct {
	Peers
	p *process
}

func (g gatedPeers) Meet(ctx context.Context, addr string, from Introduction, founding []string) (Introduction, error) {
	if err := g.p.gate(); err != nil {
		return Introduction{}, err
	}
	return g.Peers.Meet(ctx, addr, from, founding)
}

// ringSink writes the ends that the scheduler finds.
type ringSink struct {
	r    *ring
	p    *process
	node *Node
}

func (s *ringSink) End(ends []End) {
	epoch, _ := s.node.Leader()
	d := Done{Mark: s.node.Begin()}
	for _, e := range ends {
		s.r.oracle.lost(e)
		for {
			row, ok, err := s.r.write(s.p, epoch, e.Lease, "scheduler", func(row *dispatch.Row) bool {
				row.Attempt++
				row.Losses++
				row.RunAt = dbNow()
				return false
			})
			if errors.Is(err, ErrFenced) || errors.Is(err, errDead) {
				s.node.End(d.Mark)
				return
			}
			if now, _ := s.node.Leader(); err != nil && now != epoch {
				s.node.End(d.Mark) // the next leader sees to it
				return
			}
			if err != nil {
				time.Sleep(200 * time.Millisecond)
				continue
			}
			if ok {
				s.r.oracle.charged(e.Lease)
			}
			if row != nil {
				d.Ready = append(d.Ready, *row)
			}
			break
		}
		d.Ended = append(d.Ended, e.Lease)
	}
	s.node.Done(d)
}

// write through a process: it may stand still between its check and its
// commit, and lose the connection at the commit.
func (r *ring) write(p *process, epoch uint64, l fsm.Lease, by string, end func(*dispatch.Row) bool) (*dispatch.Row, bool, error) {
	if err := p.reach(); err != nil {
		return nil, false, err
	}
	doubt := r.chance(3)
	row, ok, err := r.db.write(epoch, l, by, r.holdUp(p), end)
	if err == nil && doubt {
		return nil, false, errDoubt
	}
	if gone := p.gate(); gone != nil {
		return nil, false, gone
	}
	return row, ok, err
}

// holdUp a transaction between its check and its commit.
func (r *ring) holdUp(p *process) func() error {
	return func() error {
		if r.chance(15) {
			time.Sleep(r.between(0, 400*time.Millisecond)) // it waits for a lock
		} else {
			time.Sleep(r.between(0, 3*time.Millisecond))
		}
		return p.gate()
	}
}

// cancel a job at the leader, as its engine carries out commands: one that is
// leased is left to its holder, one whose commit is in doubt ends the reign.
func (r *ring) cancel(job fsm.JobID) {
	n := r.leader()
	if n == nil {
		return
	}
	node, p := n.now()
	ctx, stop := context.WithTimeout(context.Background(), 3*time.Second)
	defer stop()
	epoch, _ := node.Leader()
	release, leased, err := node.HoldJob(ctx, job)
	defer release()
	if err != nil || len(leased) > 0 || p.reach() != nil {
		return
	}
	mark := node.Begin()
	gone, err := r.db.cancel(epoch, job, r.holdUp(p))
	if err == nil && p.gate() != nil || err != nil {
		node.End(mark)
		node.Fenced(epoch)
		if err != nil {
			return
		}
	}
	if len(gone) > 0 {
		r.oracle.cancelled(job)
	}
	node.Done(Done{Gone: gone, Mark: mark})
}

// leader that dispatches, if there is one.
func (r *ring) leader() *ringNode {
	for _, n := range r.nodes {
		if node, p := n.now(); node.Ready() && p.gate() == nil {
			return n
		}
	}
	return nil
}

// submit a job and hint somewhere, or nowhere.
func (r *ring) submit() fsm.JobID {
	r.mu.Lock()
	r.jobs++
	number := r.jobs
	r.mu.Unlock()
	row := r.db.insert(number)
	if !r.chance(20) {
		node, p := r.nodes[r.intn(len(r.nodes))].now()
		p.mu.Lock()
		up := p.paused == nil && !p.dead
		p.mu.Unlock()
		if up {
			node.Hint([]dispatch.LanePriority{streamOf(&row)})
		}
	}
	return row.Job
}

// TestRing: partitions, pauses, crashes and lost messages, for hours of the
// bubble's time. What the nodes, the workers and the database saw must obey the
// invariants. Another run: -ring.seed, a longer one: -ring.faults.
func TestRing(t *testing.T) {
	for _, size := range []int{3, 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			seed := *ringSeed
			if seed == 0 {
				seed = uint64(time.Now().UnixNano())
			}
			real := time.Now()
			var virtual time.Duration
			var did string
			synctest.Test(t, func(t *testing.T) {
				r := newRing(t, size, seed)
				r.run(*ringFaults)
				virtual, did = time.Since(r.begun), r.oracle.summary()
			})
			t.Logf("seed %d: %d faults, %v of the bubble in %v: %s", seed, *ringFaults, virtual.Round(time.Second), time.Since(real).Round(time.Millisecond), did)
			if t.Failed() {
				t.Logf("again: go test ./raftsched -run TestRing/%d -ring.seed=%d -ring.faults=%d", size, seed, *ringFaults)
			}
		})
	}
}

// run faults, then let all come to rest and look whether all is well.
func (r *ring) run(faults int) {
	for i := range 3 {
		w := newRingWorker(r, fmt.Sprint("w", i+1))
		r.workers = append(r.workers, w)
		w.start()
	}
	submitting := make(chan struct{})
	r.wg.Go(func() {
		for {
			select {
			case <-submitting:
				return
			case <-time.After(r.between(10*time.Millisecond, 150*time.Millisecond)):
			}
			job := r.submit()
			if r.chance(25) {
				r.wg.Go(func() {
					time.Sleep(r.between(0, 400*time.Millisecond))
					r.cancel(job)
				})
			}
		}
	})
	for r.faults = 0; r.faults < faults && !r.oracle.failed(); r.faults++ {
		if r.chance(20) {
			// Two at once. One of them is of the network, so that they do not
			// restart the same node.
			r.wg.Go(func() { r.oneWay(r.between(30*time.Millisecond, 1200*time.Millisecond)) })
			time.Sleep(r.between(0, 300*time.Millisecond))
		}
		r.fault()
	}
	close(submitting)
	r.heal()
	r.rest()
	close(r.over)
	for _, n := range r.nodes {
		n.shutdown()
	}
	r.wg.Wait()
	r.oracle.end()
}

// rest waits until everything has ended (I12), then sees that a job nobody
// told of starts in time (I10).
func (r *ring) rest() {
	r.await(60*time.Second, "I12: all jobs end", func() bool {
		left := 0
		r.db.set(func() { left = len(r.db.rows) })
		return left == 0 || r.oracle.failed()
	})
	r.calm.Store(true)
	for range 3 {
		r.await(10*time.Second, "a leader that dispatches", func() bool { return r.leader() != nil })
		time.Sleep(5 * time.Second) // the workers have found it
		r.mu.Lock()
		r.jobs++
		number := r.jobs
		r.mu.Unlock()
		row := r.db.insert(number)
		begun := time.Now()
		r.await(30*time.Second, "the job starts", func() bool { return r.oracle.started(row.Job) })
		if late := time.Since(begun); late > 2100*time.Millisecond {
			r.oracle.violate("I10: %v started %v after it was there", row.Job, late)
		}
	}
	r.await(30*time.Second, "leases are released", func() bool {
		n := r.leader()
		if n == nil {
			return false
		}
		node, _ := n.now()
		left := 0
		node.replica.read(func(s *fsm.State) { left = s.Len() })
		r.settled = left == 0
		return r.settled
	})
}

func (r *ring) await(within time.Duration, what string, f func() bool) {
	deadline := time.Now().Add(within)
	for !f() {
		if r.oracle.failed() {
			return
		}
		if time.Now().After(deadline) {
			for _, n := range r.nodes {
				node, _ := n.now()
				r.t.Logf("%s: %+v", n.id, node.Status())
			}
			r.oracle.violate("not within %v: %s", within, what)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
