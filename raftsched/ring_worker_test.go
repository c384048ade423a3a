package raftsched

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
)

// ringWorker keeps a worker's side of the protocol, over calls that are lost,
// late and doubled.
type ringWorker struct {
	r    *ring
	name string

	mu       sync.Mutex
	cut      bool
	target   int
	session  uint64 // 0: none
	epoch    uint64
	polls    uint64 // opened
	closed   uint64 // all up to this one
	held     map[HeldLease]*ringRun
	seen     uint64
	answered time.Time     // when the last answered heartbeat was sent
	polling  func()        // ends the poll under way
	beat     chan struct{} // a heartbeat is wanted at once
	ended    chan struct{} // closed when the session has ended
}

// ringRun is one run of a job.
type ringRun struct {
	grant Grant
	lost  chan struct{} // closed when it was told that its lease is gone
	once  sync.Once
}

var errLost = errors.New("no answer")

func newRingWorker(r *ring, name string) *ringWorker {
	return &ringWorker{r: r, name: name, held: map[HeldLease]*ringRun{}, beat: make(chan struct{}, 1)}
}

func (w *ringWorker) setCut(cut bool) {
	w.mu.Lock()
	w.cut = cut
	w.mu.Unlock()
}

func (w *ringWorker) isCut() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut
}

// silent tells for how long a session, if it is the worker's present one, has
// not been answered.
func (w *ringWorker) silent(session uint64) (time.Duration, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.answered), w.session == session
}

func (w *ringWorker) done() bool {
	select {
	case <-w.r.over:
		return true
	default:
		return false
	}
}

// call a node. The request may be lost, delivered late or twice, and its answer
// lost.
func call[T any](w *ringWorker, ctx context.Context, limit time.Duration, f func(context.Context, *Node, *process) (T, error)) (T, error) {
	r := w.r
	var zero T
	w.mu.Lock()
	n := r.nodes[w.target]
	w.mu.Unlock()
	if r.chance(10) {
		n = r.node() // an address it still has
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type result struct {
		v   T
		err error
	}
	got := make(chan result, 1)
	deliver := func(ctx context.Context, tell chan result) {
		node, p := n.now()
		if err := p.gate(); err != nil { // a paused process reads it when it goes on
			tell <- result{err: errLost}
			return
		}
		v, err := f(ctx, node, p)
		if p.gate() != nil {
			err = errLost
		}
		tell <- result{v, err}
	}
	calm := r.calm.Load()
	again := !calm && r.chance(4)
	if lost := w.isCut() || !calm && r.chance(2); !lost || r.chance(30) {
		late := time.Duration(0)
		if lost {
			late = r.between(0, 3*time.Second)
		}
		to := got
		if lost {
			to = make(chan result, 1)
		}
		r.wg.Go(func() {
			time.Sleep(late + r.between(0, time.Millisecond))
			if lost {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				deliver(ctx, to)
				return
			}
			deliver(ctx, to)
		})
	}
	if again {
		r.wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			time.Sleep(r.between(0, 4*time.Second))
			deliver(ctx, make(chan result, 1))
		})
	}
	select {
	case res := <-got:
		if w.isCut() || !calm && r.chance(2) {
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
			w.turnAway(nil)
			return zero, errLost
		}
		if errors.Is(res.err, ErrNotLeader) || errors.Is(res.err, errLost) {
			node, _ := n.now()
			w.turnAway(node)
		}
		return res.v, res.err
	case <-ctx.Done():
		w.turnAway(nil)
		return zero, errLost
	}
}

// turnAway from a node to the leader it names, or to the next one.
func (w *ringWorker) turnAway(from *Node) {
	next := w.r.intn(len(w.r.nodes))
	if from != nil {
		if leader, known := from.LeaderHint(); known {
			for i, n := range w.r.nodes {
				if n.id == leader.ID {
					next = i
				}
			}
		}
	}
	w.mu.Lock()
	w.target = next
	w.mu.Unlock()
}

func (w *ringWorker) start() {
	w.r.wg.Go(func() {
		for !w.done() {
			id, err := call(w, context.Background(), 2*time.Second, func(ctx context.Context, n *Node, _ *process) (uint64, error) {
				id, _, err := n.OpenSession(ctx, Worker{Name: w.name, Process: w.name})
				return id, err
			})
			if err != nil {
				time.Sleep(w.r.between(10*time.Millisecond, 100*time.Millisecond))
				continue
			}
			w.live(id)
		}
	})
}

// live through one session.
func (w *ringWorker) live(id uint64) {
	w.r.oracle.opened(id, w)
	w.mu.Lock()
	w.session, w.polls, w.closed, w.seen, w.answered = id, 0, 0, 0, time.Now()
	clear(w.held)
	w.ended = make(chan struct{})
	ended := w.ended
	w.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { w.pollOn(id, ended) })
	wg.Go(func() { w.beatOn(id, ended) })
	wg.Wait()
}

// endSession is told that the engine does not know it any more.
func (w *ringWorker) endSession(id uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == id {
		w.r.oracle.unknown(id, w)
		w.session = 0
		close(w.ended)
		if w.polling != nil {
			w.polling()
		}
	}
}

func (w *ringWorker) pollOn(id uint64, ended chan struct{}) {
	for !w.done() {
		select {
		case <-ended:
			return
		default:
		}
		w.mu.Lock()
		if len(w.held) >= 4 {
			w.mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			continue
		}
		w.polls++
		number := w.polls
		ctx, cancel := context.WithCancel(context.Background())
		w.polling = cancel
		w.mu.Unlock()
		type answer struct {
			grants []Grant
			epoch  uint64
		}
		a, err := call(w, ctx, 2*time.Second, func(ctx context.Context, n *Node, _ *process) (answer, error) {
			grants, epoch, err := n.Poll(ctx, PollRequest{
				Session: id, Poll: number, Max: 2, Wait: time.Second, Queues: []Queue{{Name: "default"}}, Kinds: []string{"a"},
			})
			return answer{grants, epoch}, err
		})
		cancel()
		w.polled(id, number, a.grants, err)
		w.learn(a.epoch)
		if errors.Is(err, ErrUnknownSession) {
			w.endSession(id)
		} else if err != nil {
			w.hurry()
			time.Sleep(w.r.between(0, 30*time.Millisecond))
		}
	}
}

// polled takes what a poll brought, unless it was closed meanwhile.
func (w *ringWorker) polled(id, number uint64, grants []Grant, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session != id || number <= w.closed {
		return
	}
	w.closed = number
	if err != nil || time.Since(w.answered) > ringTTL {
		return
	}
	for _, g := range grants {
		run := &ringRun{grant: g, lost: make(chan struct{})}
		w.held[HeldLease{Job: g.Lease.Job, ID: g.Lease.ID}] = run
		w.r.oracle.start(run)
		w.r.wg.Go(func() { w.run(run) })
	}
}

// learn of a higher epoch: polls of a lower one are closed, and the leader told.
func (w *ringWorker) learn(epoch uint64) {
	w.mu.Lock()
	higher := epoch > w.epoch
	if higher {
		w.epoch, w.closed = epoch, w.polls
		if w.polling != nil {
			w.polling()
		}
	}
	w.mu.Unlock()
	if higher {
		w.hurry()
	}
}

func (w *ringWorker) hurry() {
	select {
	case w.beat <- struct{}{}:
	default:
	}
}

func (w *ringWorker) beatOn(id uint64, ended chan struct{}) {
	for !w.done() {
		select {
		case <-ended:
			return
		default:
		}
		w.mu.Lock()
		hb := Heartbeat{Session: id, PollsClosed: w.closed, CommandsSeen: w.seen, Wait: ringTTL / 3}
		for h := range w.held {
			hb.Held = append(hb.Held, h)
		}
		sent := time.Now()
		w.mu.Unlock()
		ctx, cancel := context.WithCancel(context.Background())
		watched := make(chan struct{})
		go func() {
			select {
			case <-w.beat:
			case <-w.r.over:
			case <-ended:
			case <-watched:
			}
			cancel()
		}()
		c, err := call(w, ctx, ringTTL/3+300*time.Millisecond, func(ctx context.Context, n *Node, _ *process) (Commands, error) {
			return n.Heartbeat(ctx, hb)
		})
		close(watched)
		if time.Since(sent) > ringTTL/2 || err != nil {
			w.r.logf("worker %s: heartbeat sent %v ago: %v", w.name, time.Since(sent), err)
		}
		switch {
		case errors.Is(err, ErrUnknownSession):
			w.endSession(id)
		case err != nil:
			time.Sleep(w.r.between(0, 30*time.Millisecond))
		default:
			w.heard(id, sent, c)
		}
	}
}

// heard the answer to a heartbeat.
func (w *ringWorker) heard(id uint64, sent time.Time, c Commands) {
	w.mu.Lock()
	if w.session == id {
		w.answered = sent
		w.seen = max(w.seen, c.Number)
		for _, h := range c.Lost {
			if run := w.held[h]; run != nil {
				w.r.oracle.denied(run, fmt.Sprintf("by a heartbeat of epoch %d sent %v ago", c.Epoch, time.Since(sent)))
				run.once.Do(func() { close(run.lost) })
				delete(w.held, h)
			}
		}
	}
	w.mu.Unlock()
	w.learn(c.Epoch)
}

// run a job and report its end until somebody answers.
func (w *ringWorker) run(run *ringRun) {
	lasts := w.r.between(0, 300*time.Millisecond)
	if w.r.chance(5) {
		lasts = 2 * time.Second
	}
	outcome := w.r.intn(100)
	end := func(row *dispatch.Row) bool {
		switch {
		case outcome < 12: // it failed
			row.Attempt++
			row.RunAt = dbNow() + 100_000
			return false
		case outcome < 20: // snooze
			row.RunAt = dbNow() + 200_000
			return false
		}
		return true
	}
	select {
	case <-time.After(lasts):
	case <-run.lost:
	}
	w.r.oracle.stop(run)
	l := run.grant.Lease
	for !w.done() {
		select {
		case <-run.lost:
			return
		default:
		}
		a, err := call(w, context.Background(), 3*time.Second, func(_ context.Context, n *Node, p *process) (Admission, error) {
			return w.report(n, p, run, end)
		})
		if err == nil && a != Unknown {
			if a == Admitted {
				w.r.oracle.acked(run, outcome >= 20)
			} else {
				w.r.oracle.denied(run, "at its report")
			}
			w.mu.Lock()
			delete(w.held, HeldLease{Job: l.Job, ID: l.ID})
			w.mu.Unlock()
			return
		}
		time.Sleep(w.r.between(5*time.Millisecond, 100*time.Millisecond))
	}
}

// report as the completer of the node's engine takes it.
func (w *ringWorker) report(n *Node, p *process, run *ringRun, end func(*dispatch.Row) bool) (Admission, error) {
	l := run.grant.Lease
	epoch, leading := n.Leader()
	answers, leases := n.Admit(l.Session, []HeldLease{{Job: l.Job, ID: l.ID}})
	if answers[0] != Admitted || !leading {
		if answers[0] == Stale {
			return Stale, nil
		}
		return Unknown, ErrNotLeader
	}
	mark := n.Begin()
	row, ok, err := w.r.write(p, epoch, leases[0], w.name, end)
	if err != nil {
		n.End(mark)
		if errors.Is(err, ErrFenced) {
			n.Fenced(epoch)
		}
		return Unknown, err
	}
	d := Done{Ended: leases, Mark: mark}
	if row != nil {
		d.Ready = []dispatch.Row{*row}
	}
	n.Done(d)
	if !ok {
		return Stale, nil
	}
	return Admitted, nil
}
