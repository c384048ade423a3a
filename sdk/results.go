package heddle

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/sdk/internal/attempt"
)

// Member is what has become of one member of a batch.
type Member[R any] struct {
	// Node is its number in the workflow, Name its name if it has one.
	Node int
	Name string
	// Outcome is zero if the member has not ended.
	Outcome Outcome
	// Value is the result if the member succeeded, else the zero value.
	Value R
	// Error is the text of the last error of a member that failed.
	Error string
}

// source is where results come from.
type source interface {
	results(ctx context.Context, path string, each func(*heddlev1.ResultsResponse) error) error
}

// errNoMore ends a stream early.
var errNoMore = errors.New("no more wanted")

// results streams the results at a path of a run.
func (r *Run) results(ctx context.Context, path string, each func(*heddlev1.ResultsResponse) error) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	return c.results(ctx, &heddlev1.ResultsRequest{WorkflowId: r.id, Path: path}, each)
}

// results streams results. A stream that broke is begun again only if nothing of
// it has been handed on: results are a snapshot.
func (c *Client) results(ctx context.Context, req *heddlev1.ResultsRequest, each func(*heddlev1.ResultsResponse) error) error {
	var (
		started bool
		stop    error
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_, err := call(ctx, c, "results", repeatable, func(ctx context.Context, e *endpoint, _ int) (struct{}, error) {
		stream, err := e.workflows.Results(ctx, connect.NewRequest(req))
		if err != nil {
			return struct{}{}, err
		}
		defer stream.Close()
		for stream.Receive() {
			started = true
			if stop = each(stream.Msg()); stop != nil {
				cancel() // Close waits for what is still to come
				return struct{}{}, nil
			}
		}
		err = stream.Err()
		if err != nil && started {
			stop, err = fromConnect("results", err), nil
		}
		return struct{}{}, err
	})
	if stop != nil {
		return stop
	}
	return err
}

// handlerSource is the running job of ctx.
func handlerSource(ctx context.Context) source {
	a := attempt.From(ctx)
	if a == nil || a.Backend == nil {
		return noSource{}
	}
	return handler{a}
}

type handler struct{ a *attempt.Attempt }

func (h handler) results(ctx context.Context, path string, each func(*heddlev1.ResultsResponse) error) error {
	return h.a.Backend.Results(ctx, path, each)
}

type noSource struct{}

func (noSource) results(context.Context, string, func(*heddlev1.ResultsResponse) error) error {
	return ErrNotInHandler
}

// result reads the result of one job.
func result[R any](ctx context.Context, from source, path string) (R, error) {
	var (
		zero  R
		found *heddlev1.Result
		batch bool
	)
	err := from.results(ctx, path, func(res *heddlev1.ResultsResponse) error {
		if batch = res.GetBatch(); batch {
			return errNoMore
		}
		if len(res.GetResults()) > 0 {
			found = res.GetResults()[0]
			return errNoMore
		}
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errNoMore):
		return zero, fmt.Errorf("result of %q: %w", path, err)
	case batch:
		return zero, fmt.Errorf("result of %q: %w: it is a batch, use Results", path, ErrInvalid)
	case found == nil || found.GetOutcome() == heddlev1.Outcome_OUTCOME_UNSPECIFIED:
		return zero, fmt.Errorf("result of %q: %w: it has not ended", path, ErrNoResult)
	case found.GetOutcome() != heddlev1.Outcome_OUTCOME_SUCCEEDED:
		return zero, fmt.Errorf("result of %q: %w: it ended %s", path, ErrNoResult, Outcome(found.GetOutcome()))
	}
	v, err := decode[R](found.GetResult())
	if err != nil {
		return zero, fmt.Errorf("result of %q: %w", path, err)
	}
	return v, nil
}

// results streams the members of a batch.
func results[R any](ctx context.Context, from source, path string) iter.Seq2[Member[R], error] {
	return func(yield func(Member[R], error) bool) {
		err := from.results(ctx, path, func(res *heddlev1.ResultsResponse) error {
			for _, r := range res.GetResults() {
				m := Member[R]{Node: int(r.GetNode()), Name: r.GetName(), Outcome: Outcome(r.GetOutcome()), Error: r.GetError()}
				if m.Outcome == Succeeded {
					var err error
					if m.Value, err = decode[R](r.GetResult()); err != nil {
						return fmt.Errorf("result of node %d: %w", r.GetNode(), err)
					}
				}
				if !yield(m, nil) {
					return errNoMore
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errNoMore) {
			yield(Member[R]{}, fmt.Errorf("results of %q: %w", path, err))
		}
	}
}
