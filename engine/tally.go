package engine

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/engine/store"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

const (
	// tallySeconds is how far back the rates go.
	tallySeconds = 600
	// tallyPace is how often sums are written.
	tallyPace = 5 * time.Second
	// tallyMost bounds the sums that wait while the database is away.
	tallyMost = 100_000
)

// tally counts the attempts that end on this node: by second in memory, and by
// minute and route for the statistics. What it holds when the process is killed
// is lost: a few seconds of statistics.
type tally struct {
	mu      sync.Mutex
	first   int64 // the first second it knows of; 0: none
	seconds [tallySeconds + 1]tallySecond
	minutes map[tallyKey]*store.MinuteSum
}

type tallySecond struct {
	at                                             int64
	succeeded, failed, retried, cancelled, started int32
}

type tallyKey struct {
	minute int64
	route  int32
}

// second gives the rate of a second. The lock is held.
func (t *tally) second(now int64) *tallySecond {
	at := now / 1e6
	if t.first == 0 {
		t.first = at
	}
	r := &t.seconds[at%int64(len(t.seconds))]
	if r.at != at {
		*r = tallySecond{at: at}
	}
	return r
}

// started counts jobs handed to workers. now is in microseconds.
func (t *tally) started(now int64, n int) {
	if n == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.second(now).started += int32(n)
}

// ended counts a flushed group.
func (t *tally) ended(now int64, group []item, flushed []model.Flushed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rate := t.second(now)
	minute := now / 60e6
	var sum *store.MinuteSum
	for i := range group {
		if flushed[i].Err != nil || flushed[i].Stale {
			continue
		}
		it := &group[i]
		if sum == nil || sum.Route != it.job.route {
			sum = t.sum(tallyKey{minute, it.job.route})
		}
		switch it.finish.Ending {
		case model.EndSucceeded:
			rate.succeeded++
			sum.Succeeded++
		case model.EndFailed:
			rate.failed++
			sum.Failed++
		case model.EndCancelled:
			rate.cancelled++
			sum.Cancelled++
		case model.EndRetry:
			rate.retried++
			sum.Retried++
		default:
			continue // snoozed or given back: it did not end
		}
		sum.RunUs += max(it.finish.Ran.Microseconds(), 0)
		if it.lease.GrantedAt != 0 && it.job.runAt != 0 {
			sum.WaitUs += max(it.lease.GrantedAt-it.job.runAt, 0)
		}
	}
}

// sum gives the sum of a minute and route. The lock is held.
func (t *tally) sum(k tallyKey) *store.MinuteSum {
	if s := t.minutes[k]; s != nil {
		return s
	}
	s := &store.MinuteSum{Minute: time.Unix(k.minute*60, 0).UTC(), Route: k.route}
	if t.minutes == nil {
		t.minutes = make(map[tallyKey]*store.MinuteSum)
	}
	if len(t.minutes) < tallyMost {
		t.minutes[k] = s
	}
	return s
}

// rates are those of the last seconds that are over, oldest first, from the
// first one that is known.
func (t *tally) rates(now int64) []*heddlev1.Rate {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == 0 {
		t.first = now / 1e6
	}
	var out []*heddlev1.Rate
	for at := max(now/1e6-tallySeconds, t.first); at < now/1e6; at++ {
		r := &t.seconds[at%int64(len(t.seconds))]
		if r.at != at {
			out = append(out, &heddlev1.Rate{Second: at})
			continue
		}
		out = append(out, &heddlev1.Rate{
			Second: at, Succeeded: r.succeeded, Failed: r.failed, Retried: r.retried, Cancelled: r.cancelled, Started: r.started,
		})
	}
	return out
}

// take gives the sums that are to be written.
func (t *tally) take() []store.MinuteSum {
	t.mu.Lock()
	defer t.mu.Unlock()
	sums := make([]store.MinuteSum, 0, len(t.minutes))
	for _, s := range t.minutes {
		sums = append(sums, *s)
	}
	clear(t.minutes)
	return sums
}

// putBack takes sums that were not written.
func (t *tally) putBack(sums []store.MinuteSum) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range sums {
		s := t.sum(tallyKey{sums[i].Minute.Unix() / 60, sums[i].Route})
		s.Succeeded += sums[i].Succeeded
		s.Failed += sums[i].Failed
		s.Cancelled += sums[i].Cancelled
		s.Retried += sums[i].Retried
		s.RunUs += sums[i].RunUs
		s.WaitUs += sums[i].WaitUs
	}
}

// write adds what has come together to the statistics. What may have been
// written already is not written again: it would count twice.
func (t *tally) write(ctx context.Context, add func(context.Context, []store.MinuteSum) error) error {
	sums := t.take()
	if len(sums) == 0 {
		return nil
	}
	err := add(ctx, sums)
	if err != nil && pgconn.SafeToRetry(err) {
		t.putBack(sums)
	}
	return err
}

// writeTally writes the sums at its pace, and the last of them at the end.
func (e *Engine) writeTally(ctx context.Context) {
	failing := false
	for wait(ctx, nil, tallyPace) {
		err := e.tally.write(ctx, e.store.AddMinutes)
		if err != nil && !failing && ctx.Err() == nil {
			e.log.Warn("statistics cannot be written", "error", err)
		}
		failing = err != nil
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := e.tally.write(last, e.store.AddMinutes); err != nil && !failing {
		e.log.Warn("statistics of the last seconds are lost", "error", err)
	}
}
