package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Delete removes one ended workflow or lone job with all that belongs to it.
// model.ErrNotFound if there is none, model.ErrRefused if it has not ended.
func (s *Store) Delete(ctx context.Context, id fsm.WorkflowID) error {
	err := pgx.BeginFunc(ctx, s.main, func(tx pgx.Tx) error {
		if err := removeEndedOne(ctx, tx, id); err != nil {
			return err
		}
		return audit(ctx, db.New(tx), "delete", id.String()) // its own audit is gone
	})
	if err != nil {
		return fmt.Errorf("delete workflow %s: %w", id, err)
	}
	return nil
}

// removeEndedOne removes one that has ended; else nothing is done.
func removeEndedOne(ctx context.Context, tx pgx.Tx, id fsm.WorkflowID) error {
	q := db.New(tx)
	rows, err := q.LockWorkflow(ctx, id)
	if err != nil {
		return err
	}
	ids := []fsm.WorkflowID{id}
	if len(rows) > 0 {
		if rows[0].State != stateEnded {
			return fmt.Errorf("%w: it has not ended", model.ErrRefused)
		}
		_, err := removeWorkflows(ctx, tx, ids)
		return err
	}
	removed, err := removeHistory(ctx, tx, ids)
	if err != nil {
		return err
	}
	if removed > 0 {
		return nil
	}
	open, err := q.FindLoneJobs(ctx, ids)
	if err != nil {
		return err
	}
	if len(open) > 0 {
		return fmt.Errorf("%w: it has not ended", model.ErrRefused)
	}
	return model.ErrNotFound
}

// removeWorkflows removes ended graphs whose rows of workflows are locked, and
// answers with the number of their jobs.
func removeWorkflows(ctx context.Context, tx pgx.Tx, ids []fsm.WorkflowID) (int64, error) {
	if err := removeStructure(ctx, tx, ids); err != nil {
		return 0, err
	}
	return removeHistory(ctx, tx, ids)
}

// removeStructure removes what is not partitioned.
func removeStructure(ctx context.Context, tx pgx.Tx, ids []fsm.WorkflowID) error {
	batch := &pipe{}
	q := db.New(batch)
	var err error
	for _, remove := range []func(context.Context, []fsm.WorkflowID) error{
		q.RemoveWorkflows, q.RemoveBatches, q.RemoveGroups, q.RemoveGroupEdges, q.RemoveGroupRanges,
		q.RemoveAppendKeys, q.RemoveCascades, q.RemoveSignals,
	} {
		err = errors.Join(err, remove(ctx, ids))
	}
	if err != nil {
		return err
	}
	return tx.SendBatch(ctx, &batch.Batch).Close()
}

// removeHistory removes ended jobs and what hangs on them.
func removeHistory(ctx context.Context, tx pgx.Tx, ids []fsm.WorkflowID) (int64, error) {
	removed, err := db.New(tx).RemoveFinishedJobs(ctx, ids)
	if err != nil {
		return 0, err
	}
	batch := &pipe{}
	q := db.New(batch)
	if err := errors.Join(q.RemovePayloads(ctx, ids), q.RemoveAttempts(ctx, ids), q.RemoveEdges(ctx, ids), q.RemoveAudit(ctx, ids)); err != nil {
		return 0, err
	}
	return removed, tx.SendBatch(ctx, &batch.Batch).Close()
}
