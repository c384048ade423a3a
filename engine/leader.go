package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/engine/store"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// The paces of the leader's work. What is woken by events is also looked for
// now and then; an idle engine's share of all of them is far below one
// transaction a second.
const (
	cascadePoll   = 30 * time.Second
	expiryPoll    = 5 * time.Second
	expiryLimit   = 1000
	inboxPoll     = 10 * time.Second
	inboxLimit    = 100
	partitionPoll = time.Hour
	retainPoll    = time.Hour
	heldSweep     = time.Minute
	vacuumCheck   = 2 * time.Second
	vacuumEvery   = 500_000 // attempts ended
	vacuumPause   = 10 * time.Minute
)

// leaderWork is how others wake the leader's work. Its channels hold one value.
type leaderWork struct {
	cascades chan struct{}
	inbox    chan struct{}
	expiry   chan struct{}

	operations chan struct{}

	mu      sync.Mutex
	expires int64 // earliest expiry heard of since the last look; 0: none
}

func (l *leaderWork) init() {
	l.cascades = make(chan struct{}, 1)
	l.inbox = make(chan struct{}, 1)
	l.expiry = make(chan struct{}, 1)
	l.operations = make(chan struct{}, 1)
}

// expect notes when rows that were just written expire.
func (l *leaderWork) expect(rows []dispatch.Row) { l.expectAt(firstExpiry(rows)) }

// firstExpiry is the earliest expiry of rows; 0: none expires.
func firstExpiry(rows []dispatch.Row) (first int64) {
	for i := range rows {
		if x := rows[i].ExpiresAt; x != 0 && (first == 0 || x < first) {
			first = x
		}
	}
	return first
}

// expectAt does the same for one time; 0: none.
func (l *leaderWork) expectAt(first int64) {
	if first == 0 {
		return
	}
	l.mu.Lock()
	earlier := l.expires == 0 || first < l.expires
	if earlier {
		l.expires = first
	}
	l.mu.Unlock()
	if earlier {
		put(l.expiry)
	}
}

// heard takes what expect has noted.
func (l *leaderWork) heard() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.expires
	l.expires = 0
	return x
}

// lead is the work of this node's reign. It returns when ctx has ended and all
// of it has stopped.
func (e *Engine) lead(ctx context.Context, epoch uint64) {
	e.ledOne.Do(func() { close(e.led) })
	e.log.Info("leading", "epoch", epoch)
	e.hub.tellAll() // an earlier reign may have committed without telling
	var wg sync.WaitGroup
	for _, work := range []func(context.Context){
		e.moveCascades, e.workOff, e.expireJobs, e.importInbox, e.listenInbox,
		e.makePartitions, e.retain, e.vacuum, e.sweepHeld,
	} {
		wg.Go(func() { work(ctx) })
	}
	wg.Wait()
	e.log.Info("leads no more", "epoch", epoch)
}

// wait waits for a wake-up, at most d; false says that ctx has ended.
func wait(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-wake:
		return true
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// trouble logs the first failure of a work in a row, and its end.
type trouble struct {
	e     *Engine
	what  string
	pause *backoff
}

func (e *Engine) trouble(what string) *trouble {
	return &trouble{e: e, what: what, pause: newBackoff(200*time.Millisecond, 10*time.Second)}
}

// handle takes the result of a try. again says that it failed and the pause is
// over; stop that the work has to end.
func (t *trouble) handle(ctx context.Context, err error) (again, stop bool) {
	if err == nil {
		if t.pause.tries() > 0 {
			t.e.log.Info(t.what+" goes on", "tries", t.pause.tries()+1)
			t.pause.reset()
		}
		return false, ctx.Err() != nil
	}
	if ctx.Err() != nil {
		return false, true
	}
	if errors.Is(err, store.ErrFenced) {
		epoch, _ := t.e.node.Leader()
		t.e.node.Fenced(epoch)
		return false, true
	}
	if t.pause.tries() == 0 {
		t.e.log.Warn(t.what+" failed, tried again", "error", err)
	}
	return true, !t.pause.sleep(ctx.Done())
}

// moveCascades hands down to the members of huge batches what their batch has
// met, a chunk per transaction.
func (e *Engine) moveCascades(ctx context.Context) {
	trouble := e.trouble("cascade")
	for {
		more, err := e.stepCascade(ctx)
		again, stop := trouble.handle(ctx, err)
		switch {
		case stop:
			return
		case again || more:
		case !wait(ctx, e.leader.cascades, cascadePoll):
			return
		}
	}
}

// stepCascade moves one chunk. The workflow is held while its leased jobs are
// told apart from the others, so that no grant slips in between.
func (e *Engine) stepCascade(ctx context.Context) (more bool, err error) {
	reign, leading := e.reign()
	if !leading {
		return false, ctx.Err()
	}
	var releases []func()
	defer func() {
		for _, release := range releases {
			release()
		}
	}()
	leased := func(id fsm.WorkflowID) ([]int32, error) {
		release, leases, err := e.node.HoldWorkflow(ctx, id)
		if err != nil {
			return nil, err // the reign ends; it is not fenced yet
		}
		releases = append(releases, release)
		return nodesOf(leases), nil
	}
	mark := e.node.Begin()
	// Not ctx: a COMMIT must not be cut, and the fence ends what comes too late.
	eff, more, err := e.store.Step(context.WithoutCancel(ctx), reign, leased)
	e.settle(mark, &eff, err)
	if errors.Is(err, model.ErrDoubt) {
		e.node.Fenced(reign.Epoch)
	}
	return more, err
}

// expireJobs fails the jobs whose wait in the queue or deadline is over.
func (e *Engine) expireJobs(ctx context.Context) {
	trouble := e.trouble("expiry of jobs")
	for {
		e.leader.heard()
		next, err := e.expireDue(ctx)
		again, stop := trouble.handle(ctx, err)
		if stop {
			return
		}
		if again {
			continue
		}
		pause := expiryPoll
		if !next.IsZero() {
			pause = time.Duration(next.UnixMicro()-e.clock.now()) * time.Microsecond
		}
		// Woken early for rows that expire later: wait for them, not a round.
		for {
			pause = min(max(pause, 10*time.Millisecond), expiryPoll)
			begin := time.Now()
			if !wait(ctx, e.leader.expiry, pause) {
				return
			}
			pause -= time.Since(begin)
			if x := e.leader.heard(); x != 0 {
				pause = min(pause, time.Duration(x-e.clock.now())*time.Microsecond)
			}
			if pause <= 0 {
				break
			}
		}
	}
}

// makePartitions creates the partitions of the coming days.
func (e *Engine) makePartitions(ctx context.Context) {
	e.every(ctx, "creation of partitions", partitionPoll, e.store.EnsurePartitions)
}

// retain removes what ended long ago, and statistics older still.
func (e *Engine) retain(ctx context.Context) {
	e.every(ctx, "retention", retainPoll, func(ctx context.Context) error {
		if err := e.store.RetainMinutes(ctx); err != nil || e.cfg.Retention == 0 {
			return err
		}
		removed, err := e.store.Retain(ctx, e.cfg.Retention)
		if removed > 0 {
			e.log.Info("retention removed old rows", "rows", removed)
		}
		return err
	})
}

// every does a work at once and then at its pace.
func (e *Engine) every(ctx context.Context, what string, pace time.Duration, work func(context.Context) error) {
	trouble := e.trouble(what)
	for {
		again, stop := trouble.handle(ctx, work(ctx))
		switch {
		case stop:
			return
		case again:
		case !wait(ctx, nil, jittered(pace)):
			return
		}
	}
}

// vacuum keeps the hot table small under load: the server's own pace is too
// slow for it.
func (e *Engine) vacuum(ctx context.Context) {
	trouble := e.trouble("vacuum of jobs")
	done, last := e.completer.finished.Load(), time.Now()
	for wait(ctx, nil, vacuumCheck) {
		ended := e.completer.finished.Load() - done
		if ended < vacuumEvery && (ended == 0 || time.Since(last) < vacuumPause) {
			continue
		}
		done, last = done+ended, time.Now()
		if _, stop := trouble.handle(ctx, e.store.VacuumJobs(ctx)); stop {
			return
		}
	}
}

// sweepHeld forgets the rows of leases that ended without a report, and the
// names of sessions that are gone.
func (e *Engine) sweepHeld(ctx context.Context) {
	for wait(ctx, nil, heldSweep) {
		e.completer.held.sweep(time.Now().Add(-heldSweep), func(job fsm.JobID) (uint64, bool) {
			lease, _, ok := e.node.LeaseOf(job)
			return lease.ID, ok
		})
		e.renewSessions()
	}
}

func nodesOf(leases []fsm.Lease) []int32 {
	nodes := make([]int32, len(leases))
	for i := range leases {
		nodes[i] = leases[i].Job.Node
	}
	return nodes
}

// settle tells everyone what a transaction of the leader changed, if it
// committed, and ends its mark.
func (e *Engine) settle(mark markID, eff *model.Effects, err error) {
	if err != nil {
		e.node.End(mark)
		return
	}
	e.node.Done(done(mark, eff))
	e.effects(eff)
}
