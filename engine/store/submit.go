package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// groupWeight is the number of rows at which a group of submissions is full.
const groupWeight = 4000

var errClosed = errors.New("the store is closed")

// submitQueue holds the planned submissions that wait for a committer.
type submitQueue struct {
	mu     sync.Mutex
	some   sync.Cond
	plans  []*plan
	closed bool
}

func (q *submitQueue) init() { q.some.L = &q.mu }

// put answers false when the store is closed.
func (q *submitQueue) put(plans []*plan) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.plans = append(q.plans, plans...)
	q.some.Signal()
	return true
}

// take waits for submissions and takes a group of them, no id twice: a second
// one of the same id waits for the next group. It answers nil when the queue
// is closed and empty.
func (q *submitQueue) take() []*plan {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.plans) == 0 {
		if q.closed {
			return nil
		}
		q.some.Wait()
	}
	var group, rest []*plan
	weight := 0
	seen := make(map[[16]byte]bool, len(q.plans))
	for i, p := range q.plans {
		if weight > 0 && weight+p.weight > groupWeight {
			rest = append(rest, q.plans[i:]...)
			break
		}
		if seen[p.id] {
			rest = append(rest, p)
			continue
		}
		seen[p.id] = true
		group = append(group, p)
		weight += p.weight
	}
	q.plans = rest
	if len(rest) > 0 {
		q.some.Signal()
	}
	return group
}

func (q *submitQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
}

// Submit writes workflows, each entirely or not at all, and answers in their
// order. What concurrent callers submit travels together: while one group
// commits, the next one gathers. A submission that is at fault gets an error
// of its own and fails no other; repeating one changes nothing (I8). When ctx
// ends first, the submissions under way are answered with its error: they may
// be written or not.
func (s *Store) Submit(ctx context.Context, subs []model.Submission) []model.Submitted {
	return s.submit(ctx, subs, nil)
}

// submit is Submit. written, if given, tells when a submission was made, where
// that is not now: its id must lie in the window around that.
func (s *Store) submit(ctx context.Context, subs []model.Submission, written func(fsm.WorkflowID) time.Time) []model.Submitted {
	out := make([]model.Submitted, len(subs))
	for i := range subs {
		out[i].ID = subs[i].ID
	}
	now, err := s.now(ctx)
	if err != nil {
		return failAll(out, err)
	}
	var left atomic.Int64
	finished := make(chan struct{})
	done := func() {
		if left.Add(-1) == 0 {
			close(finished)
		}
	}
	plans := make([]*plan, 0, len(subs))
	at := make([]int, 0, len(subs))
	for i := range subs {
		made := now
		if written != nil {
			made = written(subs[i].ID)
		}
		p, err := s.plan(ctx, &subs[i], now, made)
		if err != nil {
			out[i].Err = err
			continue
		}
		p.done = done
		plans, at = append(plans, p), append(at, i)
	}
	if len(plans) == 0 {
		return out
	}
	left.Store(int64(len(plans)))
	if !s.group.put(plans) {
		return failAll(out, errClosed)
	}
	select {
	case <-finished:
		for i, p := range plans {
			out[at[i]] = p.out
		}
	case <-ctx.Done():
		for _, i := range at {
			out[i].Err = context.Cause(ctx)
		}
	}
	return out
}

// failAll gives every submission that has none yet the error.
func failAll(out []model.Submitted, err error) []model.Submitted {
	for i := range out {
		if out[i].Err == nil {
			out[i].Err = err
		}
	}
	return out
}
