package store

import (
	"context"
	"fmt"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Cancel ends or marks a node and what is inside it; node 0 is the workflow.
// leased are the jobs of the workflow that a session holds, or may hold: they
// are told instead of ended, and come back in Effects.Tell. With force nodes
// that clean up are cancelled too. A cancel of the workflow lifts its pause.
func (s *Store) Cancel(ctx context.Context, reign model.Reign, id fsm.WorkflowID, node dag.ID, force bool, leased []int32) (model.Effects, error) {
	c := command{
		name: "cancel", id: id, node: node, leased: leased,
		events: func(node dag.ID) []dag.Event { return []dag.Event{{Kind: dag.Cancel, Node: node, Force: force}} },
	}
	eff, _, err := s.run(ctx, reign, &c)
	return eff, err
}

// Retry takes the outcome of a node back: of a job that failed or was
// cancelled, or of all such jobs below a batch; node 0 is the workflow. With
// downstream also what ran after it. It answers how many jobs run again.
func (s *Store) Retry(ctx context.Context, reign model.Reign, id fsm.WorkflowID, node dag.ID, downstream bool, leased []int32) (jobs int, eff model.Effects, err error) {
	c := command{
		name: "retry", id: id, node: node, leased: leased,
		events: func(node dag.ID) []dag.Event {
			return []dag.Event{{Kind: dag.Retry, Node: node, Downstream: downstream}}
		},
	}
	eff, jobs, err = s.run(ctx, reign, &c)
	return jobs, eff, err
}

// Dismiss declares a failed or cancelled job succeeded, with a result that may
// be nil and a note that is kept.
func (s *Store) Dismiss(ctx context.Context, reign model.Reign, id fsm.WorkflowID, node dag.ID, result []byte, note string) (eff model.Effects, err error) {
	if len(result) > s.config.MaxBody {
		return eff, invalid("the result has %d bytes, the limit is %d", len(result), s.config.MaxBody)
	}
	c := command{
		name: "dismiss", id: id, node: node, note: note,
		events: func(node dag.ID) []dag.Event { return []dag.Event{{Kind: dag.Dismiss, Node: node}} },
		after: func(w *work, node dag.ID) {
			body, flags := result, int32(0)
			if len(result) > PayloadThreshold {
				body, flags = nil, FlagResultInPayloads
				w.queue(db.PutResultSQL, id, int32(node), result)
			}
			w.queue(db.SetResultSQL, body, flags, id, int32(node))
		},
	}
	eff, _, err = s.run(ctx, reign, &c)
	return eff, err
}

// GiveUp ends the hold of a node: the edges that its failure left open die.
func (s *Store) GiveUp(ctx context.Context, reign model.Reign, id fsm.WorkflowID, node dag.ID) (eff model.Effects, err error) {
	c := command{
		name: "give up", id: id, node: node,
		events: func(node dag.ID) []dag.Event { return []dag.Event{{Kind: dag.GiveUp, Node: node}} },
	}
	eff, _, err = s.run(ctx, reign, &c)
	return eff, err
}

// Seal closes an open batch; node 0 is the workflow.
func (s *Store) Seal(ctx context.Context, reign model.Reign, id fsm.WorkflowID, node dag.ID) (eff model.Effects, err error) {
	c := command{
		name: "seal", id: id, node: node,
		events: func(node dag.ID) []dag.Event { return []dag.Event{{Kind: dag.Seal, Node: node}} },
	}
	eff, _, err = s.run(ctx, reign, &c)
	return eff, err
}

// command is something done to one node by hand. Its name goes into the audit.
type command struct {
	name   string
	id     fsm.WorkflowID
	node   dag.ID
	note   string
	leased []int32
	events func(node dag.ID) []dag.Event
	after  func(w *work, node dag.ID) // queues more behind the rules' changes
}

// lockTries bounds how often a lone job that an append makes a graph meanwhile
// is looked for again.
const lockTries = 3

// hold begins a transaction and locks a workflow in it: the row of a graph, or
// that of a lone job, which is then put as node 1 of a graph that is only
// implied.
func (s *Store) hold(ctx context.Context, reign *model.Reign, id fsm.WorkflowID) (*work, *graphs, *lonely, error) {
	for try := 1; ; try++ {
		w, err := s.begin(ctx, reign)
		if err != nil {
			return nil, nil, nil, err
		}
		gs := s.newGraphs()
		gs.lock(w, []fsm.WorkflowID{id})
		if err := w.send(ctx); err != nil {
			w.end()
			return nil, nil, nil, err
		}
		g := gs.get(id)
		if _, locked := g.region.Node(dag.Root); locked {
			return w, gs, nil, nil
		}
		// No graph. A lone job's row that an append changes while it is waited
		// for comes back as nothing, yet stays locked: then this transaction
		// must be given up before the workflow's row is asked for.
		var lone *lonely
		put := func(r raw) { lone = g.putLone(r) }
		w.each(put, db.LockLoneSQL, id)
		w.each(put, db.LockFinishedLoneSQL, id)
		if err := w.send(ctx); err != nil {
			w.end()
			return nil, nil, nil, err
		}
		if lone != nil {
			g.alone = true
			return w, gs, lone, nil
		}
		w.end()
		if try == lockTries {
			return nil, nil, nil, model.ErrNotFound // of what, the caller says
		}
	}
}

// run carries a command out and answers with the number of revived jobs.
func (s *Store) run(ctx context.Context, reign model.Reign, c *command) (model.Effects, int, error) {
	fail := func(err error) (model.Effects, int, error) {
		what := "workflow " + c.id.String()
		if c.node != dag.Root {
			what = fmt.Sprintf("node %s/%d", c.id, c.node)
		}
		return model.Effects{}, 0, fmt.Errorf("%s %s: %w", c.name, what, err)
	}
	w, gs, lone, err := s.hold(ctx, &reign, c.id)
	if err != nil {
		return fail(err)
	}
	defer w.end()
	node := c.node
	if lone != nil {
		if node > 1 {
			return fail(fmt.Errorf("%w: node %d of a lone job", model.ErrNotFound, node))
		}
		node = 1
	}
	g := gs.get(c.id)
	g.events = c.events(node)
	refused, err := gs.decide(ctx, w, func(fsm.WorkflowID) ([]int32, error) { return c.leased, nil })
	if err == nil {
		err = refused[c.id]
	}
	if err != nil {
		return fail(err)
	}
	wr := &writer{}
	wr.add(g)
	wr.queue(w)
	if c.after != nil {
		c.after(w, node)
	}
	w.queue(db.AddAuditSQL, c.id, int32(node), c.name, c.note, access.From(ctx).Name)
	if err := w.commit(ctx); err != nil {
		return fail(err)
	}
	return wr.eff.list(), wr.revived, nil
}

// SetPaused pauses a workflow, or resumes it: then the waits of its jobs in
// their queues begin anew. A lone job gets a row in workflows for it.
func (s *Store) SetPaused(ctx context.Context, reign model.Reign, id fsm.WorkflowID, paused bool) (eff model.Effects, err error) {
	name := "resume"
	if paused {
		name = "pause"
	}
	fail := func(err error) (model.Effects, error) {
		return model.Effects{}, fmt.Errorf("%s workflow %s: %w", name, id, err)
	}
	w, gs, lone, err := s.hold(ctx, &reign, id)
	if err != nil {
		return fail(err)
	}
	defer w.end()
	root := gs.get(id).rows[dag.Root]
	switch {
	case root.was.State == dag.Ended:
		return fail(fmt.Errorf("%w: it has ended", model.ErrRefused))
	case (root.flags&FlagPaused != 0) == paused:
		return model.Effects{}, nil
	}
	if lone != nil {
		lone.queue(w, id)
	}
	w.queue(db.SetWorkflowFlagsSQL, root.flags^FlagPaused, id)
	w.queue(db.AddAuditSQL, id, int32(dag.Root), name, "", access.From(ctx).Name)
	if !paused {
		if err := s.restartWaits(ctx, w, id); err != nil {
			return fail(err)
		}
	}
	if err := w.commit(ctx); err != nil {
		return fail(err)
	}
	return model.Effects{Touched: []fsm.WorkflowID{id}}, nil
}

// restartWaits lets the waits in the queue begin at the later of run_at and now.
func (s *Store) restartWaits(ctx context.Context, w *work, id fsm.WorkflowID) error {
	var nodes []int32
	var waits []int64
	w.each(func(r raw) {
		if wait := micros(jobOptions(r.bytes(3)).GetWaitTimeout()); wait > 0 {
			nodes, waits = append(nodes, r.int4(0)), append(waits, wait)
		}
	}, db.WaitingJobsSQL, id)
	if err := w.send(ctx); err != nil || len(nodes) == 0 {
		return err
	}
	w.queue(db.SetWaitsSQL, id, nodes, waits)
	return nil
}
