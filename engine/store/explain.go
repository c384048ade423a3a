package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// nodesExplained bounds the nodes of one reason.
const nodesExplained = 100

// Explain says why a job is not running, as far as Postgres knows: it has
// ended, its parents or its batch keep it, its time has not come, its workflow
// or queue is paused. No reason: it may run.
func (s *Store) Explain(ctx context.Context, id fsm.JobID) (*heddlev1.JobServiceExplainResponse, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	row, err := s.viewRow(ctx, id)
	if err != nil {
		return nil, err
	}
	resp := &heddlev1.JobServiceExplainResponse{State: jobState(row, now)}
	switch row.State {
	case stateEnded:
		text := fmt.Sprintf("the job has ended: %s", dag.Outcome(row.Outcome))
		if row.Error != "" {
			text += ": " + row.Error
		}
		resp.Reasons = append(resp.Reasons, &heddlev1.Reason{Code: "ended", Text: text})
		return resp, nil
	case stateBlocked:
		resp.Reasons, err = s.explainBlocked(ctx, row)
	default:
		if wait := row.RunAt.Time.Sub(now); wait > 0 {
			resp.Reasons = append(resp.Reasons, &heddlev1.Reason{
				Code: "time", Text: fmt.Sprintf("the job is due at %s, in %s", row.RunAt.Time.Format(time.RFC3339), wait.Round(time.Millisecond)),
			})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("explain job %s: %w", id, err)
	}
	paused, err := s.explainPauses(ctx, row)
	if err != nil {
		return nil, fmt.Errorf("explain job %s: %w", id, err)
	}
	resp.Reasons = append(resp.Reasons, paused...)
	return resp, nil
}

// explainBlocked names the parents that have not ended or hold their edges,
// and the batches around that have not started.
func (s *Store) explainBlocked(ctx context.Context, row *viewRow) ([]*heddlev1.Reason, error) {
	var reasons []*heddlev1.Reason
	if row.Batch > 0 {
		around, err := s.db.BatchAncestry(ctx, db.BatchAncestryParams{WorkflowID: row.WorkflowID, Node: row.Batch})
		if err != nil {
			return nil, err
		}
		var closed []int32
		for _, b := range around {
			if b.State == stateBlocked && len(closed) < nodesExplained {
				closed = append(closed, b.Node)
			}
		}
		if len(closed) > 0 {
			outermost := closed[len(closed)-1]
			reasons = append(reasons, &heddlev1.Reason{
				Code: "batch", Text: fmt.Sprintf("the batch around it, node %d, has not started", outermost), Nodes: closed,
			})
			parents, err := s.explainParents(ctx, row.WorkflowID, outermost, fmt.Sprintf("batch %d", outermost))
			if err != nil {
				return nil, err
			}
			reasons = append(reasons, parents...)
		}
	}
	parents, err := s.explainParents(ctx, row.WorkflowID, row.Node, "the job")
	if err != nil {
		return nil, err
	}
	return append(reasons, parents...), nil
}

func (s *Store) explainParents(ctx context.Context, id fsm.WorkflowID, node int32, who string) ([]*heddlev1.Reason, error) {
	var reasons []*heddlev1.Reason
	open, err := s.db.OpenParents(ctx, db.OpenParentsParams{WorkflowID: id, Node: node, MaxRows: nodesExplained})
	if err != nil {
		return nil, err
	}
	if len(open) > 0 {
		reasons = append(reasons, &heddlev1.Reason{
			Code: "parents", Text: fmt.Sprintf("%s waits for %s", who, someNodes(open)), Nodes: open,
		})
	}
	held, err := s.db.HeldParents(ctx, db.HeldParentsParams{WorkflowID: id, Node: node, MaxRows: nodesExplained})
	if err != nil {
		return nil, err
	}
	if len(held) > 0 {
		reasons = append(reasons, &heddlev1.Reason{
			Code: "parents", Text: fmt.Sprintf("%s waits until %s, which failed and hold, are retried, cancelled or given up", who, someNodes(held)), Nodes: held,
		})
	}
	return reasons, nil
}

func someNodes(nodes []int32) string {
	switch {
	case len(nodes) == 1:
		return fmt.Sprintf("node %d", nodes[0])
	case len(nodes) == nodesExplained:
		return fmt.Sprintf("%d or more nodes", len(nodes))
	}
	return fmt.Sprintf("%d nodes", len(nodes))
}

func (s *Store) explainPauses(ctx context.Context, row *viewRow) ([]*heddlev1.Reason, error) {
	var reasons []*heddlev1.Reason
	workflow, err := s.db.GetWorkflow(ctx, row.WorkflowID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	if err == nil && workflow.Flags&FlagPaused != 0 {
		reasons = append(reasons, &heddlev1.Reason{Code: "workflow paused", Text: "the workflow is paused"})
	}
	route, err := s.routeNames(ctx, row.Route)
	if err != nil {
		return nil, err
	}
	paused, err := s.db.QueuePaused(ctx, route.queue)
	if err != nil {
		return nil, err
	}
	if paused {
		reasons = append(reasons, &heddlev1.Reason{Code: "queue paused", Text: fmt.Sprintf("queue %q is paused", route.queue)})
	}
	return reasons, nil
}
