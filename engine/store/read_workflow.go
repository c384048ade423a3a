package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// batchesShown bounds the batches of a workflow's answer.
const batchesShown = 1000

// Workflow gives a graph with its counts and batches, or a lone job in the
// shape of one. Ended jobs are counted by the batches' counters, so the cost
// is that of the open jobs. model.ErrNotFound if there is neither.
func (s *Store) Workflow(ctx context.Context, id fsm.WorkflowID) (*heddlev1.Workflow, error) {
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	row, err := s.db.GetWorkflow(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return s.loneWorkflow(ctx, id, now)
	}
	if err != nil {
		return nil, fmt.Errorf("workflow %s: %w", id, err)
	}
	sums, err := s.db.BatchSums(ctx, []fsm.WorkflowID{id})
	if err != nil {
		return nil, fmt.Errorf("workflow %s: %w", id, err)
	}
	w := viewWorkflow(&row, sumOf(sums, id))
	batches, err := s.db.ListBatches(ctx, db.ListBatchesParams{WorkflowID: id, MaxRows: batchesShown})
	if err != nil {
		return nil, fmt.Errorf("workflow %s: %w", id, err)
	}
	paths := batchPaths(batches)
	members := map[int32]*heddlev1.Counts{0: w.Members}
	for i := range batches {
		b := viewBatch(&batches[i])
		b.Path = paths[b.Node]
		members[b.Node] = b.Members
		w.Batches = append(w.Batches, b)
	}
	if err := s.countOpen(ctx, id, now, len(batches) < batchesShown, w.Jobs, members); err != nil {
		return nil, fmt.Errorf("workflow %s: %w", id, err)
	}
	return w, nil
}

// countOpen adds what has not ended: to jobs all jobs, to members the direct
// members of each batch, or only of the root when there are too many.
func (s *Store) countOpen(ctx context.Context, id fsm.WorkflowID, now time.Time, each bool, jobs *heddlev1.Counts, members map[int32]*heddlev1.Counts) error {
	open, err := s.db.OpenJobCounts(ctx, db.OpenJobCountsParams{WorkflowID: id, Now: timestampOf(now), Each: each})
	if err != nil {
		return err
	}
	for _, c := range open {
		count(jobs, heddlev1.State(c.State), c.Jobs)
		if m := members[c.InBatch]; m != nil {
			count(m, heddlev1.State(c.State), c.Jobs)
		}
	}
	batches, err := s.db.OpenBatchCounts(ctx, db.OpenBatchCountsParams{WorkflowID: id, Each: each})
	if err != nil {
		return err
	}
	for _, c := range batches {
		if m := members[c.InBatch]; m != nil {
			count(m, heddlev1.State(c.State), c.Batches)
		}
	}
	return nil
}

// sumOf finds the sums of one workflow; one without batches has none.
func sumOf(sums []db.BatchSumsRow, id fsm.WorkflowID) db.BatchSumsRow {
	for _, sum := range sums {
		if sum.WorkflowID == id {
			return sum
		}
	}
	return db.BatchSumsRow{}
}

// viewWorkflow maps a row. A job is a member of exactly one batch, so jobs are
// the members of all batches less the batches among them.
func viewWorkflow(r *db.Workflow, sum db.BatchSumsRow) *heddlev1.Workflow {
	return &heddlev1.Workflow{
		Id: r.ID.String(), Name: text(r.Name), State: batchState(r.State, r.Outcome), Paused: r.Flags&FlagPaused != 0,
		CreatedAt: stamp(r.CreatedAt), FinishedAt: stamp(r.FinishedAt), Nodes: r.NextNode - 1,
		Members: ended(r.Total, r.Succeeded, r.Failed, r.Cancelled, r.Skipped),
		Jobs: &heddlev1.Counts{
			Total:     int64(r.Total) + sum.Total - sum.Batches,
			Succeeded: int64(r.Succeeded) + sum.Succeeded - sum.BatchesSucceeded,
			Failed:    int64(r.Failed) + sum.Failed - sum.BatchesFailed,
			Cancelled: int64(r.Cancelled) + sum.Cancelled - sum.BatchesCancelled,
			Skipped:   int64(r.Skipped) + sum.Skipped - sum.BatchesSkipped,
		},
	}
}

func (s *Store) loneWorkflow(ctx context.Context, id fsm.WorkflowID, now time.Time) (*heddlev1.Workflow, error) {
	rows, err := s.db.ViewJob(ctx, db.ViewJobParams{WorkflowID: id, Node: 1})
	if err != nil {
		return nil, fmt.Errorf("workflow %s: %w", id, err)
	}
	if len(rows) == 0 {
		return nil, notFoundWorkflow(id)
	}
	state := jobState(&rows[0], now)
	w := &heddlev1.Workflow{
		Id: id.String(), Name: rows[0].Name, State: heddlev1.State_STATE_RUNNING, CreatedAt: timestamppb.New(idTime(id)),
		FinishedAt: stamp(rows[0].FinishedAt), Nodes: 1, Jobs: &heddlev1.Counts{Total: 1}, Members: &heddlev1.Counts{Total: 1},
	}
	count(w.Jobs, state, 1)
	count(w.Members, state, 1)
	if rows[0].State == stateEnded {
		w.State = state
	}
	return w, nil
}

// Workflows pages through graphs, newest first; lone jobs are listed by Jobs.
// Counts hold what has ended. A page may be short, or empty, and still have a
// next one: filters are searched with a budget.
func (s *Store) Workflows(ctx context.Context, req *heddlev1.ListRequest) (*heddlev1.ListResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	at, err := readToken(req.GetPageToken(), lastKey)
	if err != nil {
		return nil, err
	}
	filter := newStateSet(req.GetStates())
	found, next, err := searchBack(ctx, at, int(size),
		func(ctx context.Context, from key) (key, bool, error) {
			ids, err := s.db.WorkflowsBound(ctx, db.WorkflowsBoundParams{ID: from.id, Rows: searchStep})
			if err != nil || len(ids) == 0 {
				return key{}, false, err
			}
			return key{id: ids[0]}, true, nil
		},
		func(ctx context.Context, from, low key, limit int) ([]db.Workflow, error) {
			return s.db.WorkflowsBetween(ctx, db.WorkflowsBetweenParams{
				ID: from.id, LowID: low.id, Name: req.GetName(), Running: filter.running, Outcomes: filter.outcomes, MaxRows: int32(limit),
			})
		},
		func(w *db.Workflow) key { return key{id: w.ID} })
	if err != nil {
		return nil, fmt.Errorf("list workflows: %w", err)
	}
	resp := &heddlev1.ListResponse{}
	ids := make([]fsm.WorkflowID, len(found))
	for i := range found {
		ids[i] = found[i].ID
	}
	sums, err := s.db.BatchSums(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("list workflows: %w", err)
	}
	for i := range found {
		resp.Workflows = append(resp.Workflows, viewWorkflow(&found[i], sumOf(sums, found[i].ID)))
	}
	if next != nil {
		resp.NextPageToken = pageToken(*next)
	}
	return resp, nil
}
