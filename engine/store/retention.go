package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// MinRetention is the shortest time for which ended workflows are kept: a
// repeated Submit, whose id may be a day old, must find its first one.
const MinRetention = 48 * time.Hour

// Workflows and lone jobs that one transaction of retention removes.
const (
	retainWorkflows = 100
	retainLone      = 5000
)

// Retain removes workflows and lone jobs that have ended for longer than keep,
// and answers with the number of jobs removed. A day of which nothing must
// stay goes as a whole: its partitions are detached without blocking anyone,
// and dropped. From other days the rows are deleted in chunks. One caller at a
// time; what an interrupted one has left, the next one finishes.
func (s *Store) Retain(ctx context.Context, keep time.Duration) (removed int64, err error) {
	if keep < MinRetention {
		return 0, invalid("retention is %s, must be at least %s", keep, MinRetention)
	}
	now, err := s.Now(ctx)
	if err != nil {
		return 0, err
	}
	days, err := s.daysOfHistory(ctx)
	if err != nil {
		return 0, fmt.Errorf("retention: %w", err)
	}
	cutoff := now.Add(-keep)
	for _, d := range days {
		if !(d + 1).time().Before(cutoff) {
			break
		}
		n, err := s.retainDay(ctx, d, cutoff)
		removed += n
		if err != nil {
			return removed, fmt.Errorf("retention of %s: %w", d.time().Format(time.DateOnly), err)
		}
	}
	if err := errors.Join(s.db.RemoveOperations(ctx, timestampOf(cutoff)), s.db.RemoveOldAudit(ctx, timestampOf(cutoff))); err != nil {
		return removed, fmt.Errorf("retention of operations: %w", err)
	}
	return removed, nil
}

// history is the table whose partitions say which days there are.
const history = "finished_jobs"

// daysOfHistory lists the days that have partitions, in order, after it has
// finished what an interrupted retention has left.
func (s *Store) daysOfHistory(ctx context.Context) ([]day, error) {
	tables, err := s.db.PartitionTables(ctx)
	if err != nil {
		return nil, err
	}
	type partition struct {
		parent string
		day    day
	}
	var days []day
	var rest []partition
	has := map[day]bool{}
	for _, t := range tables {
		i := strings.LastIndexByte(t.Name, '_')
		at, err := time.Parse("20060102", t.Name[i+1:])
		if err != nil {
			continue // not a day: not ours
		}
		p := partition{t.Name[:i], dayOf(at)}
		attached := t.Attached
		if t.Leaving {
			if err := s.utility(ctx, alter(p.parent, "DETACH PARTITION", p.day)+" FINALIZE"); err != nil {
				return nil, err
			}
		}
		if !attached {
			if attached, err = s.dropDetached(ctx, p.parent, p.day); err != nil {
				return nil, err
			}
		}
		switch {
		case attached && p.parent == history:
			days = append(days, p.day)
			has[p.day] = true
		case attached:
			rest = append(rest, p)
		}
	}
	slices.Sort(days)
	for _, p := range rest {
		if !has[p.day] {
			if err := s.detach(ctx, p.parent, p.day); err != nil {
				return nil, err
			}
		}
	}
	return days, nil
}

func (s *Store) retainDay(ctx context.Context, d day, cutoff time.Time) (removed int64, err error) {
	span := db.DayPinnedParams{First: d.first(), Last: (d + 1).first(), Cutoff: timestampOf(cutoff)}
	pinned, err := s.db.DayPinned(ctx, span)
	if err != nil {
		return 0, err
	}
	if pinned {
		return s.retainRows(ctx, span)
	}
	// The rows of workflows go first, under their locks: afterwards no retry
	// finds anything to bring back.
	if _, err := s.removeEnded(ctx, span, removeStructureOnly); err != nil {
		return 0, err
	}
	if pinned, err = s.db.DayPinned(ctx, span); err != nil || pinned {
		return 0, err
	}
	removed, err = s.db.CountFinished(ctx, db.CountFinishedParams{First: span.First, Last: span.Last})
	if err != nil {
		return 0, err
	}
	if err := s.db.RemoveAuditOfDay(ctx, db.RemoveAuditOfDayParams{First: span.First, Last: span.Last}); err != nil {
		return 0, err
	}
	// The history goes first: once it is gone, no retry can bring a job back
	// whose args another table still holds.
	if err := s.detach(ctx, history, d); err != nil {
		return 0, err
	}
	s.days.drop(d)
	for _, parent := range partitioned {
		if parent == history {
			continue
		}
		if err := s.detach(ctx, parent, d); err != nil {
			return 0, err
		}
	}
	s.log.InfoContext(ctx, "history dropped", "day", d.time().Format(time.DateOnly), "jobs", removed)
	return removed, nil
}

// detach takes a partition out, without blocking anyone, and drops it.
func (s *Store) detach(ctx context.Context, parent string, d day) error {
	if err := s.utility(ctx, alter(parent, "DETACH PARTITION", d)+" CONCURRENTLY"); err != nil {
		return err
	}
	back, err := s.dropDetached(ctx, parent, d)
	if err == nil && back {
		err = fmt.Errorf("a job of the day was retried: its partitions stay")
	}
	return err
}

// dropDetached drops a table that is no partition any more. A lone job that
// was retried by hand just before needs the history of its day again: that is
// put back, and the answer is true.
func (s *Store) dropDetached(ctx context.Context, parent string, d day) (back bool, err error) {
	if parent == history {
		open, err := s.db.DayOpen(ctx, db.DayOpenParams{First: d.first(), Last: (d + 1).first()})
		if err != nil {
			return false, err
		}
		if open {
			bounds := fmt.Sprintf(" FOR VALUES FROM ('%s') TO ('%s')", d.first(), (d + 1).first())
			return true, s.utility(ctx, alter(parent, "ATTACH PARTITION", d)+bounds)
		}
	}
	return false, s.utility(ctx, "DROP TABLE "+pgx.Identifier{parent + d.suffix()}.Sanitize())
}

func alter(parent, what string, d day) string {
	return "ALTER TABLE " + pgx.Identifier{parent}.Sanitize() + " " + what + " " + pgx.Identifier{parent + d.suffix()}.Sanitize()
}

// retainRows removes what has ended before the cutoff from a day of which
// something stays.
func (s *Store) retainRows(ctx context.Context, span db.DayPinnedParams) (int64, error) {
	removed, err := s.removeEnded(ctx, span, removeWorkflows)
	if err != nil {
		return removed, err
	}
	for {
		n := int64(0)
		err := pgx.BeginFunc(ctx, s.main, func(tx pgx.Tx) error {
			ids, err := db.New(tx).TakeEndedLoneJobs(ctx, db.TakeEndedLoneJobsParams{
				First: span.First, Last: span.Last, Cutoff: span.Cutoff, MaxRows: retainLone,
			})
			if err != nil || len(ids) == 0 {
				return err
			}
			n, err = removeHistory(ctx, tx, ids)
			return err
		})
		removed += n
		if err != nil || n == 0 {
			return removed, err
		}
	}
}

func removeStructureOnly(ctx context.Context, tx pgx.Tx, ids []fsm.WorkflowID) (int64, error) {
	return 0, removeStructure(ctx, tx, ids)
}

// removeEnded locks ended graphs a few at a time and removes them.
func (s *Store) removeEnded(ctx context.Context, span db.DayPinnedParams, remove func(context.Context, pgx.Tx, []fsm.WorkflowID) (int64, error)) (removed int64, err error) {
	for {
		more := false
		err := pgx.BeginFunc(ctx, s.main, func(tx pgx.Tx) error {
			ids, err := db.New(tx).TakeEndedWorkflows(ctx, db.TakeEndedWorkflowsParams{
				First: span.First, Last: span.Last, Cutoff: span.Cutoff, MaxRows: retainWorkflows,
			})
			if err != nil || len(ids) == 0 {
				return err
			}
			more = true
			n, err := remove(ctx, tx, ids)
			removed += n
			return err
		})
		if err != nil || !more {
			return removed, err
		}
	}
}
