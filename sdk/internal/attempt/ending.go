package attempt

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// The causes for which a handler's context ends.
var (
	ErrCancelled = errors.New("job cancelled")
	ErrTimeout   = errors.New("attempt timed out")
	ErrLeaseLost = errors.New("lease lost")
	ErrShutdown  = errors.New("worker is stopping")
)

// ErrPanic is wrapped by the error of a handler that panicked.
var ErrPanic = errors.New("panic")

// Control is an error by which a handler says more than that it failed.
type Control struct {
	Ending heddlev1.Ending
	After  time.Duration
	Err    error
}

// Error is the text of the error within.
func (c *Control) Error() string { return c.Err.Error() }

// Unwrap gives the error within.
func (c *Control) Unwrap() error { return c.Err }

// End is how an attempt ended, ready to be reported.
type End struct {
	Ending heddlev1.Ending
	Error  string
	After  time.Duration
	// Drop: the lease is lost, nobody wants to hear of this end.
	Drop bool
}

// Classify turns what a handler returned into an end. cause is the cause of its
// context at that moment, nil while the context lives. A nil error is a success
// whatever the cause, but for a lost lease, whose results nobody takes.
func Classify(err, cause error) End {
	switch {
	case errors.Is(cause, ErrLeaseLost):
		return End{Drop: true}
	case err == nil:
		return End{Ending: heddlev1.Ending_ENDING_SUCCEEDED}
	}
	text := textOf(err)
	var c *Control
	controlled := errors.As(err, &c)
	switch {
	case errors.Is(cause, ErrCancelled):
		return End{Ending: heddlev1.Ending_ENDING_CANCELLED, Error: text}
	case controlled && c.Ending != heddlev1.Ending_ENDING_FAILED:
		return End{Ending: c.Ending, Error: text, After: c.After}
	case errors.Is(cause, ErrShutdown):
		return End{Ending: heddlev1.Ending_ENDING_RELEASED, Error: text}
	case controlled:
		return End{Ending: c.Ending, Error: text, After: c.After}
	case errors.Is(cause, ErrTimeout):
		if !errors.Is(err, ErrTimeout) {
			text = cause.Error() + ": " + text
		}
		return End{Ending: heddlev1.Ending_ENDING_TIMEOUT, Error: text}
	}
	return End{Ending: heddlev1.Ending_ENDING_FAILED, Error: text}
}

// textOf is the text of an error, also of one whose Error method panics, as that
// of a nil pointer does.
func textOf(err error) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprintf("error of type %T without a text: its Error method panics: %v", err, p)
		}
	}()
	return err.Error()
}

// Run calls a handler; a panic, or a goroutine that the handler ends, becomes an
// error with the stack. done is called with the handler's end, always once.
func Run(ctx context.Context, handler func(context.Context, []byte) ([]byte, error), args []byte, done func([]byte, error)) {
	var (
		result   []byte
		err      error
		returned bool
	)
	defer func() {
		if returned {
			done(result, err)
			return
		}
		if p := recover(); p != nil {
			if e, ok := p.(error); ok {
				err = fmt.Errorf("%w: %w\n\n%s", ErrPanic, e, stack())
			} else {
				err = fmt.Errorf("%w: %v\n\n%s", ErrPanic, p, stack())
			}
		} else {
			err = fmt.Errorf("%w: the handler ended its goroutine\n\n%s", ErrPanic, stack())
		}
		done(nil, err)
	}()
	result, err = handler(ctx, args)
	returned = true
}

// stack is the stack of the panic, without the frames of recovering it.
func stack() string {
	s := string(debug.Stack())
	if i := strings.Index(s, "\npanic("); i >= 0 {
		return s[i+1:]
	}
	return s
}
