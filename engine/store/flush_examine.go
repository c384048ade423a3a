package store

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

type commandTag = pgconn.CommandTag

// found is what the tables say of an item whose row was not as it says.
type found struct {
	open         bool
	turn, flags  int32
	batch        int32
	state        int16
	finished     bool
	finishedTurn int32
	outcome      dag.Outcome
	endFlags     int32
	endBatch     int32
	how          int16
}

// examine tells items that an earlier run of the same flush has written (the
// history or the attempts hold this very end) from stale ones, and answers with
// those to write once more, corrected. It is a transaction with a write of its
// own: a COMMIT that only reads would not wait for the standby, and what it
// saw could be lost with the server (C11).
func (f *flush) examine(ctx context.Context, items []int) (again []int, err error) {
	w, err := f.s.begin(ctx, &f.reign)
	if err != nil {
		return nil, err
	}
	defer w.end()
	facts, err := f.find(ctx, w, items)
	if err != nil {
		return nil, err
	}
	w.queue(db.WriteCommitRecordSQL)
	if err := w.commit(ctx); err != nil {
		return nil, err
	}
	f.committed = true
	for k, i := range items {
		item, fact := &f.items[i], &facts[k]
		switch {
		case fact.holds(item):
			if fact.finished && fact.endBatch < 0 {
				f.eff.Ended = append(f.eff.Ended, item.Job.Workflow)
			} else {
				f.eff.Touched = append(f.eff.Touched, item.Job.Workflow)
			}
		case fact.correct(item):
			again = append(again, i)
		default:
			f.answers[i].Stale = true
		}
	}
	return again, nil
}

func (f *flush) find(ctx context.Context, w *work, items []int) ([]found, error) {
	var ords, nodes, turns []int32
	var ids []fsm.WorkflowID
	for k, i := range items {
		item := &f.items[i]
		ords, ids, nodes = append(ords, int32(k)), append(ids, item.Job.Workflow), append(nodes, item.Job.Node)
		turns = append(turns, item.Turn+1)
	}
	facts := make([]found, len(items))
	w.each(func(r raw) {
		fact := &facts[r.int4(0)]
		fact.open, fact.turn, fact.state, fact.batch, fact.flags = true, r.int4(1), r.int2(2), r.int4Or(3, -1), r.int4(4)
	}, db.FindOpenSQL, ords, ids, nodes)
	w.each(func(r raw) {
		fact := &facts[r.int4(0)]
		fact.finished, fact.finishedTurn, fact.outcome, fact.endFlags = true, r.int4(1), dag.Outcome(r.int2(2)), r.int4(3)
		fact.endBatch = r.int4Or(4, -1)
	}, db.FindFinishedSQL, ords, ids, nodes)
	w.each(func(r raw) { facts[r.int4(0)].how = r.int2(1) }, db.FindAttemptsSQL, ords, ids, nodes, turns)
	return facts, w.send(ctx)
}

// holds tells whether the tables hold the item's end.
func (x *found) holds(item *model.Finish) bool {
	if requeues(item.Ending) && x.how == item.How {
		return true
	}
	if !x.finished || x.finishedTurn != item.Turn+1 {
		return false
	}
	if x.outcome == dag.Cancelled && item.Ending != model.EndSucceeded {
		// A cancel request, of the job or of a batch around it, came first.
		return true
	}
	return !requeues(item.Ending) && x.outcome == outcomeOf(item.Ending)
}

// correct makes the item what the open row asks for. False: the item is stale.
func (x *found) correct(item *model.Finish) bool {
	if !x.open || x.turn != item.Turn || x.state != stateReleased {
		return false
	}
	item.Batch, item.Flags = x.batch, x.flags
	if requeues(item.Ending) && x.flags&FlagCancelled != 0 {
		item.Ending = model.EndCancelled
	}
	return true
}
