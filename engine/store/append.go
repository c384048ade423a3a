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

// AppendRequest adds nodes to a workflow.
type AppendRequest struct {
	// Reign, if the leader appends: the transaction is fenced with it.
	Reign *model.Reign
	ID    fsm.WorkflowID
	// Batch takes the new nodes whose Container is not a new node. A lone
	// job's is 0, or -1.
	Batch dag.ID
	// Chunk is the graph: containers and edge ends below 0 are its own nodes,
	// -1 the first; edge parents from 0 on are existing nodes.
	Chunk model.Chunk
	// Key makes the append repeatable: a second one of the same key adds
	// nothing and answers with the nodes of the first. Empty: none.
	Key string
	// Lease of the job of this workflow that appends while it runs; it must
	// still hold, else model.ErrStale. Nil: from outside.
	Lease *fsm.Lease
}

// Append adds nodes to a batch of a workflow and answers with the number of
// the first, how many there are, and whether this call has added them. It
// locks the workflow, or the lone job, before it looks at anything: parents
// that end meanwhile do so before or after, never in between (C8).
func (s *Store) Append(ctx context.Context, req AppendRequest) (first dag.ID, n int32, created bool, eff model.Effects, err error) {
	fail := func(err error) (dag.ID, int32, bool, model.Effects, error) {
		return 0, 0, false, model.Effects{}, fmt.Errorf("append to workflow %s: %w", req.ID, err)
	}
	if err := checkText("key", req.Key, maxNameBytes); err != nil {
		return fail(err)
	}
	if err := s.knowChunk(ctx, &req.Chunk); err != nil {
		return fail(err)
	}
	now, err := s.now(ctx)
	if err != nil {
		return fail(err)
	}
	batch := max(req.Batch, dag.Root)
	w, gs, lone, err := s.hold(ctx, req.Reign, req.ID)
	if err != nil {
		return fail(err)
	}
	defer w.end()
	look := s.lookAppend(w, gs, &req, batch, lone == nil)
	if err := w.send(ctx); err != nil {
		return fail(err)
	}
	g := gs.get(req.ID)
	row, found := g.rows[batch]
	switch {
	case req.Lease != nil && !look.leased(g, req.Lease):
		return fail(fmt.Errorf("%w: %s", model.ErrStale, req.Lease.Job))
	case look.n > 0:
		return look.first, look.n, false, model.Effects{}, nil
	case !found:
		return fail(fmt.Errorf("%w: batch %d", model.ErrNotFound, batch))
	}
	if lone != nil {
		look.taken = append(look.taken, lone.name)
	}
	event, err := g.append(s, now, batch, row.priority, &req.Chunk, false, look.taken)
	if err != nil {
		return fail(err)
	}
	if lone != nil {
		g.added.adopt = lone
		g.alone = false
	}
	g.events = []dag.Event{event}
	refused, err := gs.decide(ctx, w, nil)
	if err == nil {
		err = refused[req.ID]
	}
	if err != nil {
		return fail(err)
	}
	first, n = event.New[0].ID, int32(len(event.New))
	wr := &writer{}
	wr.add(g)
	if err := g.added.queue(w, g); err != nil {
		return fail(err)
	}
	wr.queue(w)
	if req.Key != "" {
		w.queue(db.PutAppendKeySQL, req.ID, req.Key, int32(first), n)
	}
	if req.Lease == nil { // what running jobs add, they are the authors of
		w.queue(db.AddAuditSQL, req.ID, int32(first), "append", fmt.Sprintf("%d nodes", n), access.From(ctx).Name)
	}
	if err := w.commit(ctx); err != nil {
		return fail(err)
	}
	return first, n, true, wr.eff.list(), nil
}

// appendLook is what an append finds behind the lock.
type appendLook struct {
	first dag.ID // of an append of the same key
	n     int32
	taken []string
}

// lookAppend queues what an append has to know: whether its key is taken, what
// its batch lies in, which of its names are taken, and the job that appends.
func (s *Store) lookAppend(w *work, gs *graphs, req *AppendRequest, batch dag.ID, graph bool) *appendLook {
	look := &appendLook{}
	if req.Key != "" {
		w.each(func(r raw) { look.first, look.n = dag.ID(r.int4(0)), r.int4(1) }, db.AppendOfKeySQL, req.ID, req.Key)
	}
	if !graph {
		return look
	}
	if batch != dag.Root {
		w.each(gs.put, db.BatchesUpSQL, []fsm.WorkflowID{req.ID}, []int32{int32(batch)})
	}
	if names := outerNames(&req.Chunk); len(names) > 0 {
		w.each(func(r raw) { look.taken = append(look.taken, r.text(0)) }, db.TakenNamesSQL, req.ID, int32(batch), names)
	}
	if req.Lease != nil {
		w.each(gs.put, db.NodesByNumberSQL, []fsm.WorkflowID{req.ID}, []int32{req.Lease.Job.Node})
	}
	return look
}

// leased tells whether the lease under which the append comes still holds.
func (l *appendLook) leased(g *graph, lease *fsm.Lease) bool {
	row, ok := g.rows[dag.ID(lease.Job.Node)]
	return ok && lease.Job.Workflow == g.id && row.kind == rowOpen && row.turn == lease.Turn && row.was.State == dag.Released
}
