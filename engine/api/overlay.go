package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// overlay lays the leases over what the database says: to it a leased job is
// available. A lease outlives its fact by a moment, so only what the database
// still calls available becomes running.
type overlay struct {
	scheduler  Scheduler
	containers func(ctx context.Context, id fsm.WorkflowID, nodes []int32) ([]int32, error)
}

// waits reports whether a job in that state may be leased.
func waits(s heddlev1.State) bool {
	return s == heddlev1.State_STATE_AVAILABLE || s == heddlev1.State_STATE_RETRYABLE || s == heddlev1.State_STATE_SCHEDULED
}

// job shows one job as running if it is leased.
func (o overlay) job(j *heddlev1.Job) {
	if !waits(j.GetState()) {
		return
	}
	id, err := wire.WorkflowID("workflow_id", j.GetWorkflowId())
	if err != nil {
		return
	}
	lease, worker, ok := o.scheduler.LeaseOf(fsm.JobID{Workflow: id, Node: j.GetNode()})
	if !ok {
		return
	}
	j.State, j.Worker = heddlev1.State_STATE_RUNNING, worker
	j.StartedAt = timestamppb.New(time.UnixMicro(lease.GrantedAt))
}

// state shows a node's state as running if it is a leased job.
func (o overlay) state(job fsm.JobID, s heddlev1.State) heddlev1.State {
	if waits(s) {
		if _, _, leased := o.scheduler.LeaseOf(job); leased {
			return heddlev1.State_STATE_RUNNING
		}
	}
	return s
}

// over reports whether a node or workflow in that state has ended.
func over(s heddlev1.State) bool { return s >= heddlev1.State_STATE_SUCCEEDED }

// start moves n members from available to running.
func start(c *heddlev1.Counts, n int64) {
	if c == nil {
		return
	}
	n = min(n, c.Available)
	c.Available -= n
	c.Running += n
}

// workflow shows the leased jobs of a workflow as running.
func (o overlay) workflow(ctx context.Context, id fsm.WorkflowID, w *heddlev1.Workflow) error {
	leases := o.scheduler.Leased(id)
	if len(leases) == 0 || over(w.GetState()) {
		return nil
	}
	start(w.GetJobs(), int64(len(leases)))
	if o.containers == nil {
		return nil
	}
	nodes := make([]int32, len(leases))
	for i, l := range leases {
		nodes[i] = l.Job.Node
	}
	in, err := o.containers(ctx, id, nodes)
	if err != nil {
		return err
	}
	counts := make(map[int32]int64)
	for _, batch := range in {
		counts[batch]++
	}
	start(w.GetMembers(), counts[0])
	for _, b := range w.GetBatches() {
		start(b.GetMembers(), counts[b.GetNode()])
	}
	return nil
}

// summary is workflow for the rows of a list, whose counts may hold no more
// than what has ended.
func (o overlay) summary(w *heddlev1.Workflow) {
	c := w.GetJobs()
	if c == nil || over(w.GetState()) {
		return
	}
	id, err := wire.WorkflowID("id", w.GetId())
	if err != nil {
		return
	}
	open := c.GetTotal() - c.GetSucceeded() - c.GetFailed() - c.GetCancelled() - c.GetSkipped()
	c.Running = min(int64(len(o.scheduler.Leased(id))), open)
	c.Available = max(c.GetAvailable()-c.GetRunning(), 0)
}

// graph shows leased jobs on the cards they belong to. The numbers of a card
// may be interleaved with those of another; a job within the spans of several
// cards of jobs stays available on all of them.
func (o overlay) graph(id fsm.WorkflowID, g *heddlev1.GraphResponse) {
	for _, l := range o.scheduler.Leased(id) {
		var on *heddlev1.Card
		several := false
		for _, c := range g.GetCards() {
			if c.GetIsBatch() || l.Job.Node < c.GetFirstNode() || l.Job.Node > c.GetLastNode() {
				continue
			}
			several = on != nil
			if on = c; several {
				break
			}
		}
		if on == nil || several {
			continue
		}
		start(on.GetCounts(), 1)
		if on.GetNode() == l.Job.Node && waits(on.GetState()) {
			on.State = heddlev1.State_STATE_RUNNING
		}
	}
}

// nodes shows the leased jobs of a page as running.
func (o overlay) nodes(r *heddlev1.NodesResponse) {
	for _, j := range r.GetJobs() {
		o.job(j)
	}
}

// ask widens a filter of states by what the database calls a running job, and
// reports whether the answer must be filtered again.
func ask(states []heddlev1.State) (asked []heddlev1.State, again bool) {
	running, available := false, false
	for _, s := range states {
		running = running || s == heddlev1.State_STATE_RUNNING
		available = available || s == heddlev1.State_STATE_AVAILABLE
	}
	if running == available {
		return states, false
	}
	if available {
		return states, true
	}
	return append(states[:len(states):len(states)], heddlev1.State_STATE_AVAILABLE), true
}

// keepStates drops the jobs whose overlaid state was not asked for.
func keepStates(jobs []*heddlev1.Job, states []heddlev1.State) []*heddlev1.Job {
	kept := jobs[:0]
	for _, j := range jobs {
		for _, s := range states {
			if j.GetState() == s {
				kept = append(kept, j)
				break
			}
		}
	}
	return kept
}
