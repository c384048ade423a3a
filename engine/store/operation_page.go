package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// RunningOperation is an operation that has not ended, as its leader works it
// off.
type RunningOperation struct {
	ID     fsm.WorkflowID
	Author string
	// Stop: it is to end.
	Stop bool

	req    *heddlev1.OperationServiceStartRequest
	at     time.Time // when it was started: what matches only since is not taken
	cursor string
}

// Action is what is done to each job.
func (op *RunningOperation) Action() heddlev1.Action { return op.req.GetAction() }

// RunningOperations lists the oldest operations that have not ended.
func (s *Store) RunningOperations(ctx context.Context, limit int32) ([]*RunningOperation, error) {
	rows, err := s.db.OldestOperations(ctx, limit)
	if err != nil {
		return nil, fmt.Errorf("running operations: %w", err)
	}
	ops := make([]*RunningOperation, len(rows))
	for i := range rows {
		r := &rows[i]
		req, err := frozenRequest(r)
		if err != nil {
			return nil, err
		}
		ops[i] = &RunningOperation{ID: r.ID, Author: r.Author, Stop: r.Stop, req: req, at: r.CreatedAt.Time, cursor: r.Cursor}
	}
	return ops, nil
}

// operationPage is how many jobs an operation looks at together.
const operationPage = 500

// OperationPage is a part of an operation's jobs.
type OperationPage struct {
	Jobs []OperationJob
	// PassedOver are jobs that were named, and to which the action does not
	// apply.
	PassedOver int64
	// Cursor is how far the operation has come with this page; Last: to its end.
	Cursor string
	Last   bool
}

// OperationJob is a job of an operation.
type OperationJob struct {
	ID   fsm.JobID
	Lone bool // it belongs to no graph
}

// OperationPage gives the jobs that come next. A filter means what it meant when
// the operation was started; jobs it is done with do not match it any more.
func (s *Store) OperationPage(ctx context.Context, op *RunningOperation) (*OperationPage, error) {
	page, err := s.operationPage(ctx, op)
	if err != nil {
		return nil, fmt.Errorf("jobs of operation %s: %w", op.ID, err)
	}
	return page, nil
}

func (s *Store) operationPage(ctx context.Context, op *RunningOperation) (*OperationPage, error) {
	if len(op.req.GetSelection().GetIds()) > 0 {
		return s.namedPage(ctx, op)
	}
	f, err := s.jobFilter(ctx, &heddlev1.JobServiceListRequest{Filter: op.req.GetSelection().GetFilter()})
	if err != nil {
		return nil, err
	}
	found, err := s.findJobs(ctx, f, op.cursor, operationPage)
	if err != nil {
		return nil, err
	}
	page := &OperationPage{Cursor: found.token, Last: found.token == ""}
	rows, err := s.matchedThen(ctx, f, op.at, found.rows)
	for i := range rows {
		page.Jobs = append(page.Jobs, operationJob(&rows[i]))
	}
	return page, err
}

func operationJob(r *viewRow) OperationJob {
	return OperationJob{ID: fsm.JobID{Workflow: r.WorkflowID, Node: r.Node}, Lone: r.Batch < 0}
}

// matchedThen leaves out the rows that match a filter now and did not at an
// earlier time, as far as can be told.
func (s *Store) matchedThen(ctx context.Context, f *jobFilter, at time.Time, rows []viewRow) ([]viewRow, error) {
	since := db.BegunSinceParams{At: timestampOf(at), Attempts: !f.states.running, Releases: !f.states.blocked}
	rows = slices.DeleteFunc(rows, func(r viewRow) bool {
		if r.State == stateEnded {
			return r.FinishedAt.Time.After(at)
		}
		if idTime(r.WorkflowID).After(at) && (r.State == stateBlocked || r.RunAt.Time.After(at)) {
			return true // submitted since; the clock of who made the id alone may be ahead
		}
		then := jobState(&r, at)
		lease, _, leased := s.leases().LeaseOf(fsm.JobID{Workflow: r.WorkflowID, Node: r.Node})
		if leased && waits(then) && !time.UnixMicro(lease.GrantedAt).After(at) {
			then = heddlev1.State_STATE_RUNNING
		}
		return !f.states.has(then)
	})
	if !since.Attempts && !since.Releases {
		return rows, nil
	}
	for i := range rows {
		if rows[i].State == stateReleased {
			since.Ords = append(since.Ords, int32(i))
			since.Ids, since.Nodes = append(since.Ids, rows[i].WorkflowID), append(since.Nodes, rows[i].Node)
		}
	}
	if len(since.Ords) == 0 {
		return rows, nil
	}
	begun, err := s.db.BegunSince(ctx, since)
	if err != nil {
		return nil, err
	}
	kept := rows[:0]
	for i := range rows {
		if !slices.Contains(begun, int32(i)) {
			kept = append(kept, rows[i])
		}
	}
	return kept, nil
}

// namedPage takes the next of the jobs that are named one by one.
func (s *Store) namedPage(ctx context.Context, op *RunningOperation) (*OperationPage, error) {
	ids := op.req.GetSelection().GetIds()
	from := 0
	if op.cursor != "" {
		n, err := strconv.Atoi(op.cursor)
		if err != nil || n < 0 || n > len(ids) {
			return nil, fmt.Errorf("cursor %q is none of %d ids", op.cursor, len(ids))
		}
		from = n
	}
	to := min(from+operationPage, len(ids))
	page := &OperationPage{Cursor: strconv.Itoa(to), Last: to == len(ids)}
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]key, 0, to-from)
	for _, id := range ids[from:to] {
		job, err := parseJobID(id)
		if err != nil {
			return nil, err
		}
		if k := (key{job.Workflow, job.Node}); !slices.Contains(keys, k) {
			keys = append(keys, k)
		} else {
			page.PassedOver++
		}
	}
	rows, err := s.rowsOf(ctx, keys)
	if err != nil {
		return nil, err
	}
	applies := newStateSet(statesOf[op.Action()])
	for _, k := range keys {
		row := rows[k]
		if row == nil {
			page.PassedOver++
			continue
		}
		state := jobState(row, now)
		if waits(state) && op.Action() == heddlev1.Action_ACTION_RUN_NOW {
			if _, _, leased := s.leases().LeaseOf(fsm.JobID{Workflow: k.id, Node: k.node}); leased {
				state = heddlev1.State_STATE_RUNNING
			}
		}
		if !applies.has(state) {
			page.PassedOver++
			continue
		}
		page.Jobs = append(page.Jobs, operationJob(row))
	}
	return page, nil
}
