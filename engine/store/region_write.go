package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/internal/policy"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// writer turns decisions into statements over sets of rows, whatever number of
// workflows they are about, and sums up their effects.
type writer struct {
	release   db.ReleaseJobsParams
	set       db.SetJobsParams
	end       db.EndJobsParams
	revive    db.ReviveJobsParams
	finished  db.SetFinishedParams
	batches   db.SetBatchesParams
	workflows db.SetWorkflowsParams
	cascades  db.PutCascadesParams
	over      db.DropCascadesParams

	revived int // jobs that were taken back
	eff     effects
}

// effects collects model.Effects within their bounds.
type effects struct {
	model.Effects
	lanes laneSet
}

func (e *effects) ready(row dispatch.Row) {
	if len(e.Ready) < model.ReadyLimit {
		e.Ready = append(e.Ready, row)
		return
	}
	e.lanes.add(&row)
}

func (e *effects) list() model.Effects {
	if len(e.lanes) > 0 {
		e.Lanes = append(e.Lanes, e.lanes.list()...)
		e.lanes = nil
	}
	return e.Effects
}

// add takes the decision of one graph.
func (wr *writer) add(g *graph) {
	if !g.decided {
		return
	}
	if len(g.events) > 0 {
		wr.eff.Touched = append(wr.eff.Touched, g.id)
	}
	for i := range g.decision.Changes {
		c := &g.decision.Changes[i]
		row, known := g.rows[c.Node.ID]
		switch {
		case c.New || !known:
			// The row is written by the append, in its last state but for the
			// end of a job.
			g.added.settle(wr, g, c)
		case row.kind == rowBatch:
			wr.batch(g, c, &row)
		case row.kind == rowFinished:
			wr.finishedJob(g, c, &row)
		default:
			wr.openJob(g, c, &row)
		}
	}
}

func (wr *writer) batch(g *graph, c *dag.Change, row *nodeRow) {
	n := &c.Node
	flags := flagsOf(n, row.flags)
	if n.ID == dag.Root && c.Ended {
		wr.eff.Ended = append(wr.eff.Ended, g.id)
	}
	if n.ID == dag.Root && g.alone {
		return
	}
	if n.ID == dag.Root {
		p := &wr.workflows
		if n.Cancelled && !row.was.Cancelled && flags&FlagPaused != 0 {
			flags &^= FlagPaused // a cancel lifts the pause
			wr.eff.Resumed = append(wr.eff.Resumed, g.id)
		}
		p.Ids = append(p.Ids, g.id)
		p.States = append(p.States, int16(n.State))
		p.Outcomes = append(p.Outcomes, int16(n.Outcome))
		p.Flags = append(p.Flags, flags)
		p.Lives = append(p.Lives, n.Life)
		p.Totals = append(p.Totals, n.Total)
		p.Succeeded = append(p.Succeeded, n.NumSucceeded)
		p.Failed = append(p.Failed, n.NumFailed)
		p.Cancelled = append(p.Cancelled, n.NumCancelled)
		p.Skipped = append(p.Skipped, n.NumSkipped)
	} else {
		p := &wr.batches
		p.Ids = append(p.Ids, g.id)
		p.Nodes = append(p.Nodes, int32(n.ID))
		p.States = append(p.States, int16(n.State))
		p.Outcomes = append(p.Outcomes, int16(n.Outcome))
		p.Flags = append(p.Flags, flags)
		p.Needs = append(p.Needs, n.Need)
		p.Slacks = append(p.Slacks, n.Slack)
		p.Lives = append(p.Lives, n.Life)
		p.ReleasedBys = append(p.ReleasedBys, int32(n.ReleasedBy))
		p.Los = append(p.Los, int32(n.Lo))
		p.His = append(p.His, int32(n.Hi))
		p.Totals = append(p.Totals, n.Total)
		p.Succeeded = append(p.Succeeded, n.NumSucceeded)
		p.Failed = append(p.Failed, n.NumFailed)
		p.Cancelled = append(p.Cancelled, n.NumCancelled)
		p.Skipped = append(p.Skipped, n.NumSkipped)
	}
	switch {
	case n.Cascade != dag.NoCascade && (c.Cascade || n.Cascade != row.was.Cascade):
		wr.cascade(g.id, n)
	case n.Cascade == dag.NoCascade && row.was.Cascade != dag.NoCascade:
		wr.over.Ids = append(wr.over.Ids, g.id)
		wr.over.Nodes = append(wr.over.Nodes, int32(n.ID))
	}
}

// cascade writes down that an event goes on down the members of a batch.
func (wr *writer) cascade(id fsm.WorkflowID, n *dag.Node) {
	p := &wr.cascades
	p.Ids = append(p.Ids, id)
	p.Nodes = append(p.Nodes, int32(n.ID))
	p.Kinds = append(p.Kinds, int16(n.Cascade))
	p.Cursors = append(p.Cursors, int32(n.Lo))
	wr.eff.Cascades = true
}

// openJob writes a change of a job that has not ended, or that the event's own
// report has moved to the history.
func (wr *writer) openJob(g *graph, c *dag.Change, row *nodeRow) {
	n := &c.Node
	flags := flagsOf(n, row.flags)
	if outcome, moved := g.ended[n.ID]; moved {
		if n.Outcome != outcome || flags != row.flags {
			wr.finishedRow(g.id, n, flags, 0)
		}
		return
	}
	if c.Told {
		wr.eff.Tell = append(wr.eff.Tell, fsm.JobID{Workflow: g.id, Node: int32(n.ID)})
	}
	was := row.was.State
	switch {
	case n.State == dag.Ended:
		p := &wr.end
		p.Ids = append(p.Ids, g.id)
		p.Nodes = append(p.Nodes, int32(n.ID))
		p.Outcomes = append(p.Outcomes, int16(n.Outcome))
		p.Flags = append(p.Flags, flags)
		p.Lives = append(p.Lives, n.Life)
		p.ReleasedBys = append(p.ReleasedBys, int32(n.ReleasedBy))
	case n.State == dag.Released && was != dag.Released:
		o := jobOptions(row.opts)
		p := &wr.release
		p.Ids = append(p.Ids, g.id)
		p.Nodes = append(p.Nodes, int32(n.ID))
		p.ReleasedBys = append(p.ReleasedBys, int32(n.ReleasedBy))
		p.Flags = append(p.Flags, flags)
		p.Lives = append(p.Lives, n.Life)
		p.Delays = append(p.Delays, micros(o.GetDelay()))
		p.Waits = append(p.Waits, micros(o.GetWaitTimeout()))
		p.Deadlines = append(p.Deadlines, micros(o.GetDeadline()))
	default:
		wr.setJob(g.id, n, flags)
	}
	if was == dag.Released && n.State != dag.Released {
		wr.eff.Gone = append(wr.eff.Gone, dispatch.JobTurn{Job: fsm.JobID{Workflow: g.id, Node: int32(n.ID)}, Turn: row.turn})
	}
}

func (wr *writer) setJob(id fsm.WorkflowID, n *dag.Node, flags int32) {
	need, slack := counters(n)
	p := &wr.set
	p.Ids = append(p.Ids, id)
	p.Nodes = append(p.Nodes, int32(n.ID))
	p.States = append(p.States, int16(n.State))
	p.Needs = append(p.Needs, need)
	p.Slacks = append(p.Slacks, slack)
	p.Flags = append(p.Flags, flags)
	p.Lives = append(p.Lives, n.Life)
	p.ReleasedBys = append(p.ReleasedBys, int32(n.ReleasedBy))
}

// counters of a node that is not blocked mean nothing and are not kept.
func counters(n *dag.Node) (need, slack int32) {
	if n.State != dag.Blocked {
		return 0, 0
	}
	return n.Need, n.Slack
}

// finishedJob writes a change of a job that has ended before.
func (wr *writer) finishedJob(g *graph, c *dag.Change, row *nodeRow) {
	n := &c.Node
	flags := flagsOf(n, row.flags)
	if n.State == dag.Ended {
		ended := int32(0)
		if c.Reset {
			ended = 1
		}
		wr.finishedRow(g.id, n, flags, ended)
		return
	}
	o := jobOptions(row.opts)
	need, slack := counters(n)
	p := &wr.revive
	p.Ids = append(p.Ids, g.id)
	p.Nodes = append(p.Nodes, int32(n.ID))
	p.States = append(p.States, int16(n.State))
	p.Needs = append(p.Needs, need)
	p.Slacks = append(p.Slacks, slack)
	p.Flags = append(p.Flags, flags&^FlagResultInPayloads)
	p.Lives = append(p.Lives, n.Life)
	p.ReleasedBys = append(p.ReleasedBys, int32(n.ReleasedBy))
	p.Budgets = append(p.Budgets, int32(policy.Attempts(o.GetRetry())))
	p.Waits = append(p.Waits, micros(o.GetWaitTimeout()))
	p.Deadlines = append(p.Deadlines, micros(o.GetDeadline()))
	if row.was.Outcome != dag.Skipped { // what never ran waits again, no more
		wr.revived++
	}
}

func (wr *writer) finishedRow(id fsm.WorkflowID, n *dag.Node, flags, ended int32) {
	p := &wr.finished
	p.Ids = append(p.Ids, id)
	p.Nodes = append(p.Nodes, int32(n.ID))
	p.Outcomes = append(p.Outcomes, int16(n.Outcome))
	p.Flags = append(p.Flags, flags)
	p.Lives = append(p.Lives, n.Life)
	p.Ended = append(p.Ended, ended)
}

// micros gives a duration in microseconds; none, or a negative one, is 0.
func micros(d *durationpb.Duration) int64 {
	return max(0, d.AsDuration().Microseconds())
}

// queue queues the statements for all that was added.
func (wr *writer) queue(w *work) {
	ready := func(r raw) { wr.eff.ready(r.ready()) }
	if p := &wr.revive; len(p.Ids) > 0 {
		w.each(ready, db.ReviveJobsSQL, p.Ids, p.Nodes, p.States, p.Needs, p.Slacks, p.Flags, p.Lives, p.ReleasedBys, p.Budgets, p.Waits, p.Deadlines)
	}
	if p := &wr.set; len(p.Ids) > 0 {
		w.queue(db.SetJobsSQL, p.Ids, p.Nodes, p.States, p.Needs, p.Slacks, p.Flags, p.Lives, p.ReleasedBys)
	}
	if p := &wr.release; len(p.Ids) > 0 {
		w.each(ready, db.ReleaseJobsSQL, p.Ids, p.Nodes, p.ReleasedBys, p.Flags, p.Lives, p.Delays, p.Waits, p.Deadlines)
	}
	if p := &wr.end; len(p.Ids) > 0 {
		w.queue(db.EndJobsSQL, p.Ids, p.Nodes, p.Outcomes, p.Flags, p.Lives, p.ReleasedBys)
	}
	if p := &wr.finished; len(p.Ids) > 0 {
		w.queue(db.SetFinishedSQL, p.Ids, p.Nodes, p.Outcomes, p.Flags, p.Lives, p.Ended)
	}
	if p := &wr.batches; len(p.Ids) > 0 {
		w.queue(db.SetBatchesSQL, p.Ids, p.Nodes, p.States, p.Outcomes, p.Flags, p.Needs, p.Slacks, p.Lives, p.ReleasedBys, p.Los, p.His,
			p.Totals, p.Succeeded, p.Failed, p.Cancelled, p.Skipped)
	}
	if p := &wr.workflows; len(p.Ids) > 0 {
		w.queue(db.SetWorkflowsSQL, p.Ids, p.States, p.Outcomes, p.Flags, p.Lives, p.Totals, p.Succeeded, p.Failed, p.Cancelled, p.Skipped)
	}
	if p := &wr.over; len(p.Ids) > 0 {
		w.queue(db.DropCascadesSQL, p.Ids, p.Nodes)
	}
	if p := &wr.cascades; len(p.Ids) > 0 {
		w.queue(db.PutCascadesSQL, p.Ids, p.Nodes, p.Kinds, p.Cursors)
	}
}

// decide has the rules decide events of one workflow inside a transaction that
// holds it, and writes what they answer.
func (s *Store) decide(ctx context.Context, tx pgx.Tx, id fsm.WorkflowID, events ...dag.Event) (model.Effects, error) {
	w := inside(tx)
	gs := s.newGraphs()
	gs.lock(w, []fsm.WorkflowID{id})
	if err := w.send(ctx); err != nil {
		return model.Effects{}, err
	}
	g := gs.get(id)
	g.events = events
	refused, err := gs.decide(ctx, w, nil)
	if err == nil {
		err = refused[id]
	}
	if err != nil {
		return model.Effects{}, err
	}
	wr := &writer{}
	wr.add(g)
	wr.queue(w)
	if err := w.send(ctx); err != nil {
		return model.Effects{}, err
	}
	return wr.eff.list(), nil
}
