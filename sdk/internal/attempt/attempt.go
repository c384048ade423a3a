// Package attempt is the seam between handlers and what runs them: the worker,
// which speaks to an engine, and sdktest, which is one in memory. It holds what a
// handler's context carries and the rules by which a handler's end becomes an
// ending. It starts no goroutine and does no I/O.
package attempt

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// Backend is what a running handler may ask of the engine.
type Backend interface {
	// Results reads the results of a job or of the jobs directly in a batch.
	// The path is resolved from the job's own batch outwards.
	Results(ctx context.Context, path string, each func(*heddlev1.ResultsResponse) error) error
	// Append adds nodes to the job's own batch, once per key.
	Append(ctx context.Context, key string, graph *heddlev1.Graph) error
}

// Attempt is one run of a handler.
type Attempt struct {
	Lease   *heddlev1.Lease
	Session uint64
	Backend Backend
	// Log is the logger of whoever runs the attempt; Logger adds the job to it.
	Log *slog.Logger
	// Then makes the graph that continues the workflow; nil: none. ThenGroup is
	// the group the handler fills, of a type of the SDK.
	Then      func() (*heddlev1.Graph, error)
	ThenGroup any
	// Progress is called by a handler that is alive; nil: nobody wants to know.
	Progress func(done, total int64, note string)
}

type key struct{}

// Key is the context key under which From finds an Attempt.
var Key any = key{}

// With returns a context that carries a.
func With(ctx context.Context, a *Attempt) context.Context {
	return context.WithValue(ctx, Key, a)
}

// From returns the attempt of a handler's context; nil outside handlers.
func From(ctx context.Context) *Attempt {
	a, _ := ctx.Value(Key).(*Attempt)
	return a
}

// WorkflowID is the text of the workflow's id.
func (a *Attempt) WorkflowID() string {
	id, err := uuid.FromBytes(a.Lease.GetWorkflowId())
	if err != nil {
		return ""
	}
	return id.String()
}

// Ref names the lease under which the attempt runs.
func (a *Attempt) Ref() *heddlev1.LeaseRef {
	return &heddlev1.LeaseRef{
		WorkflowId: a.Lease.GetWorkflowId(),
		Node:       a.Lease.GetNode(),
		Lease:      a.Lease.GetLease(),
		Session:    a.Session,
	}
}

// Logger adds the job's attributes to the logger of the attempt.
func (a *Attempt) Logger() *slog.Logger {
	attrs := []any{
		slog.String("workflow", a.WorkflowID()),
		slog.Int("node", int(a.Lease.GetNode())),
		slog.String("kind", a.Lease.GetKind()),
		slog.Int("attempt", int(a.Lease.GetAttempt())),
	}
	if name := a.Lease.GetName(); name != "" {
		attrs = append(attrs, slog.String("name", name))
	}
	return a.Log.With(attrs...)
}

// Limit is how long the attempt may run: the shorter of its timeout and what is
// left of the deadline over all attempts. Zero: no limit.
func Limit(l *heddlev1.Lease) time.Duration {
	var limit time.Duration
	if t := l.GetOptions().GetTimeout(); t != nil {
		limit = t.AsDuration()
	}
	if d := l.GetDeadlineIn(); d != nil {
		left := max(d.AsDuration(), time.Nanosecond)
		if limit == 0 || left < limit {
			limit = left
		}
	}
	return limit
}
