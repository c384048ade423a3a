package store

import (
	"context"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Successes that return a graph are not moved with the others: whether the
// graph can be added is known only when its surroundings are loaded, and a
// refused graph leaves its job as it was.

// then is such a success within a transaction.
type then struct {
	item   int
	taken  []string // names of its graph that its batch has already
	adopt  *lonely
	append int // positions of its events
}

// returns tells whether an item brings a graph.
func returns(item *model.Finish) bool {
	return item.Then != nil && item.Ending == model.EndSucceeded
}

// knowThens checks returned graphs before the transaction. A faulty one is its
// item's error; the item is done with.
func (f *flush) knowThens(ctx context.Context, todo []int) ([]int, error) {
	ok := todo[:0:0]
	for _, i := range todo {
		item := &f.items[i]
		if returns(item) && len(item.Then.Nodes) == 0 {
			item.Then = nil
		}
		if returns(item) {
			if err := f.s.knowChunk(ctx, item.Then); isInput(err) {
				f.answers[i].Err = err
				continue
			} else if err != nil {
				return nil, err
			}
		}
		ok = append(ok, i)
	}
	return ok, nil
}

// queueThens queues the reads of what the returned graphs go into. Lone jobs
// are locked by their own rows, in the order of their workflows.
func (f *flush) queueThens(w *work, gs *graphs, p *flushPlan) {
	var nodes db.NodesByNumberParams
	var batches db.BatchesUpParams
	for k := range p.thens {
		t := &p.thens[k]
		item := &f.items[t.item]
		id := item.Job.Workflow
		if item.Batch < 0 {
			w.each(func(r raw) { t.adopt = gs.get(id).putLone(r) }, db.LockLoneSQL, id)
		} else {
			nodes.Ids, nodes.Nodes = append(nodes.Ids, id), append(nodes.Nodes, item.Job.Node)
		}
		if item.Batch > 0 {
			batches.Ids, batches.Nodes = append(batches.Ids, id), append(batches.Nodes, item.Batch)
		}
		if names := outerNames(item.Then); item.Batch >= 0 && len(names) > 0 {
			w.each(func(r raw) { t.taken = append(t.taken, r.text(0)) }, db.TakenNamesSQL, id, item.Batch, names)
		}
	}
	if len(nodes.Ids) > 0 {
		w.each(gs.put, db.NodesByNumberSQL, nodes.Ids, nodes.Nodes)
	}
	if len(batches.Ids) > 0 {
		w.each(gs.put, db.BatchesUpSQL, batches.Ids, batches.Nodes)
	}
}

// decide adds the events of the returned graphs and has the rules decide
// everything. It answers with the items whose rows are not as they say, and
// with those that must be tried apart from the others of their workflow.
func (f *flush) decide(ctx context.Context, w *work, gs *graphs, p *flushPlan) (left []int, err error) {
	byGraph := map[fsm.WorkflowID][]*then{}
	for k := range p.thens {
		t := &p.thens[k]
		planned, stale, err := f.planThen(ctx, gs, t)
		switch {
		case err != nil:
			return nil, err
		case stale:
			left = append(left, t.item)
		case planned:
			id := f.items[t.item].Job.Workflow
			byGraph[id] = append(byGraph[id], t)
		}
	}
	for {
		refused, err := gs.decide(ctx, w, nil)
		if err != nil {
			return nil, err
		}
		if len(refused) == 0 {
			break
		}
		for id, reason := range refused {
			thens := byGraph[id]
			if len(thens) == 0 {
				return nil, reason
			}
			// One graph alone is to blame for the refusal. Of several, the
			// last is tried again on its own, in another transaction.
			last := thens[len(thens)-1]
			byGraph[id] = thens[:len(thens)-1]
			if len(thens) == 1 {
				f.answers[last.item].Err = reason
			} else {
				left = append(left, last.item)
			}
			gs.byID[id].withdraw(last, f.items[last.item].Job.Node)
		}
	}
	for id, thens := range byGraph {
		g := gs.byID[id]
		for _, k := range g.decision.Dropped {
			g.added.drop(&g.events[k])
		}
		for _, t := range thens {
			p.thenEnds.add(&f.items[t.item], &p.thenBig)
		}
	}
	return left, nil
}

// planThen plans one returned graph. stale: its row is not as the item says.
func (f *flush) planThen(ctx context.Context, gs *graphs, t *then) (planned, stale bool, err error) {
	item := &f.items[t.item]
	g := gs.get(item.Job.Workflow)
	id := dag.ID(item.Job.Node)
	row, ok := g.rows[id]
	if _, twice := g.ended[id]; twice || !ok || row.kind != rowOpen || row.turn != item.Turn || row.was.State != dag.Released || (item.Batch < 0) != (t.adopt != nil) {
		return false, true, nil
	}
	if t.adopt != nil {
		t.taken = append(t.taken, t.adopt.name)
	}
	now, err := f.s.now(ctx)
	if err != nil {
		return false, false, err
	}
	event, err := g.append(f.s, now, row.was.Batch, g.rows[row.was.Batch].priority, item.Then, true, t.taken)
	if err != nil {
		f.answers[t.item].Err = err
		return false, false, nil
	}
	if t.adopt != nil {
		g.added.adopt = t.adopt
	}
	// As the move will leave the flags; a change beyond them is written after.
	row.flags |= FlagReleased
	if len(item.Result) > PayloadThreshold {
		row.flags |= FlagResultInPayloads
	}
	g.rows[id] = row
	g.ended[id] = dag.Succeeded
	t.append = len(g.events)
	g.events = append(g.events, event, dag.Event{Kind: dag.Report, Node: id, Outcome: dag.Succeeded})
	return true, false, nil
}

// withdraw takes a returned graph and its job's end, the last of the graph's
// events, back.
func (g *graph) withdraw(t *then, node int32) {
	g.added.drop(&g.events[t.append])
	g.events = g.events[:t.append]
	delete(g.ended, dag.ID(node))
	g.decided = false
	if len(g.events) == 0 {
		g.added = nil
	}
}

// queueThenEnds queues the moves of the jobs whose graphs are added.
func (f *flush) queueThenEnds(w *work, p *flushPlan) {
	if len(p.thenEnds.Ids) == 0 {
		return
	}
	w.queue(db.FinishNodesSQL, p.thenEnds.args()...)
	if p := &p.thenBig; len(p.Ids) > 0 {
		w.queue(db.PutResultsSQL, p.Ids, p.Nodes, p.Turns, p.Bodies)
	}
}
