package raftsched

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Node is one engine node's part of the scheduler. Its methods may be called
// from any goroutine, at any time between Start and Stop and around them.
type Node struct {
	cfg   Config
	store Store
	sink  Sink

	disk      *disk
	raft      *raft.Raft
	closeWire func() error
	replica   replica

	stop   context.CancelFunc
	done   chan struct{} // closed when the leadership goroutine has ended
	reigns uint64        // begun so far; names marks

	reign atomic.Pointer[reign] // the current one, nil when none

	// Entries fail to be stored, or to commit although this node leads.
	health       sync.Mutex
	failure      error // the first one
	failingSince time.Time
	failedAt     time.Time // the last one

	failOnce sync.Once
	dead     chan struct{} // closed by fail
	started  chan struct{} // closed when Start has set raft, or failed
	shutdown func() raft.Future
	stopOnce sync.Once
	stopErr  error

	// Tests put themselves between here.
	open       func(Config) (*disk, error)
	leadership func(*raft.Raft) <-chan bool
}

// New makes a node that does nothing before Start.
func New(cfg Config, store Store, sink Sink) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("scheduler configuration: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		cfg: cfg, store: store, sink: sink, open: openDisk, leadership: (*raft.Raft).LeaderCh,
		done: make(chan struct{}), dead: make(chan struct{}), started: make(chan struct{}),
	}
	n.replica.state = fsm.New()
	n.replica.halted = func(err error) { n.fail(fmt.Errorf("replicated state: %w", err)) }
	return n, nil
}

// Start opens the log and joins the cluster. It returns before there is a
// leader. ctx bounds the start only. It must be called once at most.
func (n *Node) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer close(n.started)
	d, err := n.open(n.cfg)
	if err != nil {
		return err
	}
	addr, transport, closeWire := openTransport(n.cfg)
	r, err := openRaft(n.cfg, &n.replica, d, addr, transport, diskWatch{stored: n.storedLog, broken: n.fail})
	if err != nil {
		return errors.Join(err, closeWire(), d.close())
	}
	n.disk, n.raft, n.closeWire = d, r, closeWire
	n.shutdown = sync.OnceValue(r.Shutdown)
	run, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() {
		defer close(n.done)
		n.follow(run)
	}()
	return nil
}

// Stop ends the reign, waits for the engine's work, and closes the log. The
// node stays a member; its leases stay valid. It cannot be started again. When
// ctx ends first, Stop returns its error and goes on in the background.
func (n *Node) Stop(ctx context.Context) error {
	if n.raft == nil {
		return nil
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		n.stopOnce.Do(func() {
			n.stop()
			<-n.done
			n.stopErr = errors.Join(n.shutdown().Error(), n.closeWire(), n.disk.close())
		})
	}()
	select {
	case <-closed:
		return n.stopErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fail stops the Raft node for good and tells the owner.
func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.cfg.Logger.Error("scheduler stopped", "error", err)
		close(n.dead)
		go func() {
			<-n.started
			if n.shutdown != nil {
				n.shutdown() // not awaited: its disk may hang
			}
			if n.cfg.Fatal != nil {
				n.cfg.Fatal(err) // may call Stop
			}
		}()
	})
}

// outcome follows the log's health from the outcomes of entries. On a full or
// broken disk the first entry fails and Raft steps down; from then on it is
// elected again and again without coming to commit anything.
func (n *Node) outcome(err error) {
	now := time.Now()
	soft := errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrNotLeader) ||
		errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrRaftShutdown)
	n.health.Lock()
	if err == nil || now.Sub(n.failedAt) > n.cfg.CommitStall {
		n.failure = nil // after so long, others have led meanwhile
	}
	if err == nil || soft && n.failure == nil {
		n.health.Unlock()
		return
	}
	if n.failure == nil {
		n.failure, n.failingSince = err, now
	}
	n.failedAt = now
	first, lasts := n.failure, now.Sub(n.failingSince)
	n.health.Unlock()
	if lasts >= n.cfg.CommitStall {
		n.fail(fmt.Errorf("cannot commit for %v: %w", n.cfg.CommitStall, first))
	}
}

// storedLog follows the same from what Raft stores, also for itself.
func (n *Node) storedLog(err error) {
	if err != nil {
		err = fmt.Errorf("store the log: %w", err)
	}
	n.outcome(err)
}

var (
	errStopped = errors.New("node stops")
	errDeposed = errors.New("leadership lost")
)

// follow watches the leadership. One reign ends entirely before the next one
// begins; true after true means that it was lost and regained in between.
func (n *Node) follow(ctx context.Context) {
	changes := n.leadership(n.raft)
	leading := false
	failures := 0
	for {
		if !leading {
			select {
			case leading = <-changes:
			case <-n.dead:
				<-ctx.Done()
				return
			case <-ctx.Done():
				return
			}
			continue
		}
		r := n.newReign(ctx)
		ended := make(chan error, 1)
		go func() { ended <- r.run() }()
		var err error
		select {
		case leading = <-changes:
			r.end(errDeposed)
			err = <-ended
		case <-n.dead:
			r.end(errStopped)
			<-ended
			leading = false
			continue
		case <-ctx.Done():
			r.end(errStopped)
			<-ended
			return
		case err = <-ended:
		}
		if r.dispatched {
			failures = 0
		}
		n.cfg.Logger.Info("reign ended", "epoch", r.epoch.Load(), "reason", err)
		if !leading {
			continue
		}
		failures++
		n.yield()
		pause := time.NewTimer(backoff(failures, 20*time.Millisecond, 2*time.Second))
		select {
		case leading = <-changes:
		case <-pause.C:
			leading = n.raft.State() == raft.Leader
		case <-n.dead:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// yield hands the leadership to another voter, if there is one: a leader whose
// reign failed gives it up.
func (n *Node) yield() {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return
	}
	for _, s := range f.Configuration().Servers {
		if s.ID != raft.ServerID(n.cfg.ID) && s.Suffrage == raft.Voter {
			if err := n.raft.LeadershipTransfer().Error(); err != nil {
				n.cfg.Logger.Warn("leadership not transferred", "error", err)
			}
			return
		}
	}
}

// backoff grows with the number of failures from first to most, with jitter.
func backoff(failures int, first, most time.Duration) time.Duration {
	d := first << min(failures-1, 16)
	d = min(d, most)
	return d/2 + mrand.N(d/2+1)
}

// Ready: this node leads and dispatches.
func (n *Node) Ready() bool {
	_, leading := n.Leader()
	return leading
}

// Leader tells the epoch of this node's reign, and whether it has come to
// dispatching: reports may be written under it. Epoch 0: no reign.
func (n *Node) Leader() (epoch uint64, leading bool) {
	r := n.reign.Load()
	if r == nil {
		return 0, false
	}
	return r.epoch.Load(), r.ready.Load()
}

// Fenced ends the reign of epoch, if it is the current one: a transaction of it
// met ErrFenced. A node that still leads takes a new epoch.
func (n *Node) Fenced(epoch uint64) {
	if r := n.reign.Load(); r != nil && r.epoch.Load() == epoch {
		r.end(ErrFenced)
	}
}

// Cluster is the id of the cluster, zero before its first leader.
func (n *Node) Cluster() (id fsm.WorkflowID) {
	n.replica.read(func(s *fsm.State) { id = s.Cluster() })
	return id
}

// newCluster draws a cluster id: random, in the form of a UUIDv4.
func newCluster() (id fsm.WorkflowID) {
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
