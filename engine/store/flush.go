package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// flushRounds bounds how often a flush is tried again without any progress.
const flushRounds = 4

// Flush writes the ends of attempts, with all that the rules make of them, in
// one transaction of the reign. Every item is answered in its place: done, or
// stale, or with an error of its own. An error of the whole flush is ErrFenced
// or another, after which nothing has happened, or model.ErrDoubt: then the
// same flush must be run again until it is answered, and what had been written
// counts as done. Flushes that run side by side wait for each other at the
// workflows they share.
func (s *Store) Flush(ctx context.Context, reign model.Reign, items []model.Finish) ([]model.Flushed, model.Effects, error) {
	f := &flush{s: s, reign: reign, items: slices.Clone(items), answers: make([]model.Flushed, len(items))}
	todo := make([]int, len(items))
	for i := range items {
		todo[i] = i
	}
	todo, err := f.knowThens(ctx, todo)
	if err != nil {
		return nil, model.Effects{}, fmt.Errorf("flush %d ends: %w", len(items), err)
	}
	for stuck := 0; len(todo) > 0; {
		left, err := f.each(ctx, todo, f.write)
		if err == nil && len(left) > 0 {
			// Rows that are not as the items say: repeated, stale, told to
			// cancel, or made a graph since the grant.
			left, err = f.each(ctx, left, f.examine)
		}
		if err == nil && len(left) == len(todo) {
			if stuck++; stuck == flushRounds {
				err = fmt.Errorf("%w: %d of them", errMoving, len(left))
			}
		}
		if err != nil {
			if f.committed && !errors.Is(err, ErrFenced) && !errors.Is(err, model.ErrDoubt) {
				err = fmt.Errorf("%w: a part is written: %w", model.ErrDoubt, err)
			}
			return nil, model.Effects{}, fmt.Errorf("flush %d ends: %w", len(items), err)
		}
		todo = left
	}
	return f.answers, f.eff.list(), nil
}

// each runs a step over items. An error that one of them is at fault for fails
// the whole flush as long as nothing of it is written: the caller divides it.
// From then on the rest must not be repeated for the sake of one: it is found by
// halves, and answered with the error.
func (f *flush) each(ctx context.Context, items []int, step func(context.Context, []int) ([]int, error)) ([]int, error) {
	left, err := step(ctx, items)
	switch {
	case err == nil || !f.committed || Transient(err) || errors.Is(err, model.ErrDoubt) || errors.Is(err, ErrFenced):
		return left, err
	case len(items) == 1:
		f.answers[items[0]].Err = err
		return nil, nil
	}
	half := len(items) / 2
	left, err = f.each(ctx, items[:half], step)
	if err != nil {
		return nil, err
	}
	more, err := f.each(ctx, items[half:], step)
	return append(left, more...), err
}

// flush is one call of Flush.
type flush struct {
	s         *Store
	reign     model.Reign
	items     []model.Finish
	answers   []model.Flushed
	eff       effects
	committed bool // some of it
}

// requeues tells the endings after which a job waits again.
func requeues(e model.Ending) bool { return e >= model.EndRetry }

// outcomeOf is what an item writes into the history. A job that was told to
// cancel ends cancelled instead of failed; the statements see to that.
func outcomeOf(e model.Ending) dag.Outcome {
	switch e {
	case model.EndSucceeded:
		return dag.Succeeded
	case model.EndFailed:
		return dag.Failed
	}
	return dag.Cancelled
}

// counts tells whether an ending counts as an attempt.
func counts(item *model.Finish) int16 {
	switch item.Ending {
	case model.EndSucceeded, model.EndRetry:
		return 1
	case model.EndFailed:
		if item.Worker != "" {
			return 1
		}
	}
	return 0
}

// ends are the arguments of FinishLone and FinishNodes.
type ends db.FinishNodesParams

func (p *ends) add(item *model.Finish, big *db.PutResultsParams) {
	result, flags := item.Result, int32(0)
	if len(result) > PayloadThreshold {
		big.Ids = append(big.Ids, item.Job.Workflow)
		big.Nodes = append(big.Nodes, item.Job.Node)
		big.Turns = append(big.Turns, item.Turn)
		big.Bodies = append(big.Bodies, result)
		result, flags = nil, FlagResultInPayloads
	}
	if len(result) == 0 {
		result = nil
	}
	ran := max(0, item.Ran.Microseconds())
	if item.Worker == "" {
		ran = -1 // it never started
	}
	p.Ids = append(p.Ids, item.Job.Workflow)
	p.Nodes = append(p.Nodes, item.Job.Node)
	p.Turns = append(p.Turns, item.Turn)
	p.Outcomes = append(p.Outcomes, int16(outcomeOf(item.Ending)))
	p.Counted = append(p.Counted, counts(item))
	p.Flags = append(p.Flags, flags)
	p.Agos = append(p.Agos, max(0, item.Ago.Microseconds()))
	p.Rans = append(p.Rans, ran)
	p.Workers = append(p.Workers, item.Worker)
	p.Results = append(p.Results, result)
	p.Errors = append(p.Errors, item.Error)
}

func (p *ends) args() []any {
	return []any{p.Ids, p.Nodes, p.Turns, p.Outcomes, p.Counted, p.Flags, p.Agos, p.Rans, p.Workers, p.Results, p.Errors}
}

// requeued are the arguments of RequeueJobs.
type requeued db.RequeueJobsParams

func (p *requeued) add(item *model.Finish) {
	p.Ids = append(p.Ids, item.Job.Workflow)
	p.Nodes = append(p.Nodes, item.Job.Node)
	p.Turns = append(p.Turns, item.Turn)
	p.Lone = append(p.Lone, item.Batch < 0)
	p.Counted = append(p.Counted, counts(item))
	p.Hows = append(p.Hows, item.How)
	p.Delays = append(p.Delays, max(0, item.Delay.Microseconds()))
	p.Waits = append(p.Waits, max(0, item.Wait.Microseconds()))
	p.Agos = append(p.Agos, max(0, item.Ago.Microseconds()))
	p.Rans = append(p.Rans, max(0, item.Ran.Microseconds()))
	p.Workers = append(p.Workers, item.Worker)
	p.Errors = append(p.Errors, item.Error)
}

func (p *requeued) args() []any {
	return []any{p.Ids, p.Nodes, p.Turns, p.Lone, p.Counted, p.Hows, p.Delays, p.Waits, p.Agos, p.Rans, p.Workers, p.Errors}
}

// plan is what a transaction of a flush writes, and what came of it.
type flushPlan struct {
	lone, nodes   ends
	requeue       requeued
	big           db.PutResultsParams
	loneItems     []int
	nodeItems     jobItems
	requeueItems  jobItems
	thens         []then
	thenEnds      ends
	thenBig       db.PutResultsParams
	loneMoved     int64
	ready         effects
	workflows     []fsm.WorkflowID // to lock, ascending
	batches       db.BatchesUpParams
	parents       db.EdgesOfEndsParams
	finishedNodes []finishedNode
}

// jobItems are the items whose rows have not come back as written, by job.
type jobItems map[fsm.JobID][]int

func (l jobItems) add(job fsm.JobID, item int) { l[job] = append(l[job], item) }

// written strikes the item of a row that came back. Which of several items of
// one job it was cannot be told from the row: they stay.
func (l jobItems) written(job fsm.JobID) {
	if len(l[job]) == 1 {
		delete(l, job)
	}
}

// finishedNode is a graph node that the flush has moved to the history.
type finishedNode struct {
	job         fsm.JobID
	batch       int32
	outcome     dag.Outcome
	flags, turn int32
	join, life  int32
	releasedBy  int32
}

func (f *flush) plan(todo []int) *flushPlan {
	p := &flushPlan{nodeItems: jobItems{}, requeueItems: jobItems{}}
	perBatch := map[fsm.JobID]int{} // ends of this flush in a workflow, and which batches
	ended := map[fsm.WorkflowID]int32{}
	for _, i := range todo {
		item := &f.items[i]
		if item.Batch >= 0 || returns(item) {
			p.workflows = append(p.workflows, item.Job.Workflow)
		}
		switch {
		case requeues(item.Ending):
			p.requeue.add(item)
			p.requeueItems.add(item.Job, i)
		case returns(item):
			p.thens = append(p.thens, then{item: i})
		case item.Batch < 0:
			p.lone.add(item, &p.big)
			p.loneItems = append(p.loneItems, i)
		default:
			p.nodes.add(item, &p.big)
			p.nodeItems.add(item.Job, i)
			ended[item.Job.Workflow]++
			if item.Flags&FlagChildren != 0 {
				p.parents.Ids = append(p.parents.Ids, item.Job.Workflow)
				p.parents.Nodes = append(p.parents.Nodes, item.Job.Node)
			}
			if item.Batch > 0 {
				perBatch[fsm.JobID{Workflow: item.Job.Workflow, Node: item.Batch}]++
			}
		}
	}
	slices.SortFunc(p.workflows, compareIDs)
	p.workflows = slices.Compact(p.workflows)
	for batch := range perBatch {
		p.batches.Ids = append(p.batches.Ids, batch.Workflow)
		p.batches.Nodes = append(p.batches.Nodes, batch.Node)
		p.parents.BatchIds = append(p.parents.BatchIds, batch.Workflow)
		p.parents.Batches = append(p.parents.Batches, batch.Node)
		p.parents.Lims = append(p.parents.Lims, ended[batch.Workflow])
	}
	return p
}

func compareIDs(a, b fsm.WorkflowID) int { return slices.Compare(a[:], b[:]) }

// write runs one transaction over the items todo, and answers with those whose
// rows were not as the items say.
func (f *flush) write(ctx context.Context, todo []int) (left []int, err error) {
	p := f.plan(todo)
	w, err := f.s.begin(ctx, &f.reign)
	if err != nil {
		return nil, err
	}
	defer w.end()
	gs := f.s.newGraphs()
	if len(p.workflows) > 0 {
		gs.lock(w, p.workflows)
	}
	f.queueEnds(w, p)
	wr := &writer{}
	var stale []int
	if len(p.workflows) > 0 {
		// Later statements than the lock and the move: their snapshots follow
		// both (C8).
		var edges endEdges
		if len(p.batches.Ids) > 0 {
			w.each(gs.put, db.BatchesUpSQL, p.batches.Ids, p.batches.Nodes)
		}
		if len(p.parents.Ids)+len(p.parents.BatchIds) > 0 {
			w.each(edges.read(gs), db.EdgesOfEndsSQL, p.parents.BatchIds, p.parents.Batches, p.parents.Lims, p.parents.Ids, p.parents.Nodes)
		}
		if len(p.thens) > 0 {
			f.queueThens(w, gs, p)
		}
		if err := w.send(ctx); err != nil {
			return nil, err
		}
		for _, n := range p.finishedNodes {
			gs.get(n.job.Workflow).putFinished(n)
		}
		edges.put(gs, p)
		if stale, err = f.decide(ctx, w, gs, p); err != nil {
			return nil, err
		}
		for _, g := range gs.sorted() {
			wr.add(g)
			if err := g.added.queue(w, g); err != nil {
				return nil, err
			}
		}
		f.queueThenEnds(w, p)
		wr.queue(w)
	}
	if err := w.commit(ctx); err != nil {
		return nil, err
	}
	f.committed = true
	f.collect(gs, wr, p)
	return append(stale, f.missed(p)...), nil
}

// queueEnds queues the moves to the history and the updates of what waits
// again.
func (f *flush) queueEnds(w *work, p *flushPlan) {
	if len(p.lone.Ids) > 0 {
		w.queue(db.FinishLoneSQL, p.lone.args()...).Exec(func(tag commandTag) error {
			p.loneMoved = tag.RowsAffected()
			return nil
		})
	}
	if len(p.nodes.Ids) > 0 {
		w.each(p.moved, db.FinishNodesSQL, p.nodes.args()...)
	}
	if len(p.requeue.Ids) > 0 {
		w.each(func(r raw) {
			row := r.ready()
			p.requeueItems.written(row.Job)
			p.ready.ready(row)
			if row.Batch >= 0 {
				p.ready.Touched = append(p.ready.Touched, row.Job.Workflow)
			}
		}, db.RequeueJobsSQL, p.requeue.args()...)
	}
	if len(p.big.Ids) > 0 {
		w.queue(db.PutResultsSQL, p.big.Ids, p.big.Nodes, p.big.Turns, p.big.Bodies)
	}
}

// moved takes a row of FinishNodes.
func (p *flushPlan) moved(r raw) {
	n := finishedNode{
		job: fsm.JobID{Workflow: r.id(0), Node: r.int4(1)}, batch: r.int4(2), outcome: dag.Outcome(r.int2(3)), flags: r.int4(4),
		join: r.int4(5), life: r.int4(6), releasedBy: r.int4(7), turn: r.int4(8),
	}
	p.finishedNodes = append(p.finishedNodes, n)
	p.nodeItems.written(n.job)
}

// putFinished puts a moved node as it was before, and reports its end.
func (g *graph) putFinished(n finishedNode) {
	id := dag.ID(n.job.Node)
	node := dag.Node{
		ID: id, Batch: dag.ID(n.batch), State: dag.Released, Join: n.join, Life: n.life, ReleasedBy: dag.ID(n.releasedBy), Hi: -1,
	}
	setRuleFlags(&node, n.flags)
	node.Released = true
	g.region.Put(node)
	g.rows[id] = nodeRow{kind: rowOpen, flags: n.flags, turn: n.turn, was: node}
	g.ended[id] = n.outcome
	g.events = append(g.events, dag.Event{Kind: dag.Report, Node: id, Outcome: n.outcome})
}

// endEdges collects the rows of EdgesOfEnds.
type endEdges struct {
	out map[fsm.JobID][]dag.Edge
}

func (e *endEdges) read(gs *graphs) func(raw) {
	e.out = map[fsm.JobID][]dag.Edge{}
	return func(r raw) {
		parent := fsm.JobID{Workflow: r.id(1), Node: r.int4(25)}
		e.out[parent] = append(e.out[parent], dag.Edge{Parent: dag.ID(parent.Node), Child: dag.ID(r.int4(2)), On: dag.Outcome(r.int2(26))})
		if r.int2(0) >= 0 {
			gs.put(r)
		}
	}
}

func (e *endEdges) put(gs *graphs, p *flushPlan) {
	for parent, edges := range e.out {
		gs.get(parent.Workflow).region.PutOut(dag.ID(parent.Node), edges)
	}
	// Parents that were asked for and have no edges.
	for i, id := range p.parents.Ids {
		parent := fsm.JobID{Workflow: id, Node: p.parents.Nodes[i]}
		if _, some := e.out[parent]; !some {
			gs.get(id).region.PutOut(dag.ID(parent.Node), nil)
		}
	}
}

// collect sums up what the committed transaction changed.
func (f *flush) collect(gs *graphs, wr *writer, p *flushPlan) {
	if p.loneMoved == int64(len(p.loneItems)) {
		for _, i := range p.loneItems {
			f.eff.Ended = append(f.eff.Ended, f.items[i].Job.Workflow)
		}
	}
	for _, e := range []*effects{&p.ready, &wr.eff} {
		eff := e.list()
		for _, row := range eff.Ready {
			f.eff.ready(row)
		}
		f.eff.Lanes = append(f.eff.Lanes, eff.Lanes...)
		f.eff.Gone = append(f.eff.Gone, eff.Gone...)
		f.eff.Tell = append(f.eff.Tell, eff.Tell...)
		f.eff.Ended = append(f.eff.Ended, eff.Ended...)
		f.eff.Touched = append(f.eff.Touched, eff.Touched...)
		f.eff.Resumed = append(f.eff.Resumed, eff.Resumed...)
		f.eff.Cascades = f.eff.Cascades || eff.Cascades
	}
}

// missed lists the items whose rows were not found as they say. Of lone ends
// only the number is known.
func (f *flush) missed(p *flushPlan) []int {
	var left []int
	if p.loneMoved < int64(len(p.loneItems)) {
		left = append(left, p.loneItems...)
	}
	for _, items := range []jobItems{p.nodeItems, p.requeueItems} {
		for _, list := range items {
			left = append(left, list...)
		}
	}
	return left
}
