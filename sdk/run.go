package heddle

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/sdk/internal/attempt"
)

// Run is the handle of a submitted workflow. [Client.Run] gets it back by its id.
// Nodes are addressed by their path from the root, as in "emails/render"; the
// empty path is the workflow itself, or the one job of a lone one. Nodes without
// names have no path.
type Run struct {
	c  *Client
	id string
}

// ID is the id of the workflow: a UUIDv7 in text.
func (r *Run) ID() string { return r.id }

// ErrNoClient is the error of a Run that was made without a client, as by sdkpgx.
var ErrNoClient = errors.New("run without a client: use Client.Run")

// client gives the run's client.
func (r *Run) client() (*Client, error) {
	if r.c == nil {
		return nil, ErrNoClient
	}
	return r.c, nil
}

// NewRun gives the handle of a workflow that was brought to the engine by another
// way than Submit. Without a client only its ID is of use.
func NewRun(c *Client, id string) *Run { return &Run{c: c, id: id} }

// Status is what is known of a workflow at one moment.
type Status struct {
	ID         string
	Name       string
	State      State
	Paused     bool
	CreatedAt  time.Time
	FinishedAt time.Time // zero: not ended
	// Nodes counts jobs and batches in all.
	Nodes int
	// Jobs of the workflow, and its direct members, by state.
	Jobs, Members Counts
	// Batches, depth first, at most 1,000.
	Batches []BatchStatus
}

// Outcome is zero until the workflow has ended.
func (s *Status) Outcome() Outcome { return s.State.Outcome() }

// Batch finds a batch by its path; nil if there is none.
func (s *Status) Batch(path string) *BatchStatus {
	for i := range s.Batches {
		if s.Batches[i].Path == path {
			return &s.Batches[i]
		}
	}
	return nil
}

// BatchStatus is what is known of a batch at one moment.
type BatchStatus struct {
	Node       int
	Name       string
	Path       string
	State      State
	Members    Counts // direct ones
	Open       bool
	StartedAt  time.Time
	FinishedAt time.Time
}

// Counts are numbers of nodes by state.
type Counts struct {
	Total, Blocked, Scheduled, Available, Running, Retryable int64
	Succeeded, Failed, Cancelled, Skipped                    int64
}

// Ended counts the nodes that have an outcome.
func (c Counts) Ended() int64 { return c.Succeeded + c.Failed + c.Cancelled + c.Skipped }

func countsOf(c *heddlev1.Counts) Counts {
	return Counts{
		Total: c.GetTotal(), Blocked: c.GetBlocked(), Scheduled: c.GetScheduled(), Available: c.GetAvailable(),
		Running: c.GetRunning(), Retryable: c.GetRetryable(), Succeeded: c.GetSucceeded(), Failed: c.GetFailed(),
		Cancelled: c.GetCancelled(), Skipped: c.GetSkipped(),
	}
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func statusOf(w *heddlev1.Workflow) *Status {
	s := &Status{
		ID: w.GetId(), Name: w.GetName(), State: stateOf(w.GetState()), Paused: w.GetPaused(),
		CreatedAt: timeOf(w.GetCreatedAt()), FinishedAt: timeOf(w.GetFinishedAt()),
		Nodes: int(w.GetNodes()), Jobs: countsOf(w.GetJobs()), Members: countsOf(w.GetMembers()),
	}
	for _, b := range w.GetBatches() {
		s.Batches = append(s.Batches, BatchStatus{
			Node: int(b.GetNode()), Name: b.GetName(), Path: b.GetPath(), State: stateOf(b.GetState()),
			Members: countsOf(b.GetMembers()), Open: b.GetOpen(),
			StartedAt: timeOf(b.GetStartedAt()), FinishedAt: timeOf(b.GetFinishedAt()),
		})
	}
	return s
}

// Get reads the present status.
func (r *Run) Get(ctx context.Context) (*Status, error) {
	c, err := r.client()
	if err != nil {
		return nil, err
	}
	return call(ctx, c, "get workflow", repeatable, func(ctx context.Context, e *endpoint, _ int) (*Status, error) {
		res, err := e.workflows.Get(ctx, connect.NewRequest(&heddlev1.GetRequest{WorkflowId: r.id}))
		if err != nil {
			return nil, err
		}
		return statusOf(res.Msg.GetWorkflow()), nil
	})
}

// Wait waits until the workflow has ended, or until the nodes at the paths have,
// and gives the outcome of the (last) one. It goes on through restarts of the
// engine until ctx ends or no engine has answered for ClientConfig.RetryFor. A
// handler may wait for what it has submitted, but not for its own workflow or
// batch: that is refused.
func (r *Run) Wait(ctx context.Context, paths ...string) (Outcome, error) {
	if len(paths) == 0 {
		paths = []string{""}
	}
	var o Outcome
	for _, path := range paths {
		end, err := r.wait(ctx, path)
		if err != nil {
			return 0, err
		}
		o = stateOf(end.GetState()).Outcome()
	}
	return o, nil
}

// waitFor is how long one call waits.
const waitFor = time.Minute

func (r *Run) wait(ctx context.Context, path string) (*heddlev1.WaitResponse, error) {
	c, err := r.client()
	if err != nil {
		return nil, err
	}
	req := &heddlev1.WaitRequest{WorkflowId: r.id, Path: path, Timeout: durationpb.New(waitFor)}
	if a := attempt.From(ctx); a != nil {
		req.Lease = a.Ref()
	}
	for {
		end, err := call(ctx, c, "wait", repeatable, func(ctx context.Context, e *endpoint, _ int) (*heddlev1.WaitResponse, error) {
			res, err := e.workflows.Wait(ctx, connect.NewRequest(req))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		})
		if err != nil || end.GetEnded() {
			return end, err
		}
	}
}

// Watch gives the status at once and after changes, at most some times a second,
// and ends after the one with the outcome. When the connection breaks it goes on
// with another. An error ends it.
func (r *Run) Watch(ctx context.Context) iter.Seq2[*Status, error] {
	return func(yield func(*Status, error) bool) {
		c, err := r.client()
		if err != nil {
			yield(nil, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for {
			var more, ended bool
			_, err := call(ctx, c, "watch", repeatable, func(ctx context.Context, e *endpoint, _ int) (struct{}, error) {
				more, ended = true, false
				sctx, cancel := context.WithCancel(ctx)
				defer cancel()
				stream, err := e.workflows.Watch(sctx, connect.NewRequest(&heddlev1.WatchRequest{WorkflowId: r.id}))
				if err != nil {
					return struct{}{}, err
				}
				defer stream.Close()
				defer cancel() // first: Close waits for what is still to come
				seen := false
				for stream.Receive() {
					seen = true
					s := statusOf(stream.Msg().GetWorkflow())
					ended = s.Outcome() != 0
					if more = yield(s, nil); !more || ended {
						return struct{}{}, nil
					}
				}
				if seen {
					return struct{}{}, nil // broke after it had worked: the time for retries starts again
				}
				return struct{}{}, stream.Err()
			})
			switch {
			case err != nil:
				yield(nil, err)
				return
			case !more || ended:
				return
			case ctx.Err() != nil:
				yield(nil, fmt.Errorf("watch: %w", ctx.Err()))
				return
			}
			if sleep(ctx, newBackoff().delay()) != nil {
				yield(nil, fmt.Errorf("watch: %w", ctx.Err()))
				return
			}
		}
	}
}

// each calls do for each path, or for the empty one.
func (r *Run) each(ctx context.Context, op string, s safety, paths []string, do func(ctx context.Context, e *endpoint, path string) error) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		paths = []string{""}
	}
	for _, path := range paths {
		what := op
		if path != "" {
			what += " " + path
		}
		_, err := call(ctx, c, what, s, func(ctx context.Context, e *endpoint, _ int) (struct{}, error) {
			return struct{}{}, do(ctx, e, path)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Cancel cancels the nodes at the paths, or without paths the whole workflow.
// What waits becomes cancelled; running jobs are told through their context.
// Nodes marked Cleanup still follow their edges.
func (r *Run) Cancel(ctx context.Context, paths ...string) error {
	return r.cancel(ctx, false, paths)
}

// ForceCancel is Cancel that takes in nodes marked Cleanup.
func (r *Run) ForceCancel(ctx context.Context, paths ...string) error {
	return r.cancel(ctx, true, paths)
}

func (r *Run) cancel(ctx context.Context, force bool, paths []string) error {
	return r.each(ctx, "cancel", repeatable, paths, func(ctx context.Context, e *endpoint, path string) error {
		_, err := e.workflows.Cancel(ctx, connect.NewRequest(&heddlev1.CancelRequest{WorkflowId: r.id, Path: path, Force: force}))
		return err
	})
}

// RetryOptions say what to retry.
type RetryOptions struct {
	// Path of a job or batch. Empty: all that failed or was cancelled.
	Path string
	// Downstream: also what ran after it. Without it a continuation that has run
	// does not run again.
	Downstream bool
}

// Retry takes back the outcome of jobs that failed or were cancelled, and of what
// ended because of them, and gives the number of jobs that will run again. After
// a lost answer it is not repeated: the error is ErrUnavailable, and it may have
// happened.
func (r *Run) Retry(ctx context.Context, opts RetryOptions) (int, error) {
	c, err := r.client()
	if err != nil {
		return 0, err
	}
	return call(ctx, c, "retry", onceOnly, func(ctx context.Context, e *endpoint, _ int) (int, error) {
		res, err := e.workflows.Retry(ctx, connect.NewRequest(&heddlev1.RetryRequest{
			WorkflowId: r.id, Path: opts.Path, Downstream: opts.Downstream,
		}))
		if err != nil {
			return 0, err
		}
		return int(res.Msg.GetJobs()), nil
	})
}

// Dismiss declares a failed or cancelled job succeeded. The result, encoded as
// JSON, becomes the job's; nil or None: none. The note is kept.
func (r *Run) Dismiss(ctx context.Context, path string, result any, note string) error {
	var body []byte
	if result != nil {
		var err error
		if body, err = encode(result); err != nil {
			return invalid(fmt.Errorf("result: %w", err))
		}
	}
	return r.each(ctx, "dismiss", onceOnly, []string{path}, func(ctx context.Context, e *endpoint, path string) error {
		_, err := e.workflows.Dismiss(ctx, connect.NewRequest(&heddlev1.DismissRequest{WorkflowId: r.id, Path: path, Result: body, Note: note}))
		return err
	})
}

// GiveUp ends the hold of a failed node: the edges that waited for it die.
func (r *Run) GiveUp(ctx context.Context, path string) error {
	return r.each(ctx, "give up", repeatable, []string{path}, func(ctx context.Context, e *endpoint, path string) error {
		_, err := e.workflows.GiveUp(ctx, connect.NewRequest(&heddlev1.GiveUpRequest{WorkflowId: r.id, Path: path}))
		return err
	})
}

// Seal lets open batches end once their members have; without paths the workflow.
func (r *Run) Seal(ctx context.Context, paths ...string) error {
	return r.each(ctx, "seal", repeatable, paths, func(ctx context.Context, e *endpoint, path string) error {
		_, err := e.workflows.Seal(ctx, connect.NewRequest(&heddlev1.SealRequest{WorkflowId: r.id, Path: path}))
		return err
	})
}

// Pause holds back what has not started; running jobs finish.
func (r *Run) Pause(ctx context.Context) error {
	return r.each(ctx, "pause", repeatable, nil, func(ctx context.Context, e *endpoint, _ string) error {
		_, err := e.workflows.Pause(ctx, connect.NewRequest(&heddlev1.PauseRequest{WorkflowId: r.id}))
		return err
	})
}

// Resume ends a pause.
func (r *Run) Resume(ctx context.Context) error {
	return r.each(ctx, "resume", repeatable, nil, func(ctx context.Context, e *endpoint, _ string) error {
		_, err := e.workflows.Resume(ctx, connect.NewRequest(&heddlev1.ResumeRequest{WorkflowId: r.id}))
		return err
	})
}

// Delete removes an ended workflow with all that is kept of it.
func (r *Run) Delete(ctx context.Context) error {
	return r.each(ctx, "delete", onceOnly, nil, func(ctx context.Context, e *endpoint, _ string) error {
		_, err := e.workflows.Delete(ctx, connect.NewRequest(&heddlev1.DeleteRequest{WorkflowId: r.id}))
		return err
	})
}

// Append adds nodes to the batch at the path; the empty path is the workflow,
// which runs again if it had ended. The nodes may wait for each other and, named
// by [Existing], for nodes that are inside that batch already. Nothing is added
// twice, also when a call is repeated after a lost answer.
func (r *Run) Append(ctx context.Context, batch string, fn func(g *Group)) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	graph, err := build(fn)
	if err != nil {
		return err
	}
	key, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("append: make a key: %w", err)
	}
	return c.appendGraph(ctx, &heddlev1.AppendRequest{WorkflowId: r.id, Batch: batch, Graph: graph, Key: "append/" + key.String()})
}

// build makes the graph of a function that fills a group.
func build(fn func(g *Group)) (*heddlev1.Graph, error) {
	g := &Group{b: &builder{paths: true}}
	fn(g)
	return g.whole()
}

func (c *Client) appendGraph(ctx context.Context, req *heddlev1.AppendRequest) error {
	if len(req.GetGraph().GetNodes()) == 0 {
		return nil
	}
	_, err := call(ctx, c, "append", repeatable, func(ctx context.Context, e *endpoint, _ int) (struct{}, error) {
		_, err := e.workflows.Append(ctx, connect.NewRequest(req))
		return struct{}{}, err
	})
	return err
}
