package heddle

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/internal/signpost"
)

// backoff spreads repeated calls: delays double from first to most, each cut at
// random to between a half and the whole of it.
type backoff struct {
	first, most time.Duration
	next        time.Duration
}

func newBackoff() *backoff { return &backoff{first: 50 * time.Millisecond, most: 5 * time.Second} }

// reset starts again with the first delay.
func (b *backoff) reset() { b.next = 0 }

// delay gives the next delay.
func (b *backoff) delay() time.Duration {
	if b.next == 0 {
		b.next = b.first
	}
	d := b.next
	b.next = min(2*b.next, b.most)
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// attempts paces the calls of a loop that goes on until one is answered. After a
// failure it turns to another engine at once, and pauses when each has been
// asked; even a single one is asked again without a pause the first time. An
// engine that is overloaded is left alone.
type attempts struct {
	failed int // in a row
	backoff
}

func newAttempts() *attempts { return &attempts{backoff: *newBackoff()} }

// reset is for after an answer.
func (a *attempts) reset() {
	a.failed = 0
	a.backoff.reset()
}

// pause gives the time before the next try, after one that failed with err.
func (a *attempts) pause(engines int, err error) time.Duration {
	a.failed++
	if (a.failed == 1 || a.failed%engines != 0) && connect.CodeOf(err) != connect.CodeResourceExhausted {
		return 0
	}
	return max(a.delay(), pause(err))
}

// safety says when a call may be repeated.
type safety uint8

const (
	// repeatable calls change nothing the second time.
	repeatable safety = iota
	// onceOnly calls are repeated only if the engine surely did nothing.
	onceOnly
)

// call asks one engine after the other until one answers. try is 0 the first
// time. Answers that are errors of the request itself end it at once.
func call[T any](ctx context.Context, c *Client, op string, s safety, do func(ctx context.Context, e *endpoint, try int) (T, error)) (T, error) {
	var (
		zero  T
		wait  = newBackoff()
		start = time.Now()
	)
	for try := 0; ; try++ {
		e := c.engines.current.Load()
		v, err := do(ctx, e, try)
		if err == nil {
			e.reached()
			return v, nil
		}
		if ctx.Err() != nil || !again(err, s) || c.cfg.RetryFor < 0 || time.Since(start) >= c.cfg.RetryFor {
			return zero, fromConnect(op, err)
		}
		if !connect.IsWireError(err) {
			e.shun()
		}
		c.engines.leave(e)
		// The other engines are asked without delay, then all of them with one.
		if (try+1)%c.engines.number() == 0 || connect.CodeOf(err) == connect.CodeResourceExhausted {
			left := c.cfg.RetryFor - time.Since(start)
			d := min(max(wait.delay(), pause(err)), max(left, 0))
			if werr := sleep(ctx, d); werr != nil {
				return zero, fromConnect(op, err)
			}
		}
	}
}

// again says whether the call may be repeated after err.
func again(err error, s safety) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable:
		return s == repeatable || connect.IsWireError(err) && !doubtful(err) || neverSent(err)
	case connect.CodeResourceExhausted:
		// Without a delay it is the request that is too large.
		return pause(err) > 0
	case connect.CodeUnknown, connect.CodeInternal, connect.CodeCanceled:
		// A connection that broke in the middle, told by the transport.
		return s == repeatable && !connect.IsWireError(err) && broken(err)
	}
	return false
}

// doubtful: the engine says that it may have done it all the same.
func doubtful(err error) bool {
	var ce *connect.Error
	return errors.As(err, &ce) && ce.Meta().Get(signpost.Doubt) != ""
}

// reset: the engine's end of the connection went away. Connect calls that
// cancelled, though nobody on this side has cancelled anything.
func reset(err error) bool {
	return connect.CodeOf(err) == connect.CodeCanceled && !connect.IsWireError(err) && !errors.Is(err, context.Canceled) && broken(err)
}

// neverSent: the connection was not even made.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// broken: a connection, or a stream of one, ended in the middle. HTTP/2 tells that
// by text alone.
func broken(err error) bool {
	var op net.Error
	if errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	text := err.Error()
	return strings.Contains(text, "stream error: stream ID") || strings.Contains(text, "http2: client connection")
}

// pause is how long an engine that is overloaded asks callers to stay away. One
// that is unavailable may name a time as well, for those who know no other engine:
// here the growing delay does, since another one may lead in a moment.
func pause(err error) time.Duration {
	var ce *connect.Error
	if !errors.As(err, &ce) || ce.Code() != connect.CodeResourceExhausted {
		return 0
	}
	seconds, perr := strconv.ParseFloat(ce.Meta().Get("Retry-After"), 64)
	if perr != nil || seconds < 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}
