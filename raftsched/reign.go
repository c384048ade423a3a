package raftsched

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// errCommit: an entry could not be committed although this node led.
var errCommit = errors.New("log entry not committed")

const (
	leaseChunk  = 5000 // leases compared with their rows in one read
	walkRows    = 5000 // rows of one page of the takeover's walk
	walkPages   = 40   // pages it reads at most; scans find the rest
	floorRounds = 5    // proposals of Lead until the epoch is above the floor
)

// reign is one leadership of this node, from the proposal of Lead to the end.
// Everything volatile belongs to it and is dropped with it.
type reign struct {
	n      *Node
	number uint64 // of the reigns of this process
	ctx    context.Context
	cancel context.CancelCauseFunc

	epoch atomic.Uint64
	ready atomic.Bool
	// linger: a takeover that failed is followed by so much time in which
	// heartbeats are heard; then the reign ends.
	linger time.Duration
	// dispatched: it came to dispatching; read after run has returned.
	dispatched bool

	inbox    *inbox
	proposer *proposer
	loop     *loop
	// over is closed when the loop has ended: nothing is answered any more.
	over chan struct{}

	// work: reads, sink calls, the engine's own work. None begins once ending.
	work   sync.WaitGroup
	workMu sync.Mutex
	ending bool
}

// spawn runs f beside the loop, unless the reign is ending: whoever would wait
// for it ends too.
func (r *reign) spawn(f func()) {
	r.workMu.Lock()
	defer r.workMu.Unlock()
	if !r.ending {
		r.work.Go(f)
	}
}

// finish waits for all work.
func (r *reign) finish() {
	r.workMu.Lock()
	r.ending = true
	r.workMu.Unlock()
	r.work.Wait()
}

func (n *Node) newReign(ctx context.Context) *reign {
	n.reigns++
	n.heard.forget()
	r := &reign{n: n, number: n.reigns, inbox: newInbox(), over: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	return r
}

// end asks the reign to end, for a reason.
func (r *reign) end(why error) { r.cancel(why) }

// run reigns until the reign ends, and tells why it did.
func (r *reign) run() error {
	n := r.n
	r.proposer = newProposer(n)
	defer r.proposer.close()
	if err := r.lead(0); err != nil {
		r.end(err)
		return context.Cause(r.ctx)
	}
	r.loop = newLoop(r)
	loopDone := make(chan struct{})
	n.reign.Store(r)
	go func() {
		defer close(loopDone)
		r.loop.run()
	}()
	if err := r.takeOver(); err != nil {
		r.wait(r.linger)
		r.end(err)
	} else {
		r.dispatched = true
		n.troubled(nil)
		n.news.tell()
		n.cfg.Logger.Info("dispatching", "epoch", r.epoch.Load())
		if n.cfg.Lead != nil {
			r.spawn(func() { n.cfg.Lead(r.ctx, r.epoch.Load()) })
		}
		<-r.ctx.Done()
	}
	r.ready.Store(false)
	n.news.tell()
	r.finish() // the completer's last Done still reaches the loop
	_ = r.callContext(context.Background(), func(l *loop) { l.releaseAll() })
	r.inbox.close()
	close(r.over)
	<-loopDone
	n.reign.Store(nil)
	return context.Cause(r.ctx)
}

func (r *reign) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	}
}

// commit proposes an entry and waits for its outcome.
func (r *reign) commit(c fsm.Command) (*fsm.Result, error) {
	return r.commitContext(r.ctx, c)
}

func (r *reign) commitContext(ctx context.Context, c fsm.Command) (*fsm.Result, error) {
	type outcome struct {
		res *fsm.Result
		err error
	}
	got := make(chan outcome, 1)
	r.proposer.propose(c, func(res *fsm.Result, err error) { got <- outcome{res, err} })
	select {
	case o := <-got:
		if o.err != nil {
			return nil, fmt.Errorf("%w: %w", errCommit, o.err)
		}
		return o.res, nil
	case <-r.ctx.Done():
		return nil, context.Cause(r.ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// lead begins the epoch: applied here, so the state is complete up to it.
func (r *reign) lead(floor uint64) error {
	res, err := r.commit(fsm.Lead{Node: r.n.cfg.ID, Floor: floor})
	if err != nil {
		return fmt.Errorf("begin reign: %w", err)
	}
	r.epoch.Store(res.Epoch)
	return nil
}

// takeOver makes this reign the only writer, then learns what is true, then
// lets the loop dispatch. The order of the steps is the protocol.
func (r *reign) takeOver() error {
	cluster, err := r.introduce()
	if err != nil {
		return err
	}
	r.spawn(r.steward)
	if err := r.fence(cluster); err != nil {
		return err
	}
	if err := r.reconcile(); err != nil {
		return err
	}
	if err := r.buryProcesses(); err != nil {
		return err
	}
	if err := r.load(); err != nil {
		return err
	}
	return r.call(func(l *loop) { l.begin() })
}

// introduce sees that the cluster has its id and this member its record.
func (r *reign) introduce() (fsm.WorkflowID, error) {
	cfg := &r.n.cfg
	self := cfg.record()
	var cluster fsm.WorkflowID
	var known fsm.Member
	r.n.replica.read(func(s *fsm.State) {
		cluster = s.Cluster()
		known, _ = s.Member(cfg.ID)
	})
	want := cluster
	switch {
	case cfg.Cluster != fsm.WorkflowID{}:
		want = cfg.Cluster
	case cluster == fsm.WorkflowID{}:
		if want = r.n.bonds.get().cluster; want == (fsm.WorkflowID{}) {
			want = newCluster()
		}
	}
	if want != cluster {
		if _, err := r.commit(fsm.Adopt{Cluster: want}); err != nil {
			return want, fmt.Errorf("adopt cluster id %v: %w", want, err)
		}
	}
	if !known.Equal(self) {
		if _, err := r.commit(fsm.SetMember{Member: self}); err != nil {
			return want, fmt.Errorf("introduce member %q: %w", cfg.ID, err)
		}
	}
	return want, nil
}

// fence shuts out every older reign's transactions (I6). A database that has
// seen a higher epoch names it; the epoch is then raised above it.
func (r *reign) fence(cluster fsm.WorkflowID) error {
	for range floorRounds {
		epoch := r.epoch.Load()
		floor, err := r.n.store.Takeover(r.ctx, cluster, epoch)
		if err != nil {
			// Also in doubt: the next reign proposes an epoch of its own.
			return fmt.Errorf("take over the database: %w", err)
		}
		if floor < epoch {
			return nil
		}
		if err := r.lead(floor); err != nil {
			return err
		}
		// Workers that were told the lower epoch hear of this one.
		if err := r.call(func(l *loop) { l.retell() }); err != nil {
			return err
		}
	}
	return errors.New("take over the database: its epoch keeps rising")
}

// reconcile compares every lease with its row. A lease whose row is gone or has
// another turn has its fact written already: it is released here, before any
// row is read for a window.
func (r *reign) reconcile() error {
	var leases []fsm.Lease
	r.n.replica.read(func(s *fsm.State) {
		leases = make([]fsm.Lease, 0, s.Len())
		for l := range s.Leases {
			leases = append(leases, l)
		}
	})
	var stale []fsm.Release
	for len(leases) > 0 {
		chunk := leases[:min(leaseChunk, len(leases))]
		leases = leases[len(chunk):]
		facts, err := r.n.store.Leases(r.ctx, chunk)
		if err != nil {
			return fmt.Errorf("read leased jobs: %w", err)
		}
		if len(facts) != len(chunk) {
			return fmt.Errorf("read leased jobs: %d answers to %d leases", len(facts), len(chunk))
		}
		var held []LeaseFact
		var ordinals []uint32
		r.n.replica.read(func(s *fsm.State) {
			for i := range facts {
				rel, ok := s.Release(chunk[i].Job, chunk[i].ID)
				switch {
				case !ok: // its session was closed meanwhile
				case facts[i].Held:
					held = append(held, facts[i])
					ordinals = append(ordinals, rel.Ordinal)
				default:
					stale = append(stale, rel)
				}
			}
		})
		if err := r.call(func(l *loop) { l.adoptLeases(held, ordinals) }); err != nil {
			return err
		}
	}
	if len(stale) > 0 {
		if _, err := r.commit(&fsm.Schedule{Epoch: r.epoch.Load(), Releases: stale}); err != nil {
			return fmt.Errorf("release leases whose facts are written: %w", err)
		}
	}
	return nil
}

// buryProcesses closes, as lost, the sessions of processes that have certainly
// ended: workers that lived in an engine that died.
func (r *reign) buryProcesses() error {
	if r.n.cfg.DeadProcess == nil {
		return nil
	}
	var sessions []fsm.Session
	r.n.replica.read(func(s *fsm.State) { sessions = s.Sessions() })
	for _, se := range sessions {
		if !se.Closing && r.n.cfg.DeadProcess(se.Process) {
			if _, err := r.commit(fsm.CloseSession{Session: se.ID, Lost: true}); err != nil {
				return fmt.Errorf("close session %d of a dead process: %w", se.ID, err)
			}
		}
	}
	return nil
}

// load reads the dictionary, the pauses, and by one ordered walk the streams
// and the front of each.
func (r *reign) load() error {
	store := r.n.store
	routes, err := store.Routes(r.ctx)
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	queues, workflows, err := store.Paused(r.ctx)
	if err != nil {
		return fmt.Errorf("read pauses: %w", err)
	}
	if err := r.call(func(l *loop) { l.learn(routes, queues, workflows) }); err != nil {
		return err
	}
	var after dispatch.LanePriority
	for page := range walkPages {
		var mark dispatch.Mark
		if err := r.call(func(l *loop) { mark = l.d.Begin() }); err != nil {
			return err
		}
		asked := time.Now()
		loaded, more, err := store.Walk(r.ctx, after, page == 0, r.n.cfg.Window, walkRows)
		if err != nil {
			return fmt.Errorf("walk the ready jobs: %w", err)
		}
		if err := r.call(func(l *loop) {
			l.clock.learn(asked, loaded)
			l.d.Walked(mark, loaded)
		}); err != nil {
			return err
		}
		if !more || len(loaded) == 0 {
			return nil
		}
		after = loaded[len(loaded)-1].Lane
	}
	return nil
}

// call runs f on the loop and waits for it.
func (r *reign) call(f func(*loop)) error {
	return r.callContext(r.ctx, f)
}

func (r *reign) callContext(ctx context.Context, f func(*loop)) error {
	done := make(chan struct{})
	if !r.inbox.put(func() { f(r.loop); close(done) }) {
		return ErrNotLeader
	}
	select {
	case <-done:
		return nil
	case <-r.over:
		return ErrNotLeader
	case <-ctx.Done():
		if cause := context.Cause(r.ctx); cause != nil && ctx == r.ctx {
			return cause
		}
		return ctx.Err()
	}
}

// ask runs f on the loop and hands back what it answers.
func ask[T any](ctx context.Context, r *reign, f func(*loop) T) (T, error) {
	got := make(chan T, 1)
	var zero T
	if !r.put(func(l *loop) { got <- f(l) }) {
		return zero, ErrNotLeader
	}
	select {
	case v := <-got:
		return v, nil
	case <-r.over:
		return zero, ErrNotLeader
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// put hands f to the loop and does not wait.
func (r *reign) put(f func(*loop)) bool {
	return r.inbox.put(func() { f(r.loop) })
}
