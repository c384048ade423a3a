package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// readyFew is the number of released jobs up to which a list of them is made by
// reading all of their keys; beyond, they are looked for among all open jobs.
const readyFew = 20_000

// Jobs pages through jobs: those that failed, were cancelled or skipped by
// their ends, the latest first, if nothing else is asked for; else by the
// workflow's age and the number, newest first, open and ended ones merged.
// Filters are searched with a budget: a page may be short or empty and still
// have a next one; SearchedBackTo then tells how far it went. A token goes on
// behind the last row wherever that row is by now.
func (s *Store) Jobs(ctx context.Context, req *heddlev1.JobServiceListRequest) (*heddlev1.JobServiceListResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	f, err := s.jobFilter(ctx, req)
	if err != nil {
		return nil, err
	}
	found, err := s.findJobs(ctx, f, req.GetPageToken(), int(size))
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	resp := &heddlev1.JobServiceListResponse{NextPageToken: found.token}
	for i := range found.rows {
		job, err := s.viewJob(ctx, &found.rows[i], f.now)
		if err != nil {
			return nil, fmt.Errorf("list jobs: %w", err)
		}
		resp.Jobs = append(resp.Jobs, job)
	}
	if err := s.lastErrors(ctx, found.rows, resp.Jobs); err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	if found.token != "" && len(found.rows) < int(size) {
		resp.SearchedBackTo = timestamppb.New(found.back)
	}
	return resp, nil
}

// foundJobs is what a search found, where to go on (empty: the list is over) and
// how far it went.
type foundJobs struct {
	rows  []viewRow
	token string
	back  time.Time
}

// findJobs chooses the way: by lease, by the index of the ready, by the index
// of what did not succeed, or through all.
func (s *Store) findJobs(ctx context.Context, f *jobFilter, token string, size int) (*foundJobs, error) {
	if f.nothing {
		return &foundJobs{}, nil
	}
	if f.byEnd() {
		return s.findByEnd(ctx, f, token, size)
	}
	at, err := readToken(token, lastKey)
	if err != nil {
		return nil, err
	}
	if at.compare(f.top) > 0 {
		at = f.top
	}
	if f.states.outcomes == 0 && !f.states.blocked && f.within == nil {
		if !f.states.scheduled && !f.states.available && !f.states.retryable {
			return s.findAmong(ctx, f, at, size, func(from key, n int) []key {
				leases := s.leases().LeasedBefore(fsm.JobID{Workflow: from.id, Node: from.node}, n)
				keys := make([]key, len(leases))
				for i, l := range leases {
					keys[i] = key{l.Job.Workflow, l.Job.Node}
				}
				return keys
			})
		}
		if keys, few, err := s.readyKeys(ctx, f); err != nil {
			return nil, err
		} else if few {
			return s.findAmong(ctx, f, at, size, func(from key, n int) []key {
				i, _ := slices.BinarySearchFunc(keys, from, func(k, from key) int { return from.compare(k) })
				for i < len(keys) && keys[i].compare(from) >= 0 {
					i++
				}
				return keys[i:min(i+n, len(keys))]
			})
		}
	}
	return s.findByAge(ctx, f, at, size)
}

// readyKeys gives the keys of the released jobs whose states and routes are
// asked for, newest first, unless there are too many.
func (s *Store) readyKeys(ctx context.Context, f *jobFilter) (keys []key, few bool, err error) {
	add := func(r db.ReadyKeysRow) {
		if !f.anyRoute && !slices.Contains(f.routes, r.Route) {
			return
		}
		state := jobState(&viewRow{State: stateReleased, RunAt: r.RunAt, Attempt: r.Attempt}, f.now)
		if f.states.has(state) || f.states.running {
			keys = append(keys, key{r.WorkflowID, r.Node})
		}
	}
	if !f.states.available && !f.states.running {
		rows, err := s.rdb.LaterKeys(ctx, db.LaterKeysParams{Now: timestampOf(f.now), MostStreams: streamsRead + 1, MaxRows: readyFew + 1})
		if err != nil || len(rows) > readyFew || len(rows) > 0 && rows[0].Streams > streamsRead {
			return nil, false, err
		}
		for _, r := range rows {
			add(db.ReadyKeysRow{WorkflowID: r.WorkflowID, Node: r.Node, RunAt: r.RunAt, Attempt: r.Attempt, Route: r.Route})
		}
	} else {
		rows, err := s.rdb.ReadyKeys(ctx, readyFew+1)
		if err != nil || len(rows) > readyFew {
			return nil, false, err
		}
		for _, r := range rows {
			add(r)
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return b.compare(a) })
	return keys, true, nil
}

// findAmong reads the rows of keys that before gives, in its order.
func (s *Store) findAmong(ctx context.Context, f *jobFilter, at key, size int, before func(from key, n int) []key) (*foundJobs, error) {
	found := &foundJobs{}
	began := time.Now()
	for read := 0; ; {
		keys := before(at, max(size, defaultPage))
		if len(keys) == 0 {
			return found, nil
		}
		rows, err := s.rowsOf(ctx, keys)
		if err != nil {
			return nil, err
		}
		for i, k := range keys {
			at = k
			if row := rows[k]; row != nil && f.keeps(s, row) {
				found.rows = append(found.rows, *row)
			}
			if len(found.rows) == size && i < len(keys)-1 {
				break
			}
		}
		if read += len(keys); len(found.rows) >= size || read >= searchRows || time.Since(began) > searchBudget {
			if len(before(at, 1)) > 0 {
				found.token, found.back = pageToken(at), idTime(at.id)
			}
			return found, nil
		}
	}
}

// rowsOf reads jobs by their keys. One that moves between the two tables
// meanwhile is seen at least once.
func (s *Store) rowsOf(ctx context.Context, keys []key) (map[key]*viewRow, error) {
	p := db.ViewJobsParams{}
	for _, k := range keys {
		p.WorkflowIds, p.Nodes = append(p.WorkflowIds, k.id), append(p.Nodes, k.node)
	}
	rows, err := s.rdb.ViewJobs(ctx, p)
	if err != nil {
		return nil, err
	}
	byKey := make(map[key]*viewRow, len(rows))
	for i := range rows {
		row := viewRow(rows[i])
		byKey[key{row.WorkflowID, row.Node}] = &row
	}
	return byKey, nil
}

func rowKey(r *viewRow) key { return key{r.WorkflowID, r.Node} }

// findByAge walks back through open and ended jobs side by side.
func (s *Store) findByAge(ctx context.Context, f *jobFilter, at key, size int) (*foundJobs, error) {
	var l listed[viewRow, key]
	var walks []func(*jobFilter) search[viewRow, key]
	if f.states.open() && len(f.errors) == 0 && f.errorGroup == "" {
		walks = append(walks, func(f *jobFilter) search[viewRow, key] {
			return search[viewRow, key]{bound: f.bounded(s.openBound), between: s.openBetween(f)}
		})
	}
	if f.states.outcomes != 0 {
		walks = append(walks, func(f *jobFilter) search[viewRow, key] {
			return search[viewRow, key]{bound: f.bounded(s.finishedBound), between: s.finishedBetween(f)}
		})
	}
	for _, begin := range walks {
		walk := begin(f)
		walk.position = rowKey
		walk.keep = func(r *viewRow) bool { return f.keeps(s, r) }
		rows, next, err := walk.back(ctx, at, size)
		if err != nil {
			return nil, err
		}
		l.add(rows, next, key.compare)
		if l.next != nil && l.next.compare(f.floor) > 0 {
			// What lies below where one walk was left is for another page.
			below := *f
			below.floor = *l.next
			f = &below
		}
	}
	slices.SortStableFunc(l.rows, func(a, b viewRow) int {
		if c := rowKey(&b).compare(rowKey(&a)); c != 0 {
			return c
		}
		return int(b.State) - int(a.State)
	})
	// A job that moved between the two reads is in both; its end counts.
	l.rows = slices.CompactFunc(l.rows, func(a, b viewRow) bool { return rowKey(&a) == rowKey(&b) })
	if l.next != nil {
		// Below next, one of the walks has not been.
		l.rows = l.rows[:len(l.rows)-countBelow(l.rows, *l.next)]
	}
	if len(l.rows) > size {
		last := rowKey(&l.rows[size-1])
		l.rows, l.next = l.rows[:size], &last
	}
	found := &foundJobs{rows: l.rows}
	if l.next != nil {
		found.token, found.back = pageToken(*l.next), idTime(l.next.id)
	}
	return found, nil
}

// countBelow counts the rows at the end that lie below k.
func countBelow(rows []viewRow, k key) int {
	n := 0
	for i := len(rows) - 1; i >= 0 && rowKey(&rows[i]).compare(k) < 0; i-- {
		n++
	}
	return n
}

func (s *Store) openBound(ctx context.Context, from key) (key, bool, error) {
	rows, err := s.rdb.OpenJobsBound(ctx, db.OpenJobsBoundParams{WorkflowID: from.id, Node: from.node, Rows: searchStep})
	if err != nil || len(rows) == 0 {
		return key{}, false, err
	}
	return key{rows[0].WorkflowID, rows[0].Node}, true, nil
}

func (s *Store) finishedBound(ctx context.Context, from key) (key, bool, error) {
	rows, err := s.rdb.FinishedJobsBound(ctx, db.FinishedJobsBoundParams{WorkflowID: from.id, Node: from.node, Rows: searchStep})
	if err != nil || len(rows) == 0 {
		return key{}, false, err
	}
	return key{rows[0].WorkflowID, rows[0].Node}, true, nil
}

func (s *Store) openBetween(f *jobFilter) func(context.Context, key, key, int) ([]viewRow, error) {
	return func(ctx context.Context, from, low key, limit int) ([]viewRow, error) {
		rows, err := s.rdb.OpenJobsBetween(ctx, db.OpenJobsBetweenParams{
			WorkflowID: from.id, Node: from.node, LowWorkflowID: low.id, LowNode: low.node, AnyRoute: f.anyRoute, Routes: f.routes,
			AnyBatch: f.batch < 0, Batch: f.batch, Name: f.name, Tag: []byte(f.tag),
			Blocked: f.states.blocked, Available: f.states.available || f.states.running,
			Scheduled: f.states.scheduled || f.states.running, Retryable: f.states.retryable || f.states.running,
			Now: timestampOf(f.now), MaxRows: int32(limit),
		})
		views := make([]viewRow, len(rows))
		for i, r := range rows {
			views[i] = viewRow(r)
		}
		return views, err
	}
}

func (s *Store) finishedBetween(f *jobFilter) func(context.Context, key, key, int) ([]viewRow, error) {
	return func(ctx context.Context, from, low key, limit int) ([]viewRow, error) {
		rows, err := s.rdb.FinishedJobsBetween(ctx, db.FinishedJobsBetweenParams{
			WorkflowID: from.id, Node: from.node, LowWorkflowID: low.id, LowNode: low.node, AnyRoute: f.anyRoute, Routes: f.routes,
			AnyBatch: f.batch < 0, Batch: f.batch, Name: f.name, Tag: []byte(f.tag), Errors: f.patterns, Outcomes: f.states.outcomes, MaxRows: int32(limit),
		})
		views := make([]viewRow, len(rows))
		for i, r := range rows {
			views[i] = viewRow(r)
		}
		return views, err
	}
}

// findByEnd reads what did not succeed by the time of its end, each outcome by
// itself.
func (s *Store) findByEnd(ctx context.Context, f *jobFilter, token string, size int) (*foundJobs, error) {
	at, err := readEndToken(token)
	if err != nil {
		return nil, err
	}
	var l listed[viewRow, endKey]
	floor := endKey{at: time.Unix(0, 0)}
	for _, outcome := range []dag.Outcome{dag.Failed, dag.Cancelled, dag.Skipped} {
		if f.states.outcomes&int32(outcome) == 0 {
			continue
		}
		q := search[viewRow, endKey]{
			bound: s.otherBound(f, outcome, floor), between: s.otherBetween(f, outcome),
			keep: func(r *viewRow) bool { return f.keeps(s, r) }, position: rowEnd,
		}
		rows, next, err := q.back(ctx, at, size)
		if err != nil {
			return nil, err
		}
		l.add(rows, next, endKey.compare)
		if l.next != nil {
			floor = *l.next // what lies below is for another page
		}
	}
	slices.SortFunc(l.rows, func(a, b viewRow) int { return rowEnd(&b).compare(rowEnd(&a)) })
	if l.next != nil {
		i := len(l.rows)
		for i > 0 && rowEnd(&l.rows[i-1]).compare(*l.next) < 0 {
			i--
		}
		l.rows = l.rows[:i]
	}
	if len(l.rows) > size {
		last := rowEnd(&l.rows[size-1])
		l.rows, l.next = l.rows[:size], &last
	}
	found := &foundJobs{rows: l.rows}
	if l.next != nil {
		found.token, found.back = endToken(*l.next), l.next.at
	}
	return found, nil
}

func rowEnd(r *viewRow) endKey { return endKey{r.FinishedAt.Time, rowKey(r)} }

func (s *Store) otherBound(f *jobFilter, outcome dag.Outcome, floor endKey) func(context.Context, endKey) (endKey, bool, error) {
	return func(ctx context.Context, from endKey) (endKey, bool, error) {
		rows, err := s.rdb.EndedOtherBound(ctx, db.EndedOtherBoundParams{
			Outcome: int16(outcome), FinishedAt: timestampOf(from.at), WorkflowID: from.id, Node: from.node,
			FirstID: f.floor.id, LastID: f.top.id, Rows: searchStep,
		})
		if err != nil || len(rows) == 0 {
			return floor, false, err
		}
		low := endKey{rows[0].FinishedAt.Time, key{rows[0].WorkflowID, rows[0].Node}}
		if low.compare(floor) <= 0 {
			return floor, false, nil
		}
		return low, true, nil
	}
}

func (s *Store) otherBetween(f *jobFilter, outcome dag.Outcome) func(context.Context, endKey, endKey, int) ([]viewRow, error) {
	return func(ctx context.Context, from, low endKey, limit int) ([]viewRow, error) {
		rows, err := s.rdb.EndedOtherBetween(ctx, db.EndedOtherBetweenParams{
			Outcome: int16(outcome), FinishedAt: timestampOf(from.at), WorkflowID: from.id, Node: from.node,
			LowFinishedAt: timestampOf(low.at), LowWorkflowID: low.id, LowNode: low.node, FirstID: f.floor.id, LastID: f.top.id,
			AnyRoute: f.anyRoute, Routes: f.routes, Name: f.name, Tag: []byte(f.tag), Errors: f.patterns, MaxRows: int32(limit),
		})
		views := make([]viewRow, len(rows))
		for i, r := range rows {
			views[i] = viewRow(r)
		}
		return views, err
	}
}

// JobsByID reads jobs without args, results and attempts; those that are not
// there are left out.
func (s *Store) JobsByID(ctx context.Context, ids []fsm.JobID) (map[fsm.JobID]*heddlev1.Job, error) {
	jobs := make(map[fsm.JobID]*heddlev1.Job, len(ids))
	if len(ids) == 0 {
		return jobs, nil
	}
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]key, len(ids))
	for i, id := range ids {
		keys[i] = key{id.Workflow, id.Node}
	}
	rows, err := s.rowsOf(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read jobs: %w", err)
	}
	for k, row := range rows {
		if jobs[fsm.JobID{Workflow: k.id, Node: k.node}], err = s.viewJob(ctx, row, now); err != nil {
			return nil, err
		}
	}
	return jobs, nil
}

// lastErrors gives retryable jobs the errors of their latest attempts. The rows
// are those of the jobs.
func (s *Store) lastErrors(ctx context.Context, rows []viewRow, jobs []*heddlev1.Job) error {
	p := db.LastErrorsParams{}
	for i, j := range jobs {
		if j.GetState() == heddlev1.State_STATE_RETRYABLE {
			p.Ords, p.Ids, p.Nodes = append(p.Ords, int32(i)), append(p.Ids, rows[i].WorkflowID), append(p.Nodes, rows[i].Node)
		}
	}
	if len(p.Ords) == 0 {
		return nil
	}
	errs, err := s.rdb.LastErrors(ctx, p)
	if err != nil {
		return err
	}
	for _, e := range errs {
		jobs[e.Ord].Error = e.Error
	}
	return nil
}
