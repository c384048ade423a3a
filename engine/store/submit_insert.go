package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
)

// batchesPerStatement bounds the arrays of one statement.
const batchesPerStatement = 5000

func (s *Store) insertWorkflows(ctx context.Context, tx pgx.Tx, graphs []*plan) error {
	var workflows db.InsertWorkflowsParams
	for _, p := range graphs {
		addWorkflow(&workflows, p)
	}
	return db.New(tx).InsertWorkflows(ctx, workflows)
}

// settled is what settling one plan has set free.
type settled struct {
	plan    *plan
	effects model.Effects
}

// addEffects puts what was set free into the answers.
func addEffects(all []settled) {
	for _, e := range all {
		out := &e.plan.out
		room := model.ReadyLimit - len(out.Ready)
		for i, row := range e.effects.Ready {
			if i < room {
				out.Ready = append(out.Ready, row)
				continue
			}
			out.Lanes = append(out.Lanes, rowLane(&row))
		}
		out.Lanes = append(out.Lanes, e.effects.Lanes...)
		out.Cascades = out.Cascades || e.effects.Cascades
	}
}

// insertRest writes everything but the rows of workflows: all of new graphs
// and lone jobs, then settles the graphs that need it.
func (s *Store) insertRest(ctx context.Context, tx pgx.Tx, graphs, lone []*plan) ([]settled, error) {
	batch := &pipe{}
	q := db.New(batch)
	all := append(append([]*plan(nil), graphs...), lone...)
	jobs, edges := 0, 0
	for _, p := range all {
		jobs += len(p.jobs)
		edges += len(p.edges)
	}
	if jobs > 0 && jobs < copyFrom {
		var rows db.InsertJobsParams
		for _, p := range all {
			for i := range p.jobs {
				addJob(&rows, p.id, &p.jobs[i])
			}
		}
		if err := q.InsertJobs(ctx, rows); err != nil {
			return nil, err
		}
	}
	if edges > 0 && edges < copyFrom {
		var rows db.InsertEdgesParams
		for _, p := range graphs {
			for _, e := range p.edges {
				addEdge(&rows, p.id, e)
			}
		}
		if err := q.InsertEdges(ctx, rows); err != nil {
			return nil, err
		}
	}
	if err := queueBatches(ctx, q, graphs); err != nil {
		return nil, err
	}
	if err := queueCards(ctx, q, graphs); err != nil {
		return nil, err
	}
	if batch.Len() > 0 {
		if err := tx.SendBatch(ctx, &batch.Batch).Close(); err != nil {
			return nil, err
		}
	}
	if err := copyRest(ctx, tx, all, graphs, jobs >= copyFrom, edges >= copyFrom); err != nil {
		return nil, err
	}
	if err := insertPayloads(ctx, tx, all); err != nil {
		return nil, err
	}
	return s.settle(ctx, tx, graphs)
}

// copyRest copies jobs and edges, when there are many.
func copyRest(ctx context.Context, tx pgx.Tx, all, graphs []*plan, jobs, edges bool) error {
	var buffer copyBuffer
	if jobs {
		buffer.reset()
		for _, p := range all {
			for i := range p.jobs {
				buffer.job(p.id, &p.jobs[i])
			}
		}
		if err := buffer.send(ctx, tx, "jobs", jobColumns); err != nil {
			return err
		}
	}
	if edges {
		buffer.reset()
		for _, p := range graphs {
			for _, e := range p.edges {
				buffer.edge(p.id, e)
			}
		}
		return buffer.send(ctx, tx, "edges", edgeColumns)
	}
	return nil
}

// insertPayloads copies the args that do not live in their rows.
func insertPayloads(ctx context.Context, tx pgx.Tx, plans []*plan) error {
	var buffer copyBuffer
	buffer.reset()
	for _, p := range plans {
		for i := range p.jobs {
			if p.jobs[i].payload != nil {
				buffer.payload(p.id, &p.jobs[i])
			}
		}
		if len(buffer.buf) > 4<<20 {
			if err := buffer.send(ctx, tx, "payloads", payloadColumns); err != nil {
				return err
			}
			buffer.reset()
		}
	}
	if buffer.rows == 0 {
		return nil
	}
	return buffer.send(ctx, tx, "payloads", payloadColumns)
}

// queueBatches adds the batches but the roots, which are rows of workflows.
func queueBatches(ctx context.Context, q *db.Queries, graphs []*plan) error {
	var rows db.InsertBatchesParams
	for _, p := range graphs {
		for i := range p.batches[1:] {
			addBatch(&rows, p.id, p.now, &p.batches[i+1])
			if len(rows.Nodes) == batchesPerStatement {
				if err := q.InsertBatches(ctx, rows); err != nil {
					return err
				}
				rows = db.InsertBatchesParams{}
			}
		}
	}
	if len(rows.Nodes) == 0 {
		return nil
	}
	return q.InsertBatches(ctx, rows)
}

// settle lets the rules look at batches that were released without members: in
// the transaction that writes them, they end and set free what waits for them.
func (s *Store) settle(ctx context.Context, tx pgx.Tx, graphs []*plan) ([]settled, error) {
	var all []settled
	for _, p := range graphs {
		if len(p.settle) == 0 {
			continue
		}
		effects, err := s.decide(ctx, tx, p.id, p.settle...)
		if err != nil {
			return nil, fmt.Errorf("settle %s: %w", p.id, err)
		}
		all = append(all, settled{p, effects})
	}
	return all, nil
}
