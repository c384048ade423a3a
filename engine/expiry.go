package engine

import (
	"context"
	"time"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/engine/store"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// deadlineGrace is how long after its job's deadline a worker's own report is
// awaited.
const deadlineGrace = 10 * time.Second

// expireDue fails what is due and answers when the next job will be. Jobs that
// a worker holds wait no more, though nothing in their rows says so; they end
// here only if their worker is silent about a deadline that is over.
func (e *Engine) expireDue(ctx context.Context) (next time.Time, err error) {
	left := 0 // of those found before: leased, or not to be written
	for {
		limit := expiryLimit + left
		due, next, err := e.store.Expired(ctx, limit)
		if err != nil {
			return time.Time{}, err
		}
		finishes, leased, release, err := e.holdDue(ctx, due)
		if err != nil {
			return time.Time{}, err
		}
		refused := 0
		if len(finishes) > 0 {
			refused, err = e.completer.expire(ctx, finishes)
		}
		release()
		if err == nil {
			err = e.endOverdue(ctx, leased)
		}
		if err != nil || len(due) < limit {
			return next, err
		}
		left = len(leased) + refused
	}
}

// holdDue holds the jobs that no worker holds, and lists the leases of the
// others.
func (e *Engine) holdDue(ctx context.Context, due []store.ExpiredJob) (finishes []model.Finish, leased []fsm.Lease, release func(), err error) {
	var releases []func()
	release = func() {
		for _, r := range releases {
			r()
		}
	}
	for _, d := range due {
		if lease, _, ok := e.node.LeaseOf(d.Job); ok {
			leased = append(leased, lease)
			continue
		}
		r, leases, err := e.node.HoldJob(ctx, d.Job)
		if err != nil {
			release()
			return nil, nil, nil, err
		}
		releases = append(releases, r)
		if len(leases) > 0 { // granted a moment ago
			leased = append(leased, leases...)
			continue
		}
		finishes = append(finishes, model.Finish{
			Job: d.Job, Turn: d.Turn, Ending: model.EndFailed, Error: d.Reason, Batch: d.Batch, Flags: d.Flags,
		})
	}
	return finishes, leased, release, nil
}

// endOverdue ends attempts whose worker should have ended them at the deadline
// of their job.
func (e *Engine) endOverdue(ctx context.Context, leased []fsm.Lease) error {
	if len(leased) == 0 {
		return nil
	}
	jobs, err := e.completer.rows(ctx, leased)
	if err != nil {
		return err
	}
	limit := e.clock.now() - deadlineGrace.Microseconds()
	var ends []raftsched.End
	for i, j := range jobs {
		if j.deadlineAt != 0 && j.deadlineAt <= limit {
			_, worker, _ := e.node.LeaseOf(leased[i].Job)
			ends = append(ends, raftsched.End{Lease: leased[i], Reason: raftsched.EndTimeout, Worker: worker})
		}
	}
	if len(ends) > 0 {
		e.completer.End(ends)
	}
	return nil
}
