package heddle

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/sdk/internal/attempt"
)

// Info is what a handler may know of its job.
type Info struct {
	// WorkflowID is the id of the workflow, Node the job's number in it.
	WorkflowID string
	Node       int
	// Name of the node; empty: none.
	Name        string
	Kind, Queue string
	// Attempt is the number of this attempt, from 1. An attempt that was given
	// back or snoozed has the same number again.
	Attempt, MaxAttempts int
	Priority             int
	// Batch is the number of the containing batch; 0 is the root.
	Batch int
	// Lone jobs were submitted on their own.
	Lone bool
	// Headers given at Submit.
	Headers          map[string]string
	Tags             []string
	CreatedAt, RunAt time.Time
}

// ID is the id of the job: the workflow's and the number of the node, as in
// "01890a5d-ac96-774b-bcce-b302099a8057/1". It is the same for every attempt.
func (i Info) ID() string { return fmt.Sprintf("%s/%d", i.WorkflowID, i.Node) }

// JobInfo tells a handler which job it runs. Outside handlers it is zero.
func JobInfo(ctx context.Context) Info {
	a := attempt.From(ctx)
	if a == nil {
		return Info{}
	}
	l := a.Lease
	return Info{
		WorkflowID: a.WorkflowID(), Node: int(l.GetNode()), Name: l.GetName(), Kind: l.GetKind(), Queue: l.GetQueue(),
		Attempt: int(l.GetAttempt()), MaxAttempts: int(l.GetMaxAttempts()), Priority: int(l.GetPriority()),
		Batch: int(l.GetBatch()), Lone: l.GetLone(),
		Headers: maps.Clone(l.GetOptions().GetHeaders()), Tags: slices.Clone(l.GetOptions().GetTags()),
		CreatedAt: timeOf(l.GetCreatedAt()), RunAt: timeOf(l.GetRunAt()),
	}
}

// Logger is the worker's logger with the job's attributes: workflow, node, kind,
// attempt and name. Outside handlers it is [slog.Default].
func Logger(ctx context.Context) *slog.Logger {
	a := attempt.From(ctx)
	if a == nil || a.Log == nil {
		return slog.Default()
	}
	return a.Logger()
}

// Progress says that the handler is alive and how far it has come: done of total,
// 0 if unknown, and a note. A job with a HeartbeatTimeout whose handler is silent
// for longer is ended with ErrTimeout, and the error tells the progress it made.
// Outside handlers it does nothing.
func Progress(ctx context.Context, done, total int64, note string) {
	if a := attempt.From(ctx); a != nil && a.Progress != nil {
		a.Progress(done, total, note)
	}
}

// Then is the graph that continues the job: nodes for the batch the job is in,
// committed together with its success. It exists if and only if this attempt
// succeeds; a failed attempt leaves nothing. The nodes may wait for each other; a
// mistake in the graph fails the attempt. Only the handler's own goroutine may
// fill the group. Outside handlers Then panics.
func Then(ctx context.Context) *Group {
	a := attempt.From(ctx)
	if a == nil {
		panic("heddle.Then: the context is not a handler's")
	}
	if a.ThenGroup == nil {
		g := &Group{b: &builder{}}
		a.ThenGroup = g
		a.Then = func() (*heddlev1.Graph, error) {
			graph, err := g.whole()
			if err != nil {
				return nil, fmt.Errorf("graph that continues the job: %w", err)
			}
			if len(graph.Nodes) == 0 {
				return nil, nil
			}
			return graph, nil
		}
	}
	return a.ThenGroup.(*Group)
}

// AddNow adds nodes to the batch the running job is in, at once, whatever becomes
// of the job. The key, unique in the workflow and 1 to 200 bytes, makes that
// happen once: a second attempt that adds under the same key changes nothing.
// ErrLeaseLost: the engine has given the job up for lost.
func AddNow(ctx context.Context, key string, fn func(g *Group)) error {
	a := attempt.From(ctx)
	if a == nil || a.Backend == nil {
		return ErrNotInHandler
	}
	if key == "" {
		return invalid(fmt.Errorf("key: empty"))
	}
	if err := checkText("key", key); err != nil {
		return invalid(err)
	}
	graph, err := build(fn)
	if err != nil {
		return err
	}
	if len(graph.GetNodes()) == 0 {
		return nil
	}
	return a.Backend.Append(ctx, key, graph)
}
