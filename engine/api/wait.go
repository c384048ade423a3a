package api

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/api/wire"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

const (
	defaultWait = 30 * time.Second
	maxWait     = 10 * time.Minute
	// watchEvery is the shortest time between two states sent to a watcher, and
	// between two reads of one who waits for a node.
	watchEvery = 250 * time.Millisecond
	waitEvery  = 50 * time.Millisecond
	// lookAgain is when a state is read again without news of a change.
	lookAgain = 10 * time.Second
	// leasesEvery is how often a watcher looks for jobs that have started, of
	// which no transaction tells.
	leasesEvery = time.Second
)

// Wait answers when a node has ended, or with its present state.
func (s *workflows) Wait(ctx context.Context, req *connect.Request[heddlev1.WaitRequest]) (*connect.Response[heddlev1.WaitResponse], error) {
	m := req.Msg
	id, err := wire.WorkflowID("workflow_id", m.GetWorkflowId())
	if err != nil {
		return nil, err
	}
	timeout, err := patience("timeout", m.GetTimeout(), defaultWait, maxWait)
	if err != nil {
		return nil, err
	}
	lease, err := ownLease(m.GetLease())
	if err != nil {
		return nil, err
	}
	node, isBatch := dag.Root, true
	if m.GetPath() != "" {
		if err := wire.Path("path", m.GetPath()); err != nil {
			return nil, err
		}
		if node, isBatch, err = s.reader.Resolve(ctx, id, dag.Root, m.GetPath()); err != nil {
			return nil, err
		}
	}
	if lease != nil && lease.Workflow == id {
		if err := s.mayWait(ctx, *lease, node, isBatch); err != nil {
			return nil, err
		}
	}
	res, err := s.await(ctx, id, node, timeout)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// patience gives how long a call may take; unset: usual.
func patience(field string, d *durationpb.Duration, usual, most time.Duration) (time.Duration, error) {
	v, err := wire.Duration(field, d, most)
	if v == 0 {
		v = usual
	}
	return v, err
}

// ownLease names the job of the handler that calls; nil: no handler does.
func ownLease(m *heddlev1.LeaseRef) (*fsm.JobID, error) {
	if m == nil {
		return nil, nil
	}
	job, err := wire.Bytes(m.GetWorkflowId(), m.GetNode())
	if err != nil {
		return nil, wire.Within("lease", err)
	}
	return &job, nil
}

// mayWait refuses a handler that waits for what cannot end before it (W2): its
// own job, and the batches around it.
func (s *workflows) mayWait(ctx context.Context, own fsm.JobID, node dag.ID, isBatch bool) error {
	refuse := func(what string) error {
		return fmt.Errorf("%w: job %s cannot wait for %s, which ends after it", model.ErrRefused, own, what)
	}
	if node == dag.Root {
		return refuse("its own workflow")
	}
	if node == dag.ID(own.Node) {
		return refuse("itself")
	}
	if !isBatch {
		return nil
	}
	j, err := s.reader.Job(ctx, own)
	if err != nil {
		return err
	}
	w, err := s.reader.Workflow(ctx, own.Workflow)
	if err != nil {
		return err
	}
	around := make(map[int32]int32, len(w.GetBatches()))
	for _, b := range w.GetBatches() {
		around[b.GetNode()] = b.GetParent()
	}
	for b := j.GetBatch(); b > 0; b = around[b] {
		if dag.ID(b) == node {
			return refuse("its own batch")
		}
	}
	return nil
}

// await reads a node's state until it has ended or the time is over. Who waits
// for a workflow reads when it ends; who waits for a node in it reads after
// changes, but not more often than waitEvery.
func (s *workflows) await(ctx context.Context, id fsm.WorkflowID, node dag.ID, timeout time.Duration) (*heddlev1.WaitResponse, error) {
	sub := s.watcher.Subscribe(id)
	defer sub.Stop()
	over := time.NewTimer(timeout)
	defer over.Stop()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	touched := sub.Touched
	if node == dag.Root {
		touched = nil
	}
	for last := false; ; {
		state, result, text, ended, err := s.reader.NodeState(ctx, id, node)
		if err != nil {
			return nil, err
		}
		if ended || last {
			state = s.shown(fsm.JobID{Workflow: id, Node: max(int32(node), 1)}, state) // 0 may be a lone job: 1
			return &heddlev1.WaitResponse{Ended: ended, State: state, Result: result, Error: text}, nil
		}
		pause.Reset(waitEvery)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-over.C:
			last = true
		case <-sub.Ended:
		case <-again.C:
		case <-touched:
			select {
			case <-pause.C:
			case <-sub.Ended:
			case <-over.C:
				last = true
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
}

// Watch sends a workflow's state now, after changes, and last after its end.
func (s *workflows) Watch(ctx context.Context, req *connect.Request[heddlev1.WatchRequest], stream *connect.ServerStream[heddlev1.WatchResponse]) error {
	id, err := wire.WorkflowID("workflow_id", req.Msg.GetWorkflowId())
	if err != nil {
		return err
	}
	return s.watch(ctx, id, stream.Send)
}

// watch is Watch with any way to send.
func (s *workflows) watch(ctx context.Context, id fsm.WorkflowID, send func(*heddlev1.WatchResponse) error) error {
	sub := s.watcher.Subscribe(id)
	defer sub.Stop()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	leases := time.NewTicker(leasesEvery)
	defer leases.Stop()
	for {
		seen := s.leaseSum(id)
		w, err := s.reader.Workflow(ctx, id)
		if err != nil {
			return err
		}
		if err := send(&heddlev1.WatchResponse{Workflow: w}); err != nil {
			return err
		}
		if over(w.GetState()) {
			return nil
		}
		if err := sleep(ctx, watchEvery); err != nil {
			return err
		}
		for changed := false; !changed; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-sub.Ended:
				changed = true
			case <-sub.Touched:
				changed = true
			case <-again.C:
				changed = true
			case <-leases.C:
				changed = s.leaseSum(id) != seen
			}
		}
	}
}

// waits reports whether a job in that state may be leased.
func waits(s heddlev1.State) bool {
	return s == heddlev1.State_STATE_AVAILABLE || s == heddlev1.State_STATE_RETRYABLE || s == heddlev1.State_STATE_SCHEDULED
}

// over reports whether a node or workflow in that state has ended.
func over(s heddlev1.State) bool { return s >= heddlev1.State_STATE_SUCCEEDED }

// shown is a node's state, running if it is a leased job.
func (s *workflows) shown(job fsm.JobID, state heddlev1.State) heddlev1.State {
	if waits(state) {
		if _, _, leased := s.scheduler.LeaseOf(job); leased {
			return heddlev1.State_STATE_RUNNING
		}
	}
	return state
}

// leaseSum changes when the leases of a workflow do.
func (s *workflows) leaseSum(id fsm.WorkflowID) (sum uint64) {
	for _, l := range s.scheduler.Leased(id) {
		sum += l.ID*0x9e3779b97f4a7c15 ^ uint64(l.Job.Node)
	}
	return sum
}

// sleep waits for a time or until the call is over.
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
