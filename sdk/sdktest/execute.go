package sdktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/dag"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/policy"
	heddle "github.com/heddle-io/heddle/sdk"
	"github.com/heddle-io/heddle/sdk/internal/attempt"
)

// handle sets a handler with a fixed end.
func (e *Engine) handle(kind string, result any, err error) {
	e.Register(kind, func(context.Context, []byte) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		if _, none := result.(heddle.None); none {
			return nil, nil
		}
		return json.Marshal(result)
	})
}

// execute runs a job whose time has come.
func (r *Run) execute(id dag.ID) {
	e, j := r.e, r.jobs[id]
	e.t.Helper()
	if !j.deadline.IsZero() && !e.now.Before(j.deadline) {
		j.err = "deadline over all attempts exceeded"
		r.end(id, dag.Failed)
		return
	}
	h := e.handlers[j.spec.GetKind()]
	if h == nil {
		e.t.Fatalf("sdktest: no handler for kind %q", j.spec.GetKind())
	}
	if err := r.sim.Start(id); err != nil {
		e.t.Fatalf("sdktest: %v", err)
	}
	e.calls[j.spec.GetKind()] = append(e.calls[j.spec.GetKind()], slices.Clone(j.spec.GetArgs()))
	a := &attempt.Attempt{Lease: r.lease(id), Backend: backend{r, id}, Log: e.log}
	run := begin(attempt.With(e.t.Context(), a), attempt.Limit(a.Lease), e.now)
	defer run.stop()
	j.running = run
	e.mu.Unlock()
	attempt.Run(run, h, j.spec.GetArgs(), func(result []byte, err error) {
		cause, forgot := run.ended(err)
		var then *heddlev1.Graph
		if err == nil && a.Then != nil {
			then, err = a.Then() // reads sequences of the user's
		}
		e.mu.Lock()
		j.running = nil
		if over := run.start.Add(run.limit); errors.Is(cause, heddle.ErrTimeout) && over.After(e.now) {
			e.now = over
		}
		if forgot {
			e.t.Errorf("sdktest: the handler of kind %q returned nil when its context ended, which declares success: return the error (%v)", j.spec.GetKind(), cause)
		}
		r.ended(id, then, result, err, cause)
	})
}

// lease describes the job to its handler.
func (r *Run) lease(id dag.ID) *heddlev1.Lease {
	j, n := r.jobs[id], r.sim.Node(id)
	opts := &heddlev1.JobOptions{}
	if o := j.spec.GetOptions(); o != nil {
		opts = proto.Clone(o).(*heddlev1.JobOptions)
	}
	headers := maps.Clone(r.headers)
	if headers == nil {
		headers = make(map[string]string)
	}
	maps.Copy(headers, opts.GetHeaders())
	opts.Headers = headers
	queue := j.spec.GetQueue()
	if queue == "" {
		queue = "default"
	}
	var left *durationpb.Duration
	if !j.deadline.IsZero() {
		left = durationpb.New(j.deadline.Sub(r.e.now))
	}
	return &heddlev1.Lease{
		DeadlineIn: left,
		WorkflowId: r.id[:], Node: int32(id), Lease: uint64(j.turn), Kind: j.spec.GetKind(), Queue: queue, Name: j.name,
		Attempt: int32(j.attempt + 1), MaxAttempts: int32(j.attempt - j.tries + policy.Attempts(j.spec.GetOptions().GetRetry())),
		Args: j.spec.GetArgs(), Options: opts, Batch: int32(n.Batch), Lone: r.lone, Priority: r.priority(id),
		CreatedAt: timestamppb.New(r.created), RunAt: timestamppb.New(r.e.now),
	}
}

// ended decides what becomes of a job after an attempt.
func (r *Run) ended(id dag.ID, then *heddlev1.Graph, result []byte, err, cause error) {
	j, e := r.jobs[id], r.e
	end := attempt.Classify(err, cause)
	if end.Ending == heddlev1.Ending_ENDING_SUCCEEDED {
		j.attempt++
		j.tries++
		j.result, j.err = result, ""
		err := r.succeeded(id, then)
		if err == nil {
			return
		}
		// The engine refuses the returned graph: the attempt has failed.
		j.attempt--
		j.tries--
		j.result = nil
		end = attempt.Classify(err, nil)
	}
	j.err = end.Error
	told := r.sim.Node(id).Cancelled
	if end.Ending == heddlev1.Ending_ENDING_SNOOZED && !told {
		r.sim.Stop(id)
		r.queue(&e.waiting, id, e.now.Add(end.After))
		return
	}
	j.attempt++
	j.tries++
	retry := j.spec.GetOptions().GetRetry()
	switch {
	case told || end.Ending == heddlev1.Ending_ENDING_CANCELLED:
		r.end(id, dag.Cancelled)
	case end.Ending == heddlev1.Ending_ENDING_FAILED_NO_RETRY || j.tries >= policy.Attempts(retry):
		r.end(id, dag.Failed)
	default:
		delay := end.After
		if delay == 0 {
			delay = policy.Delay(retry, j.tries, 0.5)
		}
		next := e.now.Add(delay)
		if !j.deadline.IsZero() && !next.Before(j.deadline) {
			r.end(id, dag.Failed)
			return
		}
		r.sim.Stop(id)
		r.queue(&e.retries, id, next)
	}
}

// succeeded ends a job well, together with the graph it returned.
func (r *Run) succeeded(id dag.ID, then *heddlev1.Graph) error {
	report := dag.Event{Kind: dag.Report, Node: id, Outcome: dag.Succeeded}
	if then == nil {
		_, err := r.apply(report)
		return err
	}
	return r.grow(r.sim.Node(id).Batch, then, report)
}

// grow puts a graph into a batch, with what happens in the same moment.
func (r *Run) grow(batch dag.ID, wire *heddlev1.Graph, after ...dag.Event) error {
	graph, err := r.graph(wire, batch)
	if err != nil {
		return err
	}
	first := dag.ID(len(r.sim.Nodes()))
	taken := func(name string) bool { _, ok := r.names[batch][name]; return ok }
	nodes, edges, err := graph.Grow(dag.Into{Batch: batch, First: first, Taken: taken}, dag.Limits{})
	if err != nil {
		return err
	}
	events := append([]dag.Event{{Kind: dag.Append, Node: batch, New: nodes, Edges: edges, Inside: true}}, after...)
	before := len(r.jobs)
	r.record(wire, graph, first) // apply queues the new jobs
	d, err := r.apply(events...)
	if err != nil || len(d.Dropped) > 0 {
		for i, spec := range wire.GetNodes() {
			delete(r.names, first+dag.ID(i))
			if graph.Nodes[i].Batch == batch {
				delete(r.names[batch], spec.GetName())
			}
		}
		r.jobs = r.jobs[:before]
	}
	return err
}

// end writes an outcome that is not a success.
func (r *Run) end(id dag.ID, o dag.Outcome) {
	r.e.t.Helper()
	r.jobs[id].turn++
	if _, err := r.apply(dag.Event{Kind: dag.Report, Node: id, Outcome: o}); err != nil {
		r.e.t.Fatalf("sdktest: end of node %d: %v", id, err)
	}
}

// backend answers what a running handler asks.
type backend struct {
	r  *Run
	id dag.ID
}

// Results reads the results at a path, from the job's own batch outwards.
func (b backend) Results(_ context.Context, path string, each func(*heddlev1.ResultsResponse) error) error {
	res, err := b.results(path)
	if err != nil {
		return err
	}
	return each(res)
}

func (b backend) results(path string) (*heddlev1.ResultsResponse, error) {
	r := b.r
	defer r.e.lock()()
	id, err := r.resolve(r.sim.Node(b.id).Batch, path)
	if err != nil {
		return nil, err
	}
	res := &heddlev1.ResultsResponse{}
	if !r.sim.Node(id).IsBatch {
		res.Results = []*heddlev1.Result{r.result(id)}
		return res, nil
	}
	res.Batch = true
	for _, m := range slices.Sorted(slices.Values(r.sim.Members(id))) {
		if !r.sim.Node(m).IsBatch {
			res.Results = append(res.Results, r.result(m))
		}
	}
	return res, nil
}

func (r *Run) result(id dag.ID) *heddlev1.Result {
	j, n := r.jobs[id], r.sim.Node(id)
	res := &heddlev1.Result{Node: int32(id), Name: j.name, Args: j.spec.GetArgs()}
	if n.State == dag.Ended {
		res.Outcome = heddlev1.Outcome(n.Outcome)
		res.Result, res.Error = j.result, j.err
	}
	return res
}

// Append adds nodes to the job's batch, once per key.
func (b backend) Append(_ context.Context, key string, wire *heddlev1.Graph) error {
	defer b.r.e.lock()()
	if b.r.keys[key] {
		return nil
	}
	if err := b.r.grow(b.r.sim.Node(b.id).Batch, wire); err != nil {
		return fmt.Errorf("append under key %q: %w", key, err)
	}
	b.r.keys[key] = true
	return nil
}
