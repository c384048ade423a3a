package store

import (
	"context"
	"fmt"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// attemptWords are the texts of attempts.how.
var attemptWords = map[int16]string{1: "failed", 2: "lost", 3: "snoozed", 4: "released", 5: "timeout"}

// Job gives one job with its args, result and unfinished attempts, the newest
// attempt first. model.ErrNotFound if there is none of that number; the text
// tells if it is that of a batch.
func (s *Store) Job(ctx context.Context, id fsm.JobID) (*heddlev1.Job, error) {
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	row, err := s.viewRow(ctx, id)
	if err != nil {
		return nil, err
	}
	job, err := s.viewJob(ctx, row, now)
	if err != nil {
		return nil, err
	}
	if job.Args, job.Result, err = s.bodies(ctx, id, row.Flags); err != nil {
		return nil, fmt.Errorf("job %s: %w", id, err)
	}
	attempts, err := s.rdb.JobAttempts(ctx, db.JobAttemptsParams{WorkflowID: id.Workflow, Node: id.Node})
	if err != nil {
		return nil, fmt.Errorf("attempts of job %s: %w", id, err)
	}
	for _, a := range attempts {
		job.Attempts = append(job.Attempts, &heddlev1.Attempt{
			Attempt: int32(a.Attempt), How: attemptWords[a.How], Worker: a.Worker, Error: a.Error,
			StartedAt: stamp(a.StartedAt), FinishedAt: stamp(a.FinishedAt),
		})
	}
	return job, nil
}

func (s *Store) viewRow(ctx context.Context, id fsm.JobID) (*viewRow, error) {
	rows, err := s.rdb.ViewJob(ctx, db.ViewJobParams{WorkflowID: id.Workflow, Node: id.Node})
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", id, err)
	}
	if len(rows) > 0 {
		return &rows[0], nil
	}
	batches, err := s.rdb.GetBatch(ctx, db.GetBatchParams{WorkflowID: id.Workflow, Node: id.Node})
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", id, err)
	}
	if len(batches) > 0 {
		return nil, fmt.Errorf("job %s: %w: node %d is a batch", id, model.ErrNotFound, id.Node)
	}
	return nil, notFoundJob(id)
}

// bodies reads args and result, wherever they lie.
func (s *Store) bodies(ctx context.Context, id fsm.JobID, flags int32) (args, result []byte, err error) {
	rows, err := s.rdb.JobBodies(ctx, db.JobBodiesParams{WorkflowID: id.Workflow, Node: id.Node})
	if err != nil {
		return nil, nil, err
	}
	if len(rows) > 0 {
		args, result = rows[0].Args, rows[0].Result
	}
	if flags&(FlagArgsInPayloads|FlagResultInPayloads) == 0 {
		return args, result, nil
	}
	payloads, err := s.rdb.JobPayloads(ctx, db.JobPayloadsParams{WorkflowID: id.Workflow, Node: id.Node})
	if err != nil {
		return nil, nil, err
	}
	for _, p := range payloads {
		switch {
		case p.Slot == slotArgs && flags&FlagArgsInPayloads != 0:
			args = p.Body
		case p.Slot == slotResult && flags&FlagResultInPayloads != 0:
			result = p.Body
		}
	}
	return args, result, nil
}
