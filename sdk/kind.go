package heddle

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"google.golang.org/protobuf/types/known/timestamppb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// None is the argument or the result of kinds that have none.
type None struct{}

// Kind is a sort of job: a name that selects the handler, with the types of its
// arguments A and its result R. Both travel as JSON ([encoding/json]). Producers
// and workers share the value; make it with [NewKind].
type Kind[A, R any] struct {
	name     string
	defaults *JobOptions
}

// NewKind names a kind: 1 to 200 bytes, which are stored with each job and must
// not change while jobs of it are unfinished. The defaults hold for each of its
// jobs.
func NewKind[A, R any](name string, defaults ...JobOptions) Kind[A, R] {
	var o JobOptions
	for _, d := range defaults {
		o = o.merge(d)
	}
	return Kind[A, R]{name: name, defaults: &o}
}

// Name gives the name of the kind.
func (k Kind[A, R]) Name() string { return k.name }

// Job is one unit of work to submit or to put into a graph. It is made by
// [Kind.Job] and can be used any number of times.
type Job struct {
	kind string
	args []byte
	opts *JobOptions // shared, never changed
	err  error       // arguments that cannot be encoded
}

var noOptions JobOptions

// Job makes a job. Options merge from left to right over the kind's defaults.
// Arguments that JSON cannot hold are a mistake that Submit returns.
func (k Kind[A, R]) Job(args A, opts ...JobOptions) Job {
	j := Job{kind: k.name, opts: k.defaults}
	if j.opts == nil {
		j.opts = &noOptions
	}
	if len(opts) > 0 {
		o := *j.opts
		for _, p := range opts {
			o = o.merge(p)
		}
		j.opts = &o
	}
	j.args, j.err = encode(args)
	return j
}

// Handle registers the handler of the kind. A handler that returns nil declares
// its job done: the job has succeeded and what waits for its success starts, also
// when the job was asked to cancel, its time was up or the worker is stopping
// meanwhile. So a handler whose context has ended must return an error unless its
// work is complete.
//
// Any error fails the attempt, and the retry policy decides whether there is
// another one; [NoRetry], [RetryAfter], [Snooze] and [CancelSelf] say more. A
// panic is an error with its stack. Once the context has ended, [context.Cause]
// tells why: [ErrCancelled], [ErrTimeout], [ErrShutdown] or [ErrLeaseLost]. A job
// may run more than once, for example when its worker dies: handlers should be
// safe to repeat.
func (k Kind[A, R]) Handle(w Registry, fn func(ctx context.Context, args A) (R, error)) {
	w.Register(k.name, func(ctx context.Context, raw []byte) ([]byte, error) {
		args, err := decode[A](raw)
		if err != nil {
			return nil, fmt.Errorf("arguments of kind %q: %w", k.name, err)
		}
		result, err := fn(ctx, args)
		if err != nil {
			return nil, err
		}
		body, err := encode(result)
		if err != nil {
			return nil, fmt.Errorf("result of kind %q: %w", k.name, err)
		}
		return body, nil
	})
}

// Do registers a handler that has no result. Returning nil declares the job done,
// also after a cancel: see [Kind.Handle] for all rules.
func (k Kind[A, R]) Do(w Registry, fn func(ctx context.Context, args A) error) {
	w.Register(k.name, func(ctx context.Context, raw []byte) ([]byte, error) {
		args, err := decode[A](raw)
		if err != nil {
			return nil, fmt.Errorf("arguments of kind %q: %w", k.name, err)
		}
		return nil, fn(ctx, args)
	})
}

// Call submits one job and waits for its result. A job that ends otherwise is an
// [*OutcomeError]. When ctx ends, the job goes on.
func (k Kind[A, R]) Call(ctx context.Context, c *Client, args A, opts ...JobOptions) (R, error) {
	var zero R
	run, err := c.Submit(ctx, k.Job(args, opts...))
	if err != nil {
		return zero, err
	}
	end, err := run.wait(ctx, "")
	if err != nil {
		return zero, err
	}
	if o := stateOf(end.GetState()).Outcome(); o != Succeeded {
		return zero, &OutcomeError{WorkflowID: run.ID(), Outcome: o, Message: end.GetError()}
	}
	return decode[R](end.GetResult())
}

// Result gives the result of a job by its name or path, inside a handler. The
// path is looked up in the batch of the running job first, then in the batches
// around it. ErrNoResult: the job has not ended, or did not succeed. ErrNotFound:
// there is no such node.
func (k Kind[A, R]) Result(ctx context.Context, path string) (R, error) {
	return result[R](ctx, handlerSource(ctx), path)
}

// Results streams what has become of the jobs directly in a batch, inside a
// handler, in the order of their nodes, as of the start of the iteration. Jobs
// that failed, were skipped or cancelled, or have not ended are among them, with
// their outcome. The path is looked up as by [Kind.Result]. An error ends the
// iteration.
func (k Kind[A, R]) Results(ctx context.Context, path string) iter.Seq2[Member[R], error] {
	return results[R](ctx, handlerSource(ctx), path)
}

// ResultOf gives the result of a job of a run by its path, from anywhere. The
// empty path is a lone job. See [Kind.Result] for the errors.
func (k Kind[A, R]) ResultOf(ctx context.Context, run *Run, path string) (R, error) {
	return result[R](ctx, run, path)
}

// ResultsOf streams what has become of the jobs directly in a batch of a run,
// from anywhere. The empty path is the workflow itself. See [Kind.Results].
func (k Kind[A, R]) ResultsOf(ctx context.Context, run *Run, path string) iter.Seq2[Member[R], error] {
	return results[R](ctx, run, path)
}

// encode gives the JSON of a value; None has no bytes.
func encode[T any](v T) ([]byte, error) {
	if _, none := any(v).(None); none {
		return nil, nil
	}
	return json.Marshal(v)
}

// decode reads a value; no bytes are the zero value.
func decode[T any](raw []byte) (T, error) {
	var v T
	if len(raw) == 0 {
		return v, nil
	}
	if _, none := any(v).(None); none {
		return v, nil
	}
	err := json.Unmarshal(raw, &v)
	return v, err
}

// check gives the faults of a job.
func (j *Job) check() error {
	switch {
	case j.opts == nil:
		return fmt.Errorf("job without a kind: make it with Kind.Job")
	case j.kind == "":
		return fmt.Errorf("kind: empty")
	case j.err != nil:
		return fmt.Errorf("arguments of kind %q: %w", j.kind, j.err)
	}
	return checkText("kind", j.kind)
}

// spec gives the job as it is sent. rare is j.opts.proto(), which callers share
// between jobs of the same options.
func (j *Job) spec(rare *heddlev1.JobOptions) *heddlev1.JobSpec {
	s := &heddlev1.JobSpec{
		Kind:     j.kind,
		Queue:    j.opts.Queue,
		Priority: int32(j.opts.Priority),
		Args:     j.args,
		Key:      j.opts.Key,
		Options:  rare,
	}
	if !j.opts.RunAt.IsZero() {
		s.RunAt = timestamppb.New(j.opts.RunAt)
	}
	return s
}
