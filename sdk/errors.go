package heddle

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/dag"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/sdk/internal/attempt"
)

// The answers of an engine on which callers branch, with [errors.Is].
var (
	// ErrNotFound: no such workflow, node, path or queue.
	ErrNotFound = errors.New("not found")
	// ErrAlreadyExists: the id is taken by another workflow.
	ErrAlreadyExists = errors.New("already exists")
	// ErrInvalid: the input is at fault, whatever the state of the engine.
	ErrInvalid = dag.ErrInvalid
	// ErrRefused: the state of the workflow does not allow it.
	ErrRefused = dag.ErrRefused
	// ErrUnavailable: no engine answered, or none could, for as long as the
	// client tries (ClientConfig.RetryFor).
	ErrUnavailable = errors.New("unavailable")
	// ErrOverloaded: the engine takes no more for now.
	ErrOverloaded = errors.New("overloaded")
	// ErrDenied: the token is missing or does not allow it.
	ErrDenied = errors.New("denied")
	// ErrNoResult: the job has not ended, or did not end well.
	ErrNoResult = errors.New("no result")
	// ErrNotInHandler: the call needs the context of a running handler.
	ErrNotInHandler = errors.New("not in a handler")
)

// The causes for which the context of a handler ends; [context.Cause] gives
// them.
var (
	// ErrCancelled: someone asked for the job, or for something around it, to be
	// cancelled.
	ErrCancelled = attempt.ErrCancelled
	// ErrTimeout: the attempt ran longer than its Timeout or Deadline allows, or
	// was silent for longer than its HeartbeatTimeout.
	ErrTimeout = attempt.ErrTimeout
	// ErrLeaseLost: the engine has given the job up for lost; whatever the
	// handler returns is dropped.
	ErrLeaseLost = attempt.ErrLeaseLost
	// ErrShutdown: the worker stops. An error returned now sends the job back to
	// the front of its queue, and no attempt is counted.
	ErrShutdown = attempt.ErrShutdown
)

// ErrPanic is wrapped by the error of a handler that panicked.
var ErrPanic = attempt.ErrPanic

// CycleError names the starts and ends of nodes that wait for each other in a
// circle. Submit returns it wrapped; find it with [errors.As].
type CycleError = dag.CycleError

// OutcomeError is the error of [Kind.Call] for a job that ended, and not well.
type OutcomeError struct {
	WorkflowID string
	Outcome    Outcome
	// Message is the text of the last error of the handler, if there is one.
	Message string
}

// Error says how the job ended and why.
func (e *OutcomeError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("job %s %s", e.WorkflowID, e.Outcome)
	}
	return fmt.Sprintf("job %s %s: %s", e.WorkflowID, e.Outcome, e.Message)
}

// NoRetry returns err so that the job fails for good, whatever its policy. A nil
// err stays nil.
func NoRetry(err error) error {
	if err == nil {
		return nil
	}
	return &attempt.Control{Ending: heddlev1.Ending_ENDING_FAILED_NO_RETRY, Err: err}
}

// RetryAfter returns err so that the next attempt starts after d instead of the
// delay of the policy. It counts as an attempt. A nil err stays nil; a d below
// zero is taken as zero.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &attempt.Control{Ending: heddlev1.Ending_ENDING_FAILED, After: max(d, time.Microsecond), Err: err}
}

// Snooze ends the attempt so that the job runs again after d. No attempt is
// counted; the deadline over all attempts goes on.
func Snooze(d time.Duration) error {
	return &attempt.Control{Ending: heddlev1.Ending_ENDING_SNOOZED, After: max(d, 0), Err: fmt.Errorf("snoozed for %v", max(d, 0))}
}

// CancelSelf ends the job as cancelled, for the reason given.
func CancelSelf(reason string) error {
	if reason == "" {
		reason = "cancelled by its handler"
	}
	return &attempt.Control{Ending: heddlev1.Ending_ENDING_CANCELLED, Err: errors.New(reason)}
}

// answerError is an error that an engine answered.
type answerError struct {
	op       string
	sentinel error
	message  string
	cause    error // the error of the transport; nil for an answer about one of several
}

func (e *answerError) Error() string {
	if e.sentinel == nil {
		return e.op + ": " + e.message
	}
	return fmt.Sprintf("%s: %v: %s", e.op, e.sentinel, e.message)
}

func (e *answerError) Unwrap() []error {
	var errs []error
	if e.sentinel != nil {
		errs = append(errs, e.sentinel)
	}
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	return errs
}

// sentinels says which error callers see for a Connect code. Codes that are not
// here speak for themselves.
var sentinels = map[connect.Code]error{
	connect.CodeNotFound:           ErrNotFound,
	connect.CodeAlreadyExists:      ErrAlreadyExists,
	connect.CodeInvalidArgument:    ErrInvalid,
	connect.CodeOutOfRange:         ErrInvalid,
	connect.CodeFailedPrecondition: ErrRefused,
	connect.CodeAborted:            ErrLeaseLost,
	connect.CodeUnavailable:        ErrUnavailable,
	connect.CodeResourceExhausted:  ErrOverloaded,
	connect.CodeUnauthenticated:    ErrDenied,
	connect.CodePermissionDenied:   ErrDenied,
}

// fromConnect gives the error of a call the form callers branch on.
func fromConnect(op string, err error) error {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return fmt.Errorf("%s: %w", op, err)
	}
	if reset(err) {
		return &answerError{op: op, sentinel: ErrUnavailable, message: ce.Message(), cause: err}
	}
	if ce.Code() == connect.CodeCanceled || ce.Code() == connect.CodeDeadlineExceeded {
		return fmt.Errorf("%s: %w", op, err)
	}
	sentinel := sentinels[ce.Code()]
	message := ce.Message()
	if sentinel == nil {
		message = ce.Code().String() + ": " + message
	} else {
		message = strings.TrimPrefix(message, sentinel.Error()+": ")
	}
	return &answerError{op: op, sentinel: sentinel, message: message, cause: err}
}

// fromCode does the same for a code that came by name.
func fromCode(op, name, message string) error {
	var code connect.Code
	if err := code.UnmarshalText([]byte(name)); err != nil {
		return &answerError{op: op, message: name + ": " + message}
	}
	return fromConnect(op, connect.NewError(code, errors.New(message)))
}
