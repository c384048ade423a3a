package sdktest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

// atOnce is how soon after the end of its context a handler returns that has
// nothing left to do but to return.
const atOnce = time.Millisecond

// running is the context of a handler that runs. It notes whether the handler
// looks at its end.
type running struct {
	context.Context
	cancel context.CancelCauseFunc
	stop   context.CancelFunc // frees what the context holds
	limit  time.Duration      // 0: none
	start  time.Time          // on the engine's clock
	begun  time.Time          // on that of package time
	told   atomic.Pointer[time.Time]
	looked atomic.Bool
}

func begin(parent context.Context, limit time.Duration, start time.Time) *running {
	r := &running{limit: limit, start: start, begun: time.Now()}
	ctx, cancel := context.WithCancelCause(parent)
	r.Context, r.cancel, r.stop = ctx, cancel, func() { cancel(nil) }
	if limit > 0 {
		timed, stop := context.WithTimeoutCause(ctx, limit, heddle.ErrTimeout)
		r.Context, r.stop = timed, func() { stop(); cancel(nil) }
	}
	return r
}

// Done gives the channel that is closed at the end.
func (r *running) Done() <-chan struct{} {
	r.looked.Store(true)
	return r.Context.Done()
}

// Err says whether the context has ended.
func (r *running) Err() error {
	err := r.Context.Err()
	if err != nil {
		r.looked.Store(true)
	}
	return err
}

// tell ends the context.
func (r *running) tell(cause error) {
	now := time.Now()
	r.told.CompareAndSwap(nil, &now)
	r.cancel(cause)
}

// ended is called when the handler has returned err. It gives the cause for which
// the context has ended, nil if it has not, and whether the handler returned nil
// because of that.
func (r *running) ended(err error) (cause error, forgot bool) {
	cause = context.Cause(r.Context)
	var since time.Time
	switch told := r.told.Load(); {
	case errors.Is(cause, heddle.ErrTimeout):
		since = r.begun.Add(r.limit)
	case errors.Is(cause, heddle.ErrCancelled) && told != nil:
		since = *told
	default:
		return cause, false
	}
	return cause, err == nil && r.looked.Load() && time.Since(since) < atOnce
}
