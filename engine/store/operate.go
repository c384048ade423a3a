package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// OperationStep is what one transaction does of an operation: to these jobs, and
// to the operation's record.
type OperationStep struct {
	Jobs []fsm.JobID
	// Leased are the jobs of their workflows that sessions hold.
	Leased map[fsm.WorkflowID][]int32
	// PassedOver, Failed and Fault are of jobs that the transaction does not
	// touch, and are added to the record.
	PassedOver, Failed int64
	Fault              string
	// Page, if the step is the last one of a page: how far the operation has
	// come.
	Page *OperationPage
}

// operated is what becomes of the jobs of a step.
type operated struct {
	ids        []fsm.WorkflowID // changed, with nodes
	nodes      []int32
	passedOver int64
}

func (o *operated) change(id fsm.WorkflowID, node int32) {
	o.ids, o.nodes = append(o.ids, id), append(o.nodes, node)
}

// errMoved: a lone job became a graph while it was waited for; the transaction
// must begin anew.
var errMoved = errors.New("a lone job became a graph meanwhile")

// Operate carries out a step, and moves the operation's record on, in one
// transaction. Jobs to which the action does not apply any more are passed over
// and counted.
func (s *Store) Operate(ctx context.Context, reign model.Reign, op *RunningOperation, step *OperationStep) (eff model.Effects, err error) {
	for try := 1; ; try++ {
		if op.Action() == heddlev1.Action_ACTION_DELETE {
			eff, err = s.operateDelete(ctx, reign, op, step)
		} else {
			eff, err = s.operate(ctx, reign, op, step, try == lockTries)
		}
		if errors.Is(err, errMoved) {
			continue
		}
		break
	}
	if err != nil {
		return model.Effects{}, fmt.Errorf("operation %s: %w", op.ID, err)
	}
	if step.Page != nil {
		op.cursor = step.Page.Cursor
	}
	return eff, nil
}

func (s *Store) operate(ctx context.Context, reign model.Reign, op *RunningOperation, step *OperationStep, last bool) (model.Effects, error) {
	fail := func(err error) (model.Effects, error) { return model.Effects{}, err }
	w, err := s.begin(ctx, &reign)
	if err != nil {
		return fail(err)
	}
	defer w.end()
	gs, lost, err := s.holdAll(ctx, w, step.Jobs)
	if err != nil {
		return fail(err)
	}
	if len(lost) > 0 && !last {
		return fail(errMoved)
	}
	var done operated
	var eff model.Effects
	if op.Action() == heddlev1.Action_ACTION_RUN_NOW {
		eff, err = s.runNow(ctx, w, gs, step, &done)
	} else {
		eff, err = s.operateRules(ctx, w, gs, op, step, &done)
	}
	if err != nil {
		return fail(err)
	}
	s.record(w, op, step, &done)
	if err := w.commit(ctx); err != nil {
		return fail(err)
	}
	return eff, nil
}

// holdAll locks the workflows of jobs, graphs before lone jobs and both by their
// ids, and reads the jobs. lost are those of which there is neither.
func (s *Store) holdAll(ctx context.Context, w *work, jobs []fsm.JobID) (gs *graphs, lost []fsm.WorkflowID, err error) {
	gs = s.newGraphs()
	var ids []fsm.WorkflowID
	var nodes db.NodesByNumberParams
	for _, j := range jobs {
		ids = append(ids, j.Workflow)
		nodes.Ids, nodes.Nodes = append(nodes.Ids, j.Workflow), append(nodes.Nodes, j.Node)
	}
	slices.SortFunc(ids, func(a, b fsm.WorkflowID) int { return slices.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return gs, nil, w.send(ctx)
	}
	gs.lock(w, ids)
	if err := w.send(ctx); err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		g := gs.get(id)
		if _, locked := g.region.Node(dag.Root); locked {
			continue
		}
		put := func(r raw) {
			g.putLone(r)
			g.alone = true
		}
		w.each(put, db.LockLoneSQL, id)
		w.each(put, db.LockFinishedLoneSQL, id)
	}
	w.each(func(r raw) {
		if g := gs.get(r.id(1)); !g.alone {
			g.putNode(r)
		}
	}, db.NodesByNumberSQL, nodes.Ids, nodes.Nodes)
	if err := w.send(ctx); err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		if _, locked := gs.get(id).region.Node(dag.Root); !locked {
			lost = append(lost, id)
			delete(gs.byID, id)
		}
	}
	return gs, lost, nil
}

// operateRules has the rules decide about the jobs, each workflow's together.
func (s *Store) operateRules(ctx context.Context, w *work, gs *graphs, op *RunningOperation, step *OperationStep, done *operated) (model.Effects, error) {
	batches := db.BatchesUpParams{}
	for _, j := range step.Jobs {
		g := gs.byID[j.Workflow]
		if g == nil {
			done.passedOver++
			continue
		}
		row, known := g.rows[dag.ID(j.Node)]
		if !known || !applies(op.Action(), &row) {
			done.passedOver++
			continue
		}
		g.events = append(g.events, eventOf(op, dag.ID(j.Node)))
		if row.was.Batch > dag.Root {
			batches.Ids, batches.Nodes = append(batches.Ids, j.Workflow), append(batches.Nodes, int32(row.was.Batch))
		}
	}
	if len(batches.Ids) > 0 {
		w.each(gs.put, db.BatchesUpSQL, batches.Ids, batches.Nodes)
	}
	leased := func(id fsm.WorkflowID) ([]int32, error) { return step.Leased[id], nil }
	for {
		refused, err := gs.decide(ctx, w, leased)
		if err != nil {
			return model.Effects{}, err
		}
		if len(refused) == 0 {
			break
		}
		for id := range refused {
			if err := dropRefused(ctx, w, gs.byID[id], gs.limit, leased); err != nil {
				return model.Effects{}, err
			}
			done.passedOver++
		}
	}
	wr := &writer{}
	for _, g := range gs.sorted() {
		if len(g.events) == 0 {
			continue
		}
		wr.add(g)
		for _, e := range g.events {
			done.change(g.id, int32(e.Node))
		}
	}
	wr.queue(w)
	if op.Action() == heddlev1.Action_ACTION_DISMISS {
		for i, id := range done.ids {
			w.queue(db.SetResultSQL, []byte(nil), int32(0), id, done.nodes[i])
		}
	}
	if err := w.send(ctx); err != nil { // the rows it makes ready come back with it
		return model.Effects{}, err
	}
	return wr.eff.list(), nil
}

// dropRefused takes the first event that the rules refuse out of a graph's: the
// last one of the shortest run that is refused.
func dropRefused(ctx context.Context, w *work, g *graph, limit int32, leased func(fsm.WorkflowID) ([]int32, error)) error {
	alone := &graphs{byID: map[fsm.WorkflowID]*graph{g.id: g}, limit: limit}
	all := g.events
	var fault error
	n := sort.Search(len(all)-1, func(i int) bool {
		if fault != nil {
			return true
		}
		g.events, g.decided = all[:i+1], false
		refused, err := alone.decide(ctx, w, leased)
		fault = err
		return len(refused) > 0
	})
	g.events = slices.Delete(slices.Clone(all), n, n+1)
	g.decision, g.decided = dag.Decision{}, false
	return fault
}

// applies tells whether there is something to do for an action; whether it may
// be done, the rules say.
func applies(action heddlev1.Action, row *nodeRow) bool {
	switch {
	case row.kind == rowBatch:
		return false
	case action == heddlev1.Action_ACTION_CANCEL:
		return row.kind == rowOpen
	}
	return row.kind == rowFinished && row.was.Outcome&(dag.Failed|dag.Cancelled) != 0
}

func eventOf(op *RunningOperation, node dag.ID) dag.Event {
	switch op.Action() {
	case heddlev1.Action_ACTION_CANCEL:
		return dag.Event{Kind: dag.Cancel, Node: node, Force: op.req.GetForce()}
	case heddlev1.Action_ACTION_DISMISS:
		return dag.Event{Kind: dag.Dismiss, Node: node}
	}
	return dag.Event{Kind: dag.Retry, Node: node, Downstream: op.req.GetDownstream()}
}

// words of the actions, in the audit.
var auditWords = map[heddlev1.Action]string{
	heddlev1.Action_ACTION_RETRY: "retry", heddlev1.Action_ACTION_CANCEL: "cancel",
	heddlev1.Action_ACTION_DISMISS: "dismiss", heddlev1.Action_ACTION_RUN_NOW: "run now",
}

// record queues what is kept of a step: in the audit of the workflows, and in
// the operation's record.
func (s *Store) record(w *work, op *RunningOperation, step *OperationStep, done *operated) {
	if len(done.ids) > 0 {
		w.queue(db.AddAuditsSQL, auditWords[op.Action()], op.req.GetNote(), op.Author, done.ids, done.nodes)
	}
	p := advance(op, step, int64(len(done.ids)), done.passedOver)
	w.queue(db.AdvanceOperationSQL, p.LookedAt, p.Changed, p.PassedOver, p.Failed, p.Fault, p.Cursor, p.Finished, p.ID)
}

func advance(op *RunningOperation, step *OperationStep, changed, passedOver int64) db.AdvanceOperationParams {
	passedOver += step.PassedOver
	p := db.AdvanceOperationParams{
		ID: op.ID, Changed: changed, PassedOver: passedOver, Failed: step.Failed, Fault: step.Fault,
		LookedAt: changed + passedOver + step.Failed, Cursor: op.cursor,
	}
	if step.Page != nil {
		p.Cursor, p.Finished = step.Page.Cursor, step.Page.Last
	}
	return p
}

// operateDelete removes the workflows of jobs that have ended as a whole.
func (s *Store) operateDelete(ctx context.Context, reign model.Reign, op *RunningOperation, step *OperationStep) (eff model.Effects, err error) {
	tx, err := s.main.Begin(ctx)
	if err != nil {
		return eff, err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback(context.WithoutCancel(ctx)) // the error of before counts
		}
	}()
	q := db.New(tx)
	if err := q.Fence(ctx, db.FenceParams{Epoch: int64(reign.Epoch), Timeline: reign.Timeline}); err != nil {
		return eff, fencedError(err)
	}
	jobs := slices.Clone(step.Jobs)
	slices.SortFunc(jobs, func(a, b fsm.JobID) int {
		return cmp.Or(slices.Compare(a.Workflow[:], b.Workflow[:]), cmp.Compare(a.Node, b.Node))
	})
	var changed, passedOver int64
	for i := 0; i < len(jobs); {
		id := jobs[i].Workflow
		n := 1
		for i+n < len(jobs) && jobs[i+n].Workflow == id {
			n++
		}
		i += n
		switch err := removeEndedOne(ctx, tx, id); {
		case err == nil:
			changed += int64(n)
			eff.Touched = append(eff.Touched, id)
		case errors.Is(err, model.ErrNotFound), errors.Is(err, model.ErrRefused):
			passedOver += int64(n)
		default:
			return eff, err
		}
	}
	if err := q.AdvanceOperation(ctx, advance(op, step, changed, passedOver)); err != nil {
		return eff, err
	}
	return eff, commit(ctx, tx)
}

// EndOperation ends an operation as it is.
func (s *Store) EndOperation(ctx context.Context, reign model.Reign, op *RunningOperation) error {
	w, err := s.begin(ctx, &reign)
	if err != nil {
		return err
	}
	defer w.end()
	w.queue(db.AdvanceOperationSQL, int64(0), int64(0), int64(0), int64(0), "", op.cursor, true, op.ID)
	if err := w.commit(ctx); err != nil {
		return fmt.Errorf("end operation %s: %w", op.ID, err)
	}
	return nil
}
