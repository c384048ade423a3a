package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Bounds of the count of an operation's jobs.
const (
	maxCounted  = 1_000_000
	countPage   = 5_000
	countBudget = 3 * time.Second
	// maxNamed is how many jobs a selection may name one by one.
	maxNamed = 10_000
)

// The states of jobs in which actions have something to do.
var (
	endedBadly = []heddlev1.State{heddlev1.State_STATE_FAILED, heddlev1.State_STATE_CANCELLED}
	endedAny   = []heddlev1.State{
		heddlev1.State_STATE_SUCCEEDED, heddlev1.State_STATE_FAILED, heddlev1.State_STATE_CANCELLED, heddlev1.State_STATE_SKIPPED}
	planned  = []heddlev1.State{heddlev1.State_STATE_SCHEDULED, heddlev1.State_STATE_RETRYABLE}
	notEnded = []heddlev1.State{
		heddlev1.State_STATE_BLOCKED, heddlev1.State_STATE_SCHEDULED, heddlev1.State_STATE_AVAILABLE,
		heddlev1.State_STATE_RUNNING, heddlev1.State_STATE_RETRYABLE}
)

// statesOf are the states of jobs that an action applies to.
var statesOf = map[heddlev1.Action][]heddlev1.State{
	heddlev1.Action_ACTION_RETRY:   endedBadly,
	heddlev1.Action_ACTION_DISMISS: endedBadly,
	heddlev1.Action_ACTION_CANCEL:  notEnded,
	heddlev1.Action_ACTION_DELETE:  endedAny,
	heddlev1.Action_ACTION_RUN_NOW: planned,
}

// freeze gives the selection of an operation as it is kept: of the states only
// those that the action applies to. None left: there is nothing to do.
func freeze(action heddlev1.Action, sel *heddlev1.Selection) (frozen *heddlev1.Selection, none bool, err error) {
	applies, ok := statesOf[action]
	switch {
	case !ok:
		return nil, false, invalid("action is %d, which is none", action)
	case len(sel.GetIds()) > 0 && sel.GetFilter() != nil:
		return nil, false, invalid("selection has ids and a filter; give one of them")
	case len(sel.GetIds()) > maxNamed:
		return nil, false, invalid("selection names %d jobs, the limit is %d; a filter takes any number", len(sel.GetIds()), maxNamed)
	case len(sel.GetIds()) > 0:
		for i, id := range sel.GetIds() {
			if _, err := parseJobID(id); err != nil {
				return nil, false, fmt.Errorf("selection.ids[%d]: %w", i, err)
			}
		}
		return proto.CloneOf(sel), false, nil
	case sel.GetFilter() == nil:
		return nil, false, invalid("selection has neither ids nor a filter")
	}
	frozen = proto.CloneOf(sel)
	f := frozen.GetFilter()
	if len(f.GetStates()) == 0 {
		f.States = applies
	} else {
		f.States = slices.DeleteFunc(f.States, func(s heddlev1.State) bool { return !slices.Contains(applies, s) })
	}
	return frozen, len(f.States) == 0, nil
}

// CountOperation counts the jobs that an operation would take on; more: at
// least so many.
func (s *Store) CountOperation(ctx context.Context, action heddlev1.Action, sel *heddlev1.Selection) (jobs int64, more bool, err error) {
	frozen, none, err := freeze(action, sel)
	if err != nil || none {
		return 0, false, err
	}
	jobs, more, err = s.countSelected(ctx, frozen)
	if err != nil {
		return 0, false, fmt.Errorf("count jobs: %w", err)
	}
	return jobs, more, nil
}

func (s *Store) countSelected(ctx context.Context, sel *heddlev1.Selection) (jobs int64, more bool, err error) {
	if n := len(sel.GetIds()); n > 0 {
		return int64(n), false, nil
	}
	f, err := s.jobFilter(ctx, &heddlev1.JobServiceListRequest{Filter: sel.GetFilter()})
	if err != nil {
		return 0, false, err
	}
	began, token := time.Now(), ""
	for {
		found, err := s.findJobs(ctx, f, token, countPage)
		if err != nil {
			return 0, false, err
		}
		jobs += int64(len(found.rows))
		token = found.token
		if token == "" {
			return jobs, false, nil
		}
		if jobs >= maxCounted || time.Since(began) > countBudget {
			return min(jobs, maxCounted), true, nil
		}
	}
}

// StartOperation writes an operation down. One that was written before under the
// same id stays as it is, and is answered; model.ErrAlreadyExists if it is
// another one.
func (s *Store) StartOperation(ctx context.Context, req *heddlev1.OperationServiceStartRequest, author string) (*heddlev1.Operation, error) {
	id, err := parseWorkflowID(req.GetId())
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*heddlev1.Operation, error) { return nil, fmt.Errorf("operation %s: %w", id, err) }
	sel, none, err := freeze(req.GetAction(), req.GetSelection())
	if err != nil {
		return fail(err)
	}
	kept := proto.CloneOf(req)
	kept.Selection = sel
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(kept)
	if err != nil {
		return fail(err)
	}
	if known, err := s.db.GetOperation(ctx, id); err != nil {
		return fail(err)
	} else if len(known) > 0 {
		return sameOperation(&known[0], body)
	}
	now, err := s.Now(ctx)
	if err != nil {
		return fail(err)
	}
	row := db.AddOperationParams{ID: id, CreatedAt: timestampOf(now), Request: body, Author: author, Empty: none}
	if !none {
		if row.Total, row.More, err = s.countSelected(ctx, sel); err != nil {
			return fail(err)
		}
	}
	if err := s.db.AddOperation(ctx, row); err != nil {
		return fail(err)
	}
	rows, err := s.db.GetOperation(ctx, id)
	if err != nil {
		return fail(err)
	}
	if len(rows) == 0 {
		return fail(model.ErrNotFound)
	}
	return sameOperation(&rows[0], body)
}

// sameOperation answers with an operation that is there, if it is the one asked
// for.
func sameOperation(row *db.Operation, body []byte) (*heddlev1.Operation, error) {
	if !bytes.Equal(row.Request, body) {
		return nil, fmt.Errorf("operation %s: %w with another action or selection", row.ID, model.ErrAlreadyExists)
	}
	return operationOf(row)
}

// Operation gives one operation.
func (s *Store) Operation(ctx context.Context, id fsm.WorkflowID) (*heddlev1.Operation, error) {
	rows, err := s.rdb.GetOperation(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("operation %s: %w", id, err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("operation %s: %w", id, model.ErrNotFound)
	}
	return operationOf(&rows[0])
}

// Operations pages through operations, newest first.
func (s *Store) Operations(ctx context.Context, req *heddlev1.OperationServiceListRequest) (*heddlev1.OperationServiceListResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	at, err := readToken(req.GetPageToken(), lastKey)
	if err != nil {
		return nil, err
	}
	var rows []db.Operation
	if req.GetRunning() {
		rows, err = s.rdb.ListRunningOperations(ctx, db.ListRunningOperationsParams{Before: at.id, MaxRows: size + 1})
	} else {
		rows, err = s.rdb.ListOperations(ctx, db.ListOperationsParams{Before: at.id, MaxRows: size + 1})
	}
	if err != nil {
		return nil, fmt.Errorf("list operations: %w", err)
	}
	res := &heddlev1.OperationServiceListResponse{}
	for i := range rows {
		if i == int(size) {
			res.NextPageToken = pageToken(key{id: rows[i-1].ID})
			break
		}
		op, err := operationOf(&rows[i])
		if err != nil {
			return nil, err
		}
		res.Operations = append(res.Operations, op)
	}
	return res, nil
}

// StopOperation asks for the end of an operation. One that has ended stays as
// it is.
func (s *Store) StopOperation(ctx context.Context, id fsm.WorkflowID, author string) error {
	n, err := s.db.StopOperation(ctx, db.StopOperationParams{ID: id, Author: &author})
	if err == nil && n == 0 {
		_, err = s.Operation(ctx, id) // it may have ended
	}
	if err != nil {
		return fmt.Errorf("stop operation %s: %w", id, err)
	}
	return nil
}

func operationOf(row *db.Operation) (*heddlev1.Operation, error) {
	req, err := frozenRequest(row)
	if err != nil {
		return nil, err
	}
	return &heddlev1.Operation{
		Id: row.ID.String(), Action: req.GetAction(), Selection: req.GetSelection(), Note: req.GetNote(), Author: row.Author,
		CreatedAt: stamp(row.CreatedAt), FinishedAt: stamp(row.FinishedAt), Total: row.Total, More: row.More,
		Done: row.Done, Changed: row.Changed, PassedOver: row.PassedOver, Failed: row.Failed, Error: text(row.Error),
		StopRequested: row.Stop, StoppedBy: text(row.StoppedBy),
	}, nil
}

func frozenRequest(row *db.Operation) (*heddlev1.OperationServiceStartRequest, error) {
	req := &heddlev1.OperationServiceStartRequest{}
	if err := proto.Unmarshal(row.Request, req); err != nil {
		return nil, fmt.Errorf("operation %s: request: %w", row.ID, err)
	}
	return req, nil
}

// parseJobID reads "<workflow id>/<node>"; the id alone is that of a lone job.
func parseJobID(text string) (fsm.JobID, error) {
	workflow, number, numbered := strings.Cut(text, "/")
	id, err := parseWorkflowID(workflow)
	if err != nil {
		return fsm.JobID{}, err
	}
	job := fsm.JobID{Workflow: id, Node: 1}
	if numbered {
		n, err := strconv.ParseInt(number, 10, 32)
		if err != nil || n < 1 {
			return fsm.JobID{}, invalid("job id %q: %q is no number of a job", text, number)
		}
		job.Node = int32(n)
	}
	return job, nil
}
