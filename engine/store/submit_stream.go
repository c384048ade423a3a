package store

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// streamBuffer is the number of bytes of rows that are gathered for a COPY.
const streamBuffer = 1 << 20

// stream is a graph on its way into the database, in one transaction: rows go
// out as they come in, only the structure stays in memory.
type stream struct {
	s        *Store
	tx       pgx.Tx
	planner  *graphPlanner
	plan     *plan
	jobs     copyBuffer
	payloads copyBuffer
	edges    copyBuffer
	sawEdges bool
}

// SubmitStream writes one graph of up to a million nodes in one transaction.
// next gives the chunks, all nodes before all edges, and io.EOF at the end;
// any other error of it, and anything wrong with the graph, leaves nothing
// behind. Each node tells how many edges come in and go out. Repeating a
// stream of the same id and content changes nothing, however it is cut.
//
// The transaction stays open while next waits; the server ends it after 30 s
// of silence.
func (s *Store) SubmitStream(ctx context.Context, header model.Submission, next func() (*model.Chunk, error)) (model.Submitted, error) {
	out, err := s.submitStream(ctx, &header, next)
	if err != nil {
		return model.Submitted{ID: header.ID}, submitError(header.ID, err)
	}
	return out, nil
}

func (s *Store) submitStream(ctx context.Context, header *model.Submission, next func() (*model.Chunk, error)) (model.Submitted, error) {
	none := model.Submitted{}
	now, err := s.now(ctx)
	if err != nil {
		return none, err
	}
	if err := checkID(header.ID, now); err != nil {
		return none, err
	}
	if header.Lone {
		return none, invalid("a lone job cannot be streamed")
	}
	planner, err := s.newGraphPlanner(header, now)
	if err != nil {
		return none, err
	}
	if err := s.ensureDay(ctx, dayOf(idTime(header.ID))); err != nil {
		return none, err
	}
	tx, err := s.main.Begin(ctx)
	if err != nil {
		return none, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	st := &stream{s: s, tx: tx, planner: planner, plan: &plan{
		id: header.ID, now: now.UnixMicro(), name: header.Name, headers: header.Headers,
	}}
	st.jobs.reset()
	st.payloads.reset()
	st.edges.reset()
	fresh, err := st.begin(ctx)
	if err != nil {
		return none, err
	}
	if !fresh {
		if err := tx.Rollback(ctx); err != nil {
			return none, err
		}
		return s.compareStream(ctx, header, next)
	}
	for {
		chunk, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return none, err
		}
		if err := st.chunk(ctx, chunk); err != nil {
			return none, err
		}
	}
	effects, err := st.finish(ctx)
	if err != nil {
		return none, err
	}
	if err := commit(ctx, tx); err != nil {
		if !errors.Is(err, model.ErrDoubt) {
			return none, err
		}
		if err := s.resolveStream(ctx, header.ID, st.plan.digest, err); err != nil {
			return none, err
		}
	}
	st.plan.created()
	addEffects(effects)
	return st.plan.out, nil
}

// begin takes the id. It answers false when it is taken.
func (st *stream) begin(ctx context.Context) (bool, error) {
	var rows db.InsertWorkflowsParams
	st.plan.batches = st.planner.batches[:1]
	root := &st.planner.batches[0]
	root.flags = FlagReleased
	if st.planner.root.Open {
		root.flags |= FlagOpen
	}
	root.tolerance = st.planner.root.Tolerance
	addWorkflow(&rows, st.plan)
	made, err := db.New(st.tx).InsertNewWorkflows(ctx, db.InsertNewWorkflowsParams(rows))
	if err != nil || len(made) == 0 {
		return false, err
	}
	found, err := st.s.probe(ctx, st.tx, []fsm.WorkflowID{st.plan.id}, nil)
	if err == nil && len(found) > 0 {
		err = alreadyExists(st.plan.id)
	}
	return err == nil, err
}

func (st *stream) chunk(ctx context.Context, chunk *model.Chunk) error {
	if len(chunk.Nodes) > 0 && st.sawEdges {
		return invalid("nodes after edges: a stream sends all nodes first")
	}
	g := st.planner
	if int(g.number)+len(chunk.Nodes) > maxNodes {
		return invalid("more than %d nodes", maxNodes)
	}
	names, err := routesOf(nil, g.number+1, chunk.Nodes)
	if err != nil {
		return err
	}
	if err := st.s.addRoutes(ctx, names); err != nil {
		return err
	}
	for i := range chunk.Nodes {
		row, err := g.node(&chunk.Nodes[i])
		if err != nil {
			return err
		}
		if row == nil {
			continue
		}
		st.jobs.job(st.plan.id, row)
		if row.payload != nil {
			st.payloads.payload(st.plan.id, row)
		}
		if row.state == stateReleased {
			st.plan.release(row)
		}
		if err := st.send(ctx, streamBuffer); err != nil {
			return err
		}
	}
	for _, e := range chunk.Edges {
		st.sawEdges = true
		st.edges.edge(st.plan.id, g.edge(e))
		if err := st.send(ctx, streamBuffer); err != nil {
			return err
		}
	}
	return nil
}

// send copies the buffers that hold more than most bytes.
func (st *stream) send(ctx context.Context, most int) error {
	for _, b := range []struct {
		buffer         *copyBuffer
		table, columns string
	}{{&st.jobs, "jobs", jobColumns}, {&st.payloads, "payloads", payloadColumns}, {&st.edges, "edges", edgeColumns}} {
		if b.buffer.rows == 0 || len(b.buffer.buf) <= most {
			continue
		}
		if err := b.buffer.send(ctx, st.tx, b.table, b.columns); err != nil {
			if sqlState(err) == codeUnique && b.table == "edges" {
				return invalid("two edges between the same pair of nodes: give one edge with both conditions")
			}
			return err
		}
		b.buffer.reset()
	}
	return nil
}

// finish checks the whole and writes what only the whole tells.
func (st *stream) finish(ctx context.Context) ([]settled, error) {
	if err := st.planner.finish(st.plan); err != nil {
		return nil, err
	}
	if err := st.send(ctx, 0); err != nil {
		return nil, err
	}
	batch := &pipe{}
	q := db.New(batch)
	graphs := []*plan{st.plan}
	err := q.CompleteWorkflow(ctx, db.CompleteWorkflowParams{
		ID: st.plan.id, NextNode: st.plan.nodes + 1, Total: st.plan.batches[0].total, Digest: st.plan.digest,
	})
	if err := errors.Join(err, queueBatches(ctx, q, graphs), queueCards(ctx, q, graphs)); err != nil {
		return nil, err
	}
	if err := st.tx.SendBatch(ctx, &batch.Batch).Close(); err != nil {
		return nil, err
	}
	return st.s.settle(ctx, st.tx, graphs)
}

// compareStream reads a repeated stream to its end and compares it with what
// its first sending has left.
func (s *Store) compareStream(ctx context.Context, header *model.Submission, next func() (*model.Chunk, error)) (model.Submitted, error) {
	none := model.Submitted{}
	digest := newDigester(header)
	nodes := 0
	for {
		chunk, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return none, err
		}
		if _, err := routesOf(nil, int32(nodes)+1, chunk.Nodes); err != nil {
			return none, err
		}
		nodes += len(chunk.Nodes)
		for i := range chunk.Nodes {
			digest.node(&chunk.Nodes[i])
		}
		for _, e := range chunk.Edges {
			if e.On == dag.None {
				e.On = dag.Succeeded
			}
			digest.edge(e)
		}
	}
	rows, err := s.db.WorkflowDigests(ctx, []fsm.WorkflowID{header.ID})
	if err != nil {
		return none, err
	}
	if len(rows) == 0 || !bytes.Equal(rows[0].Digest, digest.finish()) {
		return none, alreadyExists(header.ID)
	}
	return model.Submitted{ID: header.ID, Nodes: int32(nodes)}, nil
}

// resolveStream answers nil when a graph whose COMMIT was lost sight of is
// there for good.
func (s *Store) resolveStream(ctx context.Context, id fsm.WorkflowID, digest []byte, doubt error) error {
	ctx = context.WithoutCancel(ctx)
	for try := 1; try <= submitTries && s.pause(try); try++ {
		there, err := s.hasGraph(ctx, id, digest)
		if err == nil && there {
			return nil
		}
	}
	return doubt
}

// hasGraph looks for a graph in a transaction whose own COMMIT writes, so that
// it waits for what the first one may still have waited for.
func (s *Store) hasGraph(ctx context.Context, id fsm.WorkflowID, digest []byte) (bool, error) {
	tx, err := s.main.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.Rollback(ctx)
	q := db.New(tx)
	rows, err := q.WorkflowDigests(ctx, []fsm.WorkflowID{id})
	if err != nil {
		return false, err
	}
	if err := q.WriteCommitRecord(ctx); err != nil {
		return false, err
	}
	if err := commit(ctx, tx); err != nil {
		return false, err
	}
	return len(rows) == 1 && bytes.Equal(rows[0].Digest, digest), nil
}
