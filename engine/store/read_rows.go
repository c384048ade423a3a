package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// viewRow is a job as the queries of views.sql give it, open or ended.
type viewRow = db.ViewJobRow

func stamp(t pgtype.Timestamptz) *timestamppb.Timestamp {
	if !t.Valid {
		return nil
	}
	return timestamppb.New(t.Time)
}

func timestampOf(t time.Time) pgtype.Timestamptz {
	return pgtype.Timestamptz{Time: t, Valid: true}
}

// outcomeState gives the state of what has ended with an outcome.
func outcomeState(outcome int16) heddlev1.State {
	switch dag.Outcome(outcome) {
	case dag.Succeeded:
		return heddlev1.State_STATE_SUCCEEDED
	case dag.Failed:
		return heddlev1.State_STATE_FAILED
	case dag.Cancelled:
		return heddlev1.State_STATE_CANCELLED
	case dag.Skipped:
		return heddlev1.State_STATE_SKIPPED
	}
	return heddlev1.State_STATE_UNSPECIFIED
}

// jobState gives the state of a job as of now, leases not considered.
func jobState(r *viewRow, now time.Time) heddlev1.State {
	switch {
	case r.State == stateEnded:
		return outcomeState(r.Outcome)
	case r.State == stateBlocked:
		return heddlev1.State_STATE_BLOCKED
	case !r.RunAt.Time.After(now):
		return heddlev1.State_STATE_AVAILABLE
	case r.Attempt > 0:
		return heddlev1.State_STATE_RETRYABLE
	}
	return heddlev1.State_STATE_SCHEDULED
}

// batchState gives the state of a batch or workflow.
func batchState(state, outcome int16) heddlev1.State {
	switch state {
	case stateBlocked:
		return heddlev1.State_STATE_BLOCKED
	case stateReleased:
		return heddlev1.State_STATE_RUNNING
	}
	return outcomeState(outcome)
}

// viewJob maps a row, a leased job's as running; args, result and attempts are
// not in it.
func (s *Store) viewJob(ctx context.Context, r *viewRow, now time.Time) (*heddlev1.Job, error) {
	route, err := s.routeNames(ctx, r.Route)
	if err != nil {
		return nil, err
	}
	job := &heddlev1.Job{
		Id:          fsm.JobID{Workflow: r.WorkflowID, Node: r.Node}.String(),
		WorkflowId:  r.WorkflowID.String(),
		Node:        r.Node,
		Name:        r.Name,
		Kind:        route.kind,
		Queue:       route.queue,
		Priority:    int32(r.Priority),
		Key:         r.Key,
		State:       jobState(r, now),
		Attempt:     int32(r.Attempt),
		MaxAttempts: int32(r.MaxAttempts),
		CreatedAt:   timestamppb.New(idTime(r.WorkflowID)),
		StartedAt:   stamp(r.StartedAt),
		FinishedAt:  stamp(r.FinishedAt),
		Worker:      r.Worker,
		Error:       r.Error,
		Batch:       max(r.Batch, 0),
		ReleasedBy:  r.ReleasedBy,

		CancelRequested: r.State != stateEnded && r.Flags&FlagCancelled != 0,
	}
	if r.State != stateBlocked {
		job.RunAt = stamp(r.RunAt)
	}
	if len(r.Opts) > 0 {
		job.Options = &heddlev1.JobOptions{}
		if err := proto.Unmarshal(r.Opts, job.Options); err != nil {
			return nil, fmt.Errorf("options of job %s: %w", job.Id, err)
		}
	}
	s.showLease(fsm.JobID{Workflow: r.WorkflowID, Node: r.Node}, job)
	return job, nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// viewBatch maps a row; its members are counted by their counters.
func viewBatch(b *db.Batch) *heddlev1.Batch {
	return &heddlev1.Batch{
		Node: b.Node, Parent: b.Parent, Name: text(b.Name), State: batchState(b.State, b.Outcome),
		Members:          ended(b.Total, b.Succeeded, b.Failed, b.Cancelled, b.Skipped),
		Open:             b.Flags&FlagOpen != 0,
		Hold:             b.Flags&FlagHold != 0,
		TolerancePercent: b.TolerancePercent, ToleranceCount: b.ToleranceCount,
		StartedAt: stamp(b.StartedAt), FinishedAt: stamp(b.FinishedAt),
	}
}

func ended(total, succeeded, failed, cancelled, skipped int32) *heddlev1.Counts {
	return &heddlev1.Counts{
		Total: int64(total), Succeeded: int64(succeeded), Failed: int64(failed), Cancelled: int64(cancelled), Skipped: int64(skipped),
	}
}

// count adds n nodes of a state.
func count(c *heddlev1.Counts, state heddlev1.State, n int64) {
	switch state {
	case heddlev1.State_STATE_BLOCKED:
		c.Blocked += n
	case heddlev1.State_STATE_SCHEDULED:
		c.Scheduled += n
	case heddlev1.State_STATE_AVAILABLE:
		c.Available += n
	case heddlev1.State_STATE_RUNNING:
		c.Running += n
	case heddlev1.State_STATE_RETRYABLE:
		c.Retryable += n
	case heddlev1.State_STATE_SUCCEEDED:
		c.Succeeded += n
	case heddlev1.State_STATE_FAILED:
		c.Failed += n
	case heddlev1.State_STATE_CANCELLED:
		c.Cancelled += n
	case heddlev1.State_STATE_SKIPPED:
		c.Skipped += n
	}
}

// batchPaths gives the path of each batch, batches in ascending order; empty
// where a batch on the way has no name.
func batchPaths(batches []db.Batch) map[int32]string {
	paths := make(map[int32]string, len(batches))
	for i := range batches {
		b := &batches[i]
		name := text(b.Name)
		if name == "" {
			continue
		}
		if b.Parent == 0 {
			paths[b.Node] = name
		} else if around := paths[b.Parent]; around != "" {
			paths[b.Node] = strings.Join([]string{around, name}, "/")
		}
	}
	return paths
}

// stateSet is a filter by state.
type stateSet struct {
	blocked, scheduled, available, retryable, running bool
	outcomes                                          int32
}

// newStateSet reads a filter; no states are all.
func newStateSet(states []heddlev1.State) stateSet {
	if len(states) == 0 {
		return stateSet{true, true, true, true, true, int32(dag.Always)}
	}
	var set stateSet
	for _, state := range states {
		switch state {
		case heddlev1.State_STATE_BLOCKED:
			set.blocked = true
		case heddlev1.State_STATE_SCHEDULED:
			set.scheduled = true
		case heddlev1.State_STATE_AVAILABLE:
			set.available = true
		case heddlev1.State_STATE_RUNNING:
			set.running = true
		case heddlev1.State_STATE_RETRYABLE:
			set.retryable = true
		case heddlev1.State_STATE_SUCCEEDED:
			set.outcomes |= int32(dag.Succeeded)
		case heddlev1.State_STATE_FAILED:
			set.outcomes |= int32(dag.Failed)
		case heddlev1.State_STATE_CANCELLED:
			set.outcomes |= int32(dag.Cancelled)
		case heddlev1.State_STATE_SKIPPED:
			set.outcomes |= int32(dag.Skipped)
		}
	}
	return set
}

func (f stateSet) open() bool { return f.blocked || f.released() }

// released: states of open jobs that wait for nothing but their time and a
// worker, and of those that run.
func (f stateSet) released() bool { return f.scheduled || f.available || f.retryable || f.running }

// and gives the states that are in both.
func (f stateSet) and(g stateSet) stateSet {
	return stateSet{
		f.blocked && g.blocked, f.scheduled && g.scheduled, f.available && g.available, f.retryable && g.retryable, f.running && g.running,
		f.outcomes & g.outcomes,
	}
}

func (f stateSet) has(state heddlev1.State) bool {
	switch state {
	case heddlev1.State_STATE_BLOCKED:
		return f.blocked
	case heddlev1.State_STATE_SCHEDULED:
		return f.scheduled
	case heddlev1.State_STATE_AVAILABLE:
		return f.available
	case heddlev1.State_STATE_RUNNING:
		return f.running
	case heddlev1.State_STATE_RETRYABLE:
		return f.retryable
	case heddlev1.State_STATE_SUCCEEDED:
		return f.outcomes&int32(dag.Succeeded) != 0
	case heddlev1.State_STATE_FAILED:
		return f.outcomes&int32(dag.Failed) != 0
	case heddlev1.State_STATE_CANCELLED:
		return f.outcomes&int32(dag.Cancelled) != 0
	case heddlev1.State_STATE_SKIPPED:
		return f.outcomes&int32(dag.Skipped) != 0
	}
	return false
}

func notFoundWorkflow(id fsm.WorkflowID) error {
	return fmt.Errorf("workflow %s: %w", id, model.ErrNotFound)
}

func notFoundJob(id fsm.JobID) error { return fmt.Errorf("job %s: %w", id, model.ErrNotFound) }
