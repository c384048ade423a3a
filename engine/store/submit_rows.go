package store

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// jobRow is a job to write. Times are microseconds since the Unix epoch; 0 is
// none. batch is -1 for a lone job.
type jobRow struct {
	runAt, expiresAt, deadlineAt int64
	node, route, batch, flags    int32
	need, slack, join            int32
	state, priority, maxAttempts int16
	key, name                    string
	args, opts                   []byte
	payload                      []byte // args above PayloadThreshold

}

// batchRow is a batch to write; row 0 of a graph is its root.
type batchRow struct {
	node, parent, lo, hi int32
	need, slack, join    int32
	flags, total         int32
	tolerance            dag.Tolerance
	released             bool
	priority             int16
	name                 string
}

// ready gives the job as the dispatcher wants it.
func (j *jobRow) ready(id fsm.WorkflowID) dispatch.Row {
	return dispatch.Row{
		Job:  fsm.JobID{Workflow: id, Node: j.node},
		Lane: dispatch.Lane{Route: j.route, Key: j.key}, Priority: j.priority,
		RunAt: j.runAt, ExpiresAt: j.expiresAt, DeadlineAt: j.deadlineAt,
		MaxAttempts: j.maxAttempts, Batch: j.batch, Flags: j.flags, Name: j.name, Args: j.args, Opts: j.opts,
	}
}

// timestamp maps 0 to NULL.
func timestamp(micros int64) pgtype.Timestamptz {
	if micros == 0 {
		return pgtype.Timestamptz{}
	}
	return pgtype.Timestamptz{Time: time.UnixMicro(micros).UTC(), Valid: true}
}

func addJob(p *db.InsertJobsParams, id fsm.WorkflowID, j *jobRow) {
	p.WorkflowIds = append(p.WorkflowIds, id)
	p.RunAts = append(p.RunAts, timestamp(j.runAt))
	p.ExpiresAts = append(p.ExpiresAts, timestamp(j.expiresAt))
	p.DeadlineAts = append(p.DeadlineAts, timestamp(j.deadlineAt))
	p.Nodes = append(p.Nodes, j.node)
	p.Routes = append(p.Routes, j.route)
	p.Batches = append(p.Batches, j.batch)
	p.Flags = append(p.Flags, j.flags)
	p.Needs = append(p.Needs, j.need)
	p.Slacks = append(p.Slacks, j.slack)
	p.JoinKs = append(p.JoinKs, j.join)
	p.States = append(p.States, j.state)
	p.Priorities = append(p.Priorities, j.priority)
	p.MaxAttempts = append(p.MaxAttempts, j.maxAttempts)
	p.Keys = append(p.Keys, j.key)
	p.Names = append(p.Names, j.name)
	p.Args = append(p.Args, j.args)
	p.Opts = append(p.Opts, j.opts)
}

func addPayload(p *db.InsertPayloadsParams, id fsm.WorkflowID, j *jobRow) {
	if j.payload == nil {
		return
	}
	p.WorkflowIds = append(p.WorkflowIds, id)
	p.Nodes = append(p.Nodes, j.node)
	p.Slots = append(p.Slots, slotArgs)
	p.Bodies = append(p.Bodies, j.payload)
}

func addWorkflow(p *db.InsertWorkflowsParams, plan *plan) {
	root := &plan.batches[0]
	p.Ids = append(p.Ids, plan.id)
	p.CreatedAts = append(p.CreatedAts, timestamp(plan.now))
	p.NextNodes = append(p.NextNodes, plan.nodes+1)
	p.Flags = append(p.Flags, root.flags)
	p.Totals = append(p.Totals, root.total)
	p.ToleranceCounts = append(p.ToleranceCounts, root.tolerance.Count)
	p.TolerancePercents = append(p.TolerancePercents, root.tolerance.Percent)
	p.Priorities = append(p.Priorities, root.priority)
	p.Names = append(p.Names, plan.name)
	p.Digests = append(p.Digests, plan.digest)
	p.Headers = append(p.Headers, plan.headers)
}

func addBatch(p *db.InsertBatchesParams, id fsm.WorkflowID, now int64, b *batchRow) {
	state, started := stateBlocked, int64(0)
	if b.released {
		state, started = stateReleased, now
	}
	p.WorkflowIds = append(p.WorkflowIds, id)
	p.StartedAts = append(p.StartedAts, timestamp(started))
	p.Nodes = append(p.Nodes, b.node)
	p.Parents = append(p.Parents, b.parent)
	p.Los = append(p.Los, b.lo)
	p.His = append(p.His, b.hi)
	p.Needs = append(p.Needs, b.need)
	p.Slacks = append(p.Slacks, b.slack)
	p.JoinKs = append(p.JoinKs, b.join)
	p.Flags = append(p.Flags, b.flags)
	p.Totals = append(p.Totals, b.total)
	p.ToleranceCounts = append(p.ToleranceCounts, b.tolerance.Count)
	p.TolerancePercents = append(p.TolerancePercents, b.tolerance.Percent)
	p.States = append(p.States, state)
	p.Priorities = append(p.Priorities, b.priority)
	p.Names = append(p.Names, b.name)
}

func addEdge(p *db.InsertEdgesParams, id fsm.WorkflowID, e dag.Edge) {
	p.WorkflowIds = append(p.WorkflowIds, id)
	p.Parents = append(p.Parents, int32(e.Parent))
	p.Children = append(p.Children, int32(e.Child))
	p.OnSets = append(p.OnSets, int16(e.On))
}
