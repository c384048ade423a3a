package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// waitingCounted bounds the count of a queue's waiting jobs.
const waitingCounted = 10_000

// Queues lists every queue a job was ever submitted to, with what waits in it;
// leased jobs are still counted as waiting here.
func (s *Store) Queues(ctx context.Context) ([]*heddlev1.Queue, error) {
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	names, err := s.rdb.ListQueues(ctx)
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	queues := make([]*heddlev1.Queue, len(names))
	byName := make(map[string]*heddlev1.Queue, len(names))
	for i, q := range names {
		queues[i] = &heddlev1.Queue{Name: q.Name, Paused: q.Paused}
		byName[q.Name] = queues[i]
	}
	routes, err := s.Routes(ctx)
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	ended, err := s.endedPerSecond(ctx, now)
	if err != nil {
		return nil, err
	}
	for _, route := range routes {
		q := byName[route.Queue]
		if q == nil {
			continue // it came up between the two reads
		}
		q.Rate += ended[route.ID]
		if q.More {
			continue // counted enough
		}
		waiting, err := s.rdb.QueueWaiting(ctx, db.QueueWaitingParams{Route: route.ID, Now: timestampOf(now), MaxRows: waitingCounted})
		if err != nil {
			return nil, fmt.Errorf("jobs of queue %q: %w", route.Queue, err)
		}
		q.Available += waiting.Jobs
		if q.Available >= waitingCounted {
			q.Available, q.More = waitingCounted, true
		}
		if oldest := stamp(waiting.Oldest); oldest != nil && (q.Oldest == nil || oldest.AsTime().Before(q.Oldest.AsTime())) {
			q.Oldest = oldest
		}
	}
	return queues, nil
}

// endedPerSecond is the pace of each route over the last one to two minutes.
func (s *Store) endedPerSecond(ctx context.Context, now time.Time) (map[int32]float64, error) {
	rows, err := s.rdb.EndedByRoute(ctx, timestampOf(now))
	if err != nil {
		return nil, fmt.Errorf("pace of queues: %w", err)
	}
	seconds := now.Sub(now.Truncate(time.Minute).Add(-time.Minute)).Seconds()
	out := make(map[int32]float64, len(rows))
	for _, r := range rows {
		out[r.Route] = float64(r.Jobs) / seconds
	}
	return out, nil
}

// SetQueuePaused stops or resumes the dispatch of a queue, which need not
// exist yet. The leader's dispatcher is told by its caller.
func (s *Store) SetQueuePaused(ctx context.Context, queue string, paused bool) error {
	if queue == "" {
		return invalid("queue is empty")
	}
	if err := checkText("queue", queue, maxNameBytes); err != nil {
		return err
	}
	err := pgx.BeginFunc(ctx, s.main, func(tx pgx.Tx) error {
		q := db.New(tx)
		set, name := q.ResumeQueue, "resume queue"
		if paused {
			set, name = q.PauseQueue, "pause queue"
		}
		if err := set(ctx, queue); err != nil {
			return err
		}
		return audit(ctx, q, name, queue)
	})
	if err != nil {
		return fmt.Errorf("pause queue %q: %w", queue, err)
	}
	return nil
}

// Audit notes what somebody did that belongs to no workflow, or to one that is
// gone: it stands under the nil id, until the retention takes it.
func (s *Store) Audit(ctx context.Context, action, note string) error {
	if err := audit(ctx, s.db, action, note); err != nil {
		return fmt.Errorf("audit of %q: %w", action, err)
	}
	return nil
}

func audit(ctx context.Context, q *db.Queries, action, note string) error {
	return q.AddAudit(ctx, db.AddAuditParams{Action: action, Note: note, Author: access.From(ctx).Name})
}
