package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

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
	attempts, err := s.db.JobAttempts(ctx, db.JobAttemptsParams{WorkflowID: id.Workflow, Node: id.Node})
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
	rows, err := s.db.ViewJob(ctx, db.ViewJobParams{WorkflowID: id.Workflow, Node: id.Node})
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", id, err)
	}
	if len(rows) > 0 {
		return &rows[0], nil
	}
	batches, err := s.db.GetBatch(ctx, db.GetBatchParams{WorkflowID: id.Workflow, Node: id.Node})
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
	rows, err := s.db.JobBodies(ctx, db.JobBodiesParams{WorkflowID: id.Workflow, Node: id.Node})
	if err != nil {
		return nil, nil, err
	}
	if len(rows) > 0 {
		args, result = rows[0].Args, rows[0].Result
	}
	if flags&(FlagArgsInPayloads|FlagResultInPayloads) == 0 {
		return args, result, nil
	}
	payloads, err := s.db.JobPayloads(ctx, db.JobPayloadsParams{WorkflowID: id.Workflow, Node: id.Node})
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

// Jobs pages through jobs, newest first, open and ended ones merged. Filters
// are searched with a budget: a page may be short or empty and still have a
// next one; SearchedBackTo then tells how far it went. A filter by running
// gives the available jobs, among which the leased ones are.
func (s *Store) Jobs(ctx context.Context, req *heddlev1.JobServiceListRequest) (*heddlev1.JobServiceListResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	at, err := readToken(req.GetPageToken(), lastKey)
	if err != nil {
		return nil, err
	}
	search := jobSearch{s: s, states: newStateSet(req.GetStates()), anyRoute: true}
	if req.GetWorkflowId() != "" {
		id, err := parseWorkflowID(req.GetWorkflowId())
		if err != nil {
			return nil, err
		}
		search.within = &id
		if top := (key{id, 1<<31 - 1}); at.compare(top) > 0 {
			at = top
		}
	}
	if req.GetKind() != "" || req.GetQueue() != "" {
		search.anyRoute = false
		search.routes, err = s.db.MatchingRoutes(ctx, db.MatchingRoutesParams{Queue: req.GetQueue(), Kind: req.GetKind()})
		if err != nil {
			return nil, fmt.Errorf("list jobs: %w", err)
		}
		if len(search.routes) == 0 {
			return &heddlev1.JobServiceListResponse{}, nil
		}
	}
	if search.now, err = s.now(ctx); err != nil {
		return nil, err
	}
	resp, err := search.page(ctx, at, int(size))
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return resp, nil
}

// jobSearch is a filtered walk back through open and ended jobs.
type jobSearch struct {
	s        *Store
	states   stateSet
	now      time.Time
	anyRoute bool
	routes   []int32
	within   *fsm.WorkflowID
}

func (q *jobSearch) page(ctx context.Context, at key, size int) (*heddlev1.JobServiceListResponse, error) {
	var rows []viewRow
	var next *key // the nearest position at which a source was left
	leave := func(k *key) {
		if k != nil && (next == nil || k.compare(*next) > 0) {
			next = k
		}
	}
	rowKey := func(r *viewRow) key { return key{r.WorkflowID, r.Node} }
	if q.states.open() {
		found, rest, err := searchBack(ctx, at, size, q.openBound, q.openBetween, rowKey)
		if err != nil {
			return nil, err
		}
		rows = append(rows, found...)
		leave(rest)
	}
	if q.states.outcomes != 0 {
		found, rest, err := searchBack(ctx, at, size, q.finishedBound, q.finishedBetween, rowKey)
		if err != nil {
			return nil, err
		}
		rows = append(rows, found...)
		leave(rest)
	}
	slices.SortFunc(rows, func(a, b viewRow) int { return cmp.Or(rowKey(&b).compare(rowKey(&a)), int(b.State)-int(a.State)) })
	// A job that moved between the two reads is in both; its end counts.
	rows = slices.CompactFunc(rows, func(a, b viewRow) bool { return rowKey(&a) == rowKey(&b) })
	if next != nil {
		// Below next, one of the sources has not been read.
		rows = rows[:len(rows)-countBelow(rows, *next)]
	}
	if len(rows) > size {
		last := rowKey(&rows[size-1])
		rows, next = rows[:size], &last
	}
	resp := &heddlev1.JobServiceListResponse{}
	for i := range rows {
		job, err := q.s.viewJob(ctx, &rows[i], q.now)
		if err != nil {
			return nil, err
		}
		resp.Jobs = append(resp.Jobs, job)
	}
	if next != nil {
		resp.NextPageToken = pageToken(*next)
		if len(rows) < size {
			resp.SearchedBackTo = timestamppb.New(idTime(next.id))
		}
	}
	return resp, nil
}

// countBelow counts the rows at the end that lie below k.
func countBelow(rows []viewRow, k key) int {
	n := 0
	for i := len(rows) - 1; i >= 0 && (key{rows[i].WorkflowID, rows[i].Node}).compare(k) < 0; i-- {
		n++
	}
	return n
}

// floor keeps a search inside its workflow.
func (q *jobSearch) floor(rows int, low key) (key, bool, error) {
	if q.within != nil && (rows == 0 || low.id != *q.within) {
		return key{id: *q.within}, false, nil
	}
	return low, rows > 0, nil
}

func (q *jobSearch) openBound(ctx context.Context, from key) (key, bool, error) {
	rows, err := q.s.db.OpenJobsBound(ctx, db.OpenJobsBoundParams{WorkflowID: from.id, Node: from.node, Rows: searchStep})
	if err != nil || len(rows) == 0 {
		low, more, _ := q.floor(0, key{})
		return low, more, err
	}
	return q.floor(1, key{rows[0].WorkflowID, rows[0].Node})
}

func (q *jobSearch) openBetween(ctx context.Context, from, low key, limit int) ([]viewRow, error) {
	rows, err := q.s.db.OpenJobsBetween(ctx, db.OpenJobsBetweenParams{
		WorkflowID: from.id, Node: from.node, LowWorkflowID: low.id, LowNode: low.node, AnyRoute: q.anyRoute, Routes: q.routes,
		Blocked: q.states.blocked, Available: q.states.available, Scheduled: q.states.scheduled, Retryable: q.states.retryable,
		Now: timestampOf(q.now), MaxRows: int32(limit),
	})
	views := make([]viewRow, len(rows))
	for i, r := range rows {
		views[i] = viewRow(r)
	}
	return views, err
}

func (q *jobSearch) finishedBound(ctx context.Context, from key) (key, bool, error) {
	rows, err := q.s.db.FinishedJobsBound(ctx, db.FinishedJobsBoundParams{WorkflowID: from.id, Node: from.node, Rows: searchStep})
	if err != nil || len(rows) == 0 {
		low, more, _ := q.floor(0, key{})
		return low, more, err
	}
	return q.floor(1, key{rows[0].WorkflowID, rows[0].Node})
}

func (q *jobSearch) finishedBetween(ctx context.Context, from, low key, limit int) ([]viewRow, error) {
	rows, err := q.s.db.FinishedJobsBetween(ctx, db.FinishedJobsBetweenParams{
		WorkflowID: from.id, Node: from.node, LowWorkflowID: low.id, LowNode: low.node, AnyRoute: q.anyRoute, Routes: q.routes,
		Outcomes: q.states.outcomes, MaxRows: int32(limit),
	})
	views := make([]viewRow, len(rows))
	for i, r := range rows {
		views[i] = viewRow(r)
	}
	return views, err
}
