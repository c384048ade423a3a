package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Bounds of what is shown of a batch.
const (
	nestedShown   = 1000
	blockersShown = 20
	ratePeriod    = time.Minute
)

// Batches pages through the batches of all workflows but their roots, those of
// the newest workflow first. Counts of a list hold what has ended and what runs,
// and what else is open where that is not much. Filters are searched with a
// budget: a page may be short, or empty, and still have a next one.
func (s *Store) Batches(ctx context.Context, req *heddlev1.BatchServiceListRequest) (*heddlev1.BatchServiceListResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	at, err := readToken(req.GetPageToken(), lastKey)
	if err != nil {
		return nil, err
	}
	floor := key{}
	if req.GetWorkflowId() != "" {
		id, err := parseWorkflowID(req.GetWorkflowId())
		if err != nil {
			return nil, err
		}
		floor = key{id: id}
		if top := (key{id, 1<<31 - 1}); at.compare(top) > 0 {
			at = top
		}
	}
	found, next, err := s.findBatches(ctx, req, at, floor, int(size))
	if err != nil {
		return nil, fmt.Errorf("list batches: %w", err)
	}
	resp := &heddlev1.BatchServiceListResponse{}
	if next != nil {
		resp.NextPageToken = pageToken(*next)
	}
	if resp.Batches, err = s.viewBatches(ctx, found); err != nil {
		return nil, fmt.Errorf("list batches: %w", err)
	}
	return resp, nil
}

func batchKey(b *db.Batch) key { return key{b.WorkflowID, b.Node} }

// findBatches looks for running ones in running workflows only.
func (s *Store) findBatches(ctx context.Context, req *heddlev1.BatchServiceListRequest, at, floor key, size int) ([]db.Batch, *key, error) {
	f := newStateSet(req.GetStates())
	if !f.blocked && f.outcomes == 0 && floor == (key{}) {
		if !f.running {
			return nil, nil, nil
		}
		found, err := s.rdb.RunningBatches(ctx, db.RunningBatchesParams{WorkflowID: at.id, Node: at.node, Name: req.GetName(), MaxRows: int32(size) + 1})
		if err != nil || len(found) <= size {
			return found, nil, err
		}
		last := batchKey(&found[size-1])
		return found[:size], &last, nil
	}
	q := search[db.Batch, key]{
		bound: func(ctx context.Context, from key) (key, bool, error) {
			rows, err := s.rdb.BatchesListBound(ctx, db.BatchesListBoundParams{WorkflowID: from.id, Node: from.node, Rows: searchStep})
			if err != nil || len(rows) == 0 {
				return floor, false, err
			}
			if low := (key{rows[0].WorkflowID, rows[0].Node}); low.compare(floor) > 0 {
				return low, true, nil
			}
			return floor, false, nil
		},
		between: func(ctx context.Context, from, low key, limit int) ([]db.Batch, error) {
			return s.rdb.BatchesListBetween(ctx, db.BatchesListBetweenParams{
				WorkflowID: from.id, Node: from.node, LowWorkflowID: low.id, LowNode: low.node, Name: req.GetName(),
				Blocked: f.blocked, Running: f.running, Outcomes: f.outcomes, MaxRows: int32(limit),
			})
		},
		position: batchKey,
	}
	return q.back(ctx, at, size)
}

// viewBatches adds names, paths where they are those of a workflow's first
// batches, and open members.
func (s *Store) viewBatches(ctx context.Context, rows []db.Batch) ([]*heddlev1.BatchOf, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	var ids []fsm.WorkflowID
	for i := range rows {
		if len(ids) == 0 || ids[len(ids)-1] != rows[i].WorkflowID {
			ids = append(ids, rows[i].WorkflowID)
		}
	}
	named, err := s.rdb.WorkflowNames(ctx, ids)
	if err != nil {
		return nil, err
	}
	names := make(map[fsm.WorkflowID]string, len(named))
	for _, n := range named {
		names[n.ID] = n.Name
	}
	out := make([]*heddlev1.BatchOf, len(rows))
	for i := range rows {
		id := rows[i].WorkflowID
		out[i] = &heddlev1.BatchOf{
			WorkflowId: id.String(), Workflow: names[id], CreatedAt: timestamppb.New(idTime(id)), Batch: viewBatch(&rows[i]),
		}
	}
	return out, s.countMembers(ctx, rows, ids, out)
}

// countMembers adds open members: all of them of batches that have not started,
// or that have few; of others those that run.
func (s *Store) countMembers(ctx context.Context, rows []db.Batch, ids []fsm.WorkflowID, out []*heddlev1.BatchOf) error {
	now, err := s.now(ctx)
	if err != nil {
		return err
	}
	few := db.MemberCountsParams{Now: timestampOf(now)}
	byKey := make(map[key]*heddlev1.Counts, len(rows))
	for i := range rows {
		b := &rows[i]
		c := out[i].Batch.Members
		open := c.Total - c.Succeeded - c.Failed - c.Cancelled - c.Skipped
		switch {
		case b.State == stateEnded || open == 0:
		case b.State == stateBlocked:
			c.Blocked = open
		default:
			byKey[batchKey(b)] = c
			if b.Hi-b.Lo < openCounted { // else members of nested ones may be many
				few.Ords, few.Ids, few.Nodes = append(few.Ords, int32(i)), append(few.Ids, b.WorkflowID), append(few.Nodes, b.Node)
				few.Los, few.His = append(few.Los, b.Lo), append(few.His, b.Hi)
			}
		}
	}
	if len(byKey) == 0 {
		return nil
	}
	if len(few.Ords) > 0 {
		counts, err := s.rdb.MemberCounts(ctx, few)
		if err != nil {
			return err
		}
		for _, n := range counts {
			count(out[n.Ord].Batch.Members, heddlev1.State(n.State), n.Jobs)
		}
	}
	leased := db.LeasedMembersParams{}
	for _, id := range ids {
		for _, node := range s.leasedNodes(id) {
			leased.Ids, leased.Nodes = append(leased.Ids, id), append(leased.Nodes, node)
		}
	}
	if len(leased.Ids) == 0 {
		return nil
	}
	running, err := s.rdb.LeasedMembers(ctx, leased)
	if err != nil {
		return err
	}
	for _, n := range running {
		if c := byKey[key{n.WorkflowID, *n.Batch}]; c != nil {
			c.Running += n.Jobs
			c.Available = max(c.Available-n.Jobs, 0)
		}
	}
	return nil
}

// Batch gives one batch with what belongs to it; 0 is the root.
func (s *Store) Batch(ctx context.Context, id fsm.WorkflowID, node int32) (*heddlev1.BatchServiceGetResponse, error) {
	resp, err := s.batch(ctx, id, node)
	if err != nil {
		return nil, fmt.Errorf("batch %s/%d: %w", id, node, err)
	}
	return resp, nil
}

func (s *Store) batch(ctx context.Context, id fsm.WorkflowID, node int32) (*heddlev1.BatchServiceGetResponse, error) {
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	w, err := s.rdb.FindWorkflow(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(w) == 0 {
		return nil, fmt.Errorf("%w: the workflow is no graph", model.ErrNotFound)
	}
	row := rootBatch(&w[0])
	if node != 0 {
		rows, err := s.rdb.GetBatch(ctx, db.GetBatchParams{WorkflowID: id, Node: node})
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			return nil, model.ErrNotFound
		}
		row = &rows[0]
	}
	b := viewBatch(row)
	if err := s.pathOf(ctx, row, b); err != nil {
		return nil, err
	}
	resp := &heddlev1.BatchServiceGetResponse{Batch: &heddlev1.BatchOf{
		WorkflowId: id.String(), Workflow: text(w[0].Name), CreatedAt: stamp(w[0].CreatedAt), Batch: b,
	}}
	if node != 0 {
		relatives, err := s.relatives(ctx, fsm.JobID{Workflow: id, Node: node})
		if err != nil {
			return nil, err
		}
		resp.Before, resp.After = relatives.Before, relatives.After
	}
	nested, err := s.rdb.NestedBatches(ctx, db.NestedBatchesParams{WorkflowID: id, Lo: row.Lo, Hi: row.Hi, Batch: node, MaxRows: nestedShown})
	if err != nil {
		return nil, err
	}
	views, err := s.viewBatches(ctx, nested)
	if err != nil {
		return nil, err
	}
	for _, v := range views {
		resp.Nested = append(resp.Nested, v.Batch)
	}
	if row.State != stateEnded {
		if err := s.openBatch(ctx, row, resp, now); err != nil {
			return nil, err
		}
	}
	resp.Blockers, err = s.blockers(ctx, row, now)
	return resp, err
}

// rootBatch is the row of a workflow as that of a batch.
func rootBatch(w *db.Workflow) *db.Batch {
	return &db.Batch{
		WorkflowID: w.ID, Lo: 1, Hi: w.NextNode - 1, State: w.State, Outcome: w.Outcome, Flags: w.Flags &^ FlagPaused, Total: w.Total, Succeeded: w.Succeeded,
		Failed: w.Failed, Cancelled: w.Cancelled, Skipped: w.Skipped, ToleranceCount: w.ToleranceCount, TolerancePercent: w.TolerancePercent,
		Name: w.Name, StartedAt: w.CreatedAt, FinishedAt: w.FinishedAt,
	}
}

// pathOf gives a batch its path, if all around it have names.
func (s *Store) pathOf(ctx context.Context, row *db.Batch, b *heddlev1.Batch) error {
	if row.Node == 0 || text(row.Name) == "" {
		return nil
	}
	around, err := s.rdb.BatchAncestry(ctx, db.BatchAncestryParams{WorkflowID: row.WorkflowID, Node: row.Node})
	if err != nil {
		return err
	}
	path := ""
	for _, a := range around {
		if text(a.Name) == "" {
			return nil
		}
		if path != "" {
			path = "/" + path
		}
		path = text(a.Name) + path
	}
	b.Path = path
	return nil
}

// openBatch counts the open members of a batch, and tells how fast they end.
func (s *Store) openBatch(ctx context.Context, row *db.Batch, resp *heddlev1.BatchServiceGetResponse, now time.Time) error {
	c := resp.Batch.Batch.Members
	jobs, err := s.rdb.BatchJobCounts(ctx, db.BatchJobCountsParams{
		WorkflowID: row.WorkflowID, Lo: row.Lo, Hi: row.Hi, Batch: row.Node, Now: timestampOf(now), Leased: s.leasedNodes(row.WorkflowID),
	})
	if err != nil {
		return err
	}
	for _, n := range jobs {
		count(c, heddlev1.State(n.State), n.Jobs)
	}
	batches, err := s.rdb.NestedCounts(ctx, db.NestedCountsParams{WorkflowID: row.WorkflowID, Lo: row.Lo, Hi: row.Hi, Batch: row.Node})
	if err != nil {
		return err
	}
	for _, n := range batches {
		count(c, batchState(n.State, 0), n.Batches)
	}
	ended, err := s.rdb.EndedSince(ctx, db.EndedSinceParams{
		WorkflowID: row.WorkflowID, Lo: row.Lo, Hi: row.Hi, Batch: row.Node, Since: timestampOf(now.Add(-ratePeriod)),
	})
	if err != nil {
		return err
	}
	period := ratePeriod
	if row.StartedAt.Valid {
		period = min(max(now.Sub(row.StartedAt.Time), time.Second), ratePeriod)
	}
	if ended > 0 {
		resp.Rate = float64(ended) / period.Seconds()
		open := c.Total - c.Succeeded - c.Failed - c.Cancelled - c.Skipped
		resp.Left = durationpb.New(time.Duration(float64(open) / resp.Rate * float64(time.Second)))
	}
	return nil
}

// blockers are jobs within a batch, nested ones inside, that are in its way: those
// that failed, then, while it has not ended, those that have been due longest.
func (s *Store) blockers(ctx context.Context, row *db.Batch, now time.Time) ([]*heddlev1.Job, error) {
	if row.State == stateEnded && row.Outcome == int16(1) {
		return nil, nil
	}
	nodes, err := s.rdb.FailedWithin(ctx, db.FailedWithinParams{WorkflowID: row.WorkflowID, Lo: row.Lo, Hi: row.Hi, MaxRows: blockersShown})
	if err != nil {
		return nil, err
	}
	if row.State == stateReleased && len(nodes) < blockersShown {
		waiting, err := s.rdb.WaitingWithin(ctx, db.WaitingWithinParams{
			WorkflowID: row.WorkflowID, Lo: row.Lo, Hi: row.Hi, MaxRows: int32(blockersShown - len(nodes)),
		})
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, waiting...)
	}
	keys := make([]key, len(nodes))
	for i, n := range nodes {
		keys[i] = key{row.WorkflowID, n}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	rows, err := s.rowsOf(ctx, keys)
	if err != nil {
		return nil, err
	}
	var jobs []*heddlev1.Job
	for _, k := range slices.Compact(keys) {
		if rows[k] == nil {
			continue
		}
		job, err := s.viewJob(ctx, rows[k], now)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}
