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
	row, err := s.rdb.GetWorkflow(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return s.loneWorkflow(ctx, id, now)
	}
	if err != nil {
		return nil, fmt.Errorf("workflow %s: %w", id, err)
	}
	sums, err := s.rdb.BatchSums(ctx, []fsm.WorkflowID{id})
	if err != nil {
		return nil, fmt.Errorf("workflow %s: %w", id, err)
	}
	w := viewWorkflow(&row, sumOf(sums, id))
	batches, err := s.rdb.ListBatches(ctx, db.ListBatchesParams{WorkflowID: id, MaxRows: batchesShown})
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
	open, err := s.rdb.OpenJobCounts(ctx, db.OpenJobCountsParams{WorkflowID: id, Now: timestampOf(now), Each: each, Leased: s.leasedNodes(id)})
	if err != nil {
		return err
	}
	for _, c := range open {
		count(jobs, heddlev1.State(c.State), c.Jobs)
		if m := members[c.InBatch]; m != nil {
			count(m, heddlev1.State(c.State), c.Jobs)
		}
	}
	batches, err := s.rdb.OpenBatchCounts(ctx, db.OpenBatchCountsParams{WorkflowID: id, Each: each})
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
	rows, err := s.rdb.ViewJob(ctx, db.ViewJobParams{WorkflowID: id, Node: 1})
	if err != nil {
		return nil, fmt.Errorf("workflow %s: %w", id, err)
	}
	if len(rows) == 0 {
		return nil, notFoundWorkflow(id)
	}
	state := jobState(&rows[0], now)
	if _, _, leased := s.leases().LeaseOf(fsm.JobID{Workflow: id, Node: 1}); leased && waits(state) {
		state = heddlev1.State_STATE_RUNNING
	}
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
// Counts hold what has ended and what runs, and what else is open where that
// is not much. A page may be short, or empty, and still have a next one:
// filters are searched with a budget.
func (s *Store) Workflows(ctx context.Context, req *heddlev1.ListRequest) (*heddlev1.ListResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	at, err := readToken(req.GetPageToken(), lastKey)
	if err != nil {
		return nil, err
	}
	found, next, err := s.findWorkflows(ctx, req, at, int(size))
	if err != nil {
		return nil, fmt.Errorf("list workflows: %w", err)
	}
	resp := &heddlev1.ListResponse{}
	ids := make([]fsm.WorkflowID, len(found))
	for i := range found {
		ids[i] = found[i].ID
	}
	sums, err := s.rdb.BatchSums(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("list workflows: %w", err)
	}
	for i := range found {
		resp.Workflows = append(resp.Workflows, viewWorkflow(&found[i], sumOf(sums, found[i].ID)))
	}
	if err := s.countSome(ctx, found, resp.Workflows); err != nil {
		return nil, fmt.Errorf("list workflows: %w", err)
	}
	if next != nil {
		resp.NextPageToken = pageToken(*next)
	}
	return resp, nil
}

// findWorkflows looks for the running ones by their index, for others among all.
func (s *Store) findWorkflows(ctx context.Context, req *heddlev1.ListRequest, at key, size int) ([]db.Workflow, *key, error) {
	filter := newStateSet(req.GetStates())
	if filter.outcomes == 0 {
		if !filter.running {
			return nil, nil, nil
		}
		found, err := s.rdb.RunningWorkflows(ctx, db.RunningWorkflowsParams{Before: at.id, Name: req.GetName(), MaxRows: int32(size) + 1})
		if err != nil || len(found) <= size {
			return found, nil, err
		}
		return found[:size], &key{id: found[size-1].ID}, nil
	}
	q := search[db.Workflow, key]{
		bound: func(ctx context.Context, from key) (key, bool, error) {
			ids, err := s.rdb.WorkflowsBound(ctx, db.WorkflowsBoundParams{ID: from.id, Rows: searchStep})
			if err != nil || len(ids) == 0 {
				return key{}, false, err
			}
			return key{id: ids[0]}, true, nil
		},
		between: func(ctx context.Context, from, low key, limit int) ([]db.Workflow, error) {
			return s.rdb.WorkflowsBetween(ctx, db.WorkflowsBetweenParams{
				ID: from.id, LowID: low.id, Name: req.GetName(), Running: filter.running, Outcomes: filter.outcomes, MaxRows: int32(limit),
			})
		},
		position: func(w *db.Workflow) key { return key{id: w.ID} },
	}
	return q.back(ctx, at, size)
}

// openCounted is the number of open jobs up to which those of a workflow in a
// list are counted by state.
const openCounted = 1000

// countSome adds the jobs that run to running workflows of a list, and the other
// open ones where they are few.
func (s *Store) countSome(ctx context.Context, rows []db.Workflow, shown []*heddlev1.Workflow) error {
	now, err := s.now(ctx)
	if err != nil {
		return err
	}
	var ids []fsm.WorkflowID
	byID := map[fsm.WorkflowID]*heddlev1.Counts{}
	for i := range rows {
		if rows[i].State == stateEnded {
			continue
		}
		c := shown[i].Jobs
		c.Running = min(int64(len(s.leases().Leased(rows[i].ID))), c.Total-c.Succeeded-c.Failed-c.Cancelled-c.Skipped)
		if open := c.Total - c.Succeeded - c.Failed - c.Cancelled - c.Skipped; open > 0 && open <= openCounted {
			ids = append(ids, rows[i].ID)
			byID[rows[i].ID] = c
		}
	}
	if len(ids) == 0 {
		return nil
	}
	counts, err := s.rdb.SomeOpenJobCounts(ctx, db.SomeOpenJobCountsParams{Ids: ids, Now: timestampOf(now), MaxRows: 2 * openCounted})
	if err != nil {
		return err
	}
	for _, n := range counts {
		count(byID[n.WorkflowID], heddlev1.State(n.State), n.Jobs)
	}
	for _, c := range byID {
		c.Running = min(c.Running, c.Available)
		c.Available -= c.Running
	}
	return nil
}
