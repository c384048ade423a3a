package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/signpost"
)

// rule says how the outside sees an error: under which code, and after which
// time a repeat makes sense (0: not by itself).
type rule struct {
	err   error
	code  connect.Code
	retry time.Duration
}

// rules is the one table of errors. The first rule whose error is wrapped
// decides; what no rule knows is looked at by away, else it is internal.
var rules = []rule{
	{model.ErrInvalid, connect.CodeInvalidArgument, 0},
	{dag.ErrInvalid, connect.CodeInvalidArgument, 0},
	{ErrUnknownSession, connect.CodeNotFound, 0},
	{model.ErrNotFound, connect.CodeNotFound, 0},
	{model.ErrAlreadyExists, connect.CodeAlreadyExists, 0},
	{ErrStaleLease, connect.CodeAborted, 0},
	{model.ErrStale, connect.CodeAborted, 0},
	{model.ErrRefused, connect.CodeFailedPrecondition, 0},
	{dag.ErrRefused, connect.CodeFailedPrecondition, 0},
	{model.ErrDoubt, connect.CodeUnavailable, time.Second},
	{ErrNotLeader, connect.CodeUnavailable, 200 * time.Millisecond},
	{ErrUnavailable, connect.CodeUnavailable, time.Second},
	{ErrOverloaded, connect.CodeResourceExhausted, time.Second},
	{context.Canceled, connect.CodeCanceled, 0},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded, 0},
}

// coded turns the errors of handlers into coded ones, and logs those that the
// outside does not get to see.
type coded struct{ log *slog.Logger }

var _ connect.Interceptor = coded{}

// WrapUnary implements connect.Interceptor.
func (c coded) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		if err != nil {
			return nil, c.code(ctx, req.Spec().Procedure, err)
		}
		return res, nil
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (coded) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (c coded) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := next(ctx, conn); err != nil {
			return c.code(ctx, conn.Spec().Procedure, err)
		}
		return nil
	}
}

// code gives the coded error and logs it if it is internal.
func (c coded) code(ctx context.Context, procedure string, err error) error {
	e := outward(err)
	switch {
	case e.Code() != connect.CodeInternal || ctx.Err() != nil:
	case broken(e):
		c.log.DebugContext(ctx, "client broke off", "procedure", procedure, "error", err)
	default:
		c.log.ErrorContext(ctx, "call failed", "procedure", procedure, "error", err)
	}
	return e
}

// broken reports whether Connect found what a client sent cut off, or no message
// at all. It marks that by the text alone.
func broken(e *connect.Error) bool { return strings.HasPrefix(e.Message(), "protocol error: ") }

// errInternal is all that the outside learns of an unforeseen error.
var errInternal = errors.New("internal error; the engine's log says more")

// outward gives an error as the outside sees it.
func outward(err error) *connect.Error {
	var done *connect.Error
	if errors.As(err, &done) {
		return done
	}
	for _, r := range rules {
		if errors.Is(err, r.err) {
			e := later(connect.NewError(r.code, shown(r, err)), r.retry)
			if errors.Is(r.err, model.ErrDoubt) {
				e.Meta().Set(signpost.Doubt, "1")
			}
			return e
		}
	}
	if e := away(err); e != nil {
		return e
	}
	return connect.NewError(connect.CodeInternal, errInternal)
}

// shown is the text of an error. What ended a transaction in doubt, or made
// something unavailable, may hold SQL or addresses: only the sentinel is shown.
func shown(r rule, err error) error {
	if r.code == connect.CodeUnavailable || r.code == connect.CodeResourceExhausted {
		return r.err
	}
	return err
}

// away knows errors of the database and the network that pass by themselves,
// without knowing the driver: by SQLSTATE, and as network errors.
func away(err error) *connect.Error {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return stateCode(state.SQLState())
	}
	var network net.Error
	var safe interface{ SafeToRetry() bool }
	switch {
	case errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF),
		errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.As(err, &safe) && safe.SafeToRetry():
		return later(connect.NewError(connect.CodeUnavailable, errors.New("postgres cannot be reached")), time.Second)
	}
	return nil
}

// stateCode maps a SQLSTATE; nil: the error is internal.
func stateCode(state string) *connect.Error {
	if len(state) != 5 {
		return nil
	}
	switch {
	case state == "53100":
		return later(connect.NewError(connect.CodeResourceExhausted, errors.New("postgres has no disk space left")), 10*time.Second)
	case state == "53300":
		return later(connect.NewError(connect.CodeResourceExhausted, errors.New("postgres has no connection left")), time.Second)
	case state[:2] == "53":
		return later(connect.NewError(connect.CodeResourceExhausted, errors.New("postgres is out of resources")), time.Second)
	case state[:2] == "08", state == "57P01", state == "57P02", state == "57P03":
		return later(connect.NewError(connect.CodeUnavailable, errors.New("postgres cannot be reached")), time.Second)
	case state == "25006":
		return later(connect.NewError(connect.CodeUnavailable, errors.New("postgres is read-only")), time.Second)
	case state == "40001", state == "40P01", state == "55P03":
		return later(connect.NewError(connect.CodeUnavailable, errors.New("postgres asks to try again")), 100*time.Millisecond)
	case state == "57014":
		return connect.NewError(connect.CodeDeadlineExceeded, errors.New("postgres took too long"))
	}
	return nil
}

// later adds the time after which to try again: as google.rpc.RetryInfo, and
// from a second on as a header, which knows only whole ones.
func later(e *connect.Error, after time.Duration) *connect.Error {
	if after <= 0 {
		return e
	}
	if d, err := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); err == nil {
		e.AddDetail(d)
	}
	if after >= time.Second {
		e.Meta().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	return e
}

// transient reports whether the same call may succeed later.
func transient(e *connect.Error) bool {
	return e.Code() == connect.CodeUnavailable || e.Code() == connect.CodeResourceExhausted
}

// recovered turns a panic of a handler into an internal error.
func recovered(log *slog.Logger) func(context.Context, connect.Spec, http.Header, any) error {
	return func(ctx context.Context, spec connect.Spec, _ http.Header, value any) error {
		log.ErrorContext(ctx, "handler panicked", "procedure", spec.Procedure, "panic", value, "stack", string(debug.Stack()))
		return connect.NewError(connect.CodeInternal, errInternal)
	}
}
