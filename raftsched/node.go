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
	bonds     *bonds
	heard     contacts
	moves     moves

	stop   context.CancelFunc
	done   chan struct{}  // closed when the leadership goroutine has ended
	others sync.WaitGroup // the goroutine that finds the cluster
	reigns uint64         // begun so far; names marks

	reign     atomic.Pointer[reign] // the current one, nil when none
	handovers chan handover
	changing  chan struct{} // holds a token while members are being changed

	health    health
	news      news
	elections atomic.Uint64
	terms     atomic.Uint64

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
	if cfg.Features == nil {
		cfg.Features = fsm.Features()
	}
	n := &Node{
		cfg: cfg, store: store, sink: sink, open: openDisk, leadership: (*raft.Raft).LeaderCh,
		done: make(chan struct{}), dead: make(chan struct{}), started: make(chan struct{}),
		handovers: make(chan handover), changing: make(chan struct{}, 1),
	}
	n.replica.state = fsm.NewUnderstanding(cfg.Features)
	n.replica.halted = func(err error) { n.fail(fmt.Errorf("replicated state: %w", err)) }
	n.replica.changed = n.stateChanged
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
	if n.bonds, err = openBonds(d.stable); err != nil {
		return errors.Join(err, d.close())
	}
	addr, transport, closeWire := openTransport(n.cfg, n.bonds, &n.moves, &n.heard)
	r, err := openRaft(n.cfg, &n.replica, d, n.bonds, addr, transport, n.watchDisk())
	if err != nil {
		return errors.Join(err, n.replica.state.Halted(), closeWire(), d.close())
	}
	n.replica.running.Store(true)
	n.disk, n.raft, n.closeWire = d, r, closeWire
	n.shutdown = sync.OnceValue(r.Shutdown)
	r.RegisterObserver(raft.NewObserver(nil, false, n.observe))
	run, stop := context.WithCancel(context.Background())
	n.stop = stop
	if n.cfg.Network != nil {
		n.others.Go(func() { n.acquaint(run) })
	}
	go func() {
		defer close(n.done)
		n.follow(run)
	}()
	return nil
}

// Stop ends the reign, waits for the engine's work, hands the leadership to
// another voter, and closes the log and the Network. The node stays a member;
// its leases stay valid. It cannot be started again. When ctx ends first, Stop
// returns its error and goes on in the background.
func (n *Node) Stop(ctx context.Context) error {
	if n.raft == nil {
		return nil
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		n.stopOnce.Do(func() {
			n.stepAside()
			n.stop()
			<-n.done
			n.others.Wait()
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

var (
	errStopped   = errors.New("node stops")
	errDeposed   = errors.New("leadership lost")
	errHandsOver = errors.New("leadership is handed over")
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
		if failures > 0 {
			r.linger = backoff(failures, 20*time.Millisecond, 2*time.Second)
		}
		ended := make(chan error, 1)
		go func() { ended <- r.run() }()
		var err error
		var hand *handover
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
		case h := <-n.handovers:
			hand = &h
			r.end(errHandsOver)
			err = <-ended
		case err = <-ended:
		}
		n.cfg.Logger.Info("reign ended", "epoch", r.epoch.Load(), "reason", err)
		if hand != nil {
			leading = n.handOver(ctx, *hand, changes)
			continue
		}
		if r.dispatched {
			failures = 0
		}
		if leading {
			failures++
			n.troubled(fmt.Errorf("this node leads but cannot dispatch: %w", err))
			n.yield() // another node may reach what this one does not
			leading = n.stillLeads(ctx, changes)
		}
	}
}

// stillLeads lets the loss of the leadership, if that is what ended a reign, be
// heard of before another reign is tried.
func (n *Node) stillLeads(ctx context.Context, changes <-chan bool) bool {
	pause := time.NewTimer(backoff(1, 20*time.Millisecond, 20*time.Millisecond))
	defer pause.Stop()
	select {
	case leading := <-changes:
		return leading
	case <-pause.C:
		return n.raft.State() == raft.Leader
	case <-n.dead:
	case <-ctx.Done():
	}
	return false
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

// firstCluster is the id of a cluster that this node begins.
func firstCluster(cfg Config) fsm.WorkflowID {
	if cfg.Cluster != (fsm.WorkflowID{}) {
		return cfg.Cluster
	}
	return newCluster()
}

// newCluster draws a cluster id: random, in the form of a UUIDv4.
func newCluster() (id fsm.WorkflowID) {
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
