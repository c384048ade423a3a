package store

import (
	"context"
	"fmt"

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
	names, err := s.db.ListQueues(ctx)
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
	for _, route := range routes {
		q := byName[route.Queue]
		if q == nil || q.More {
			continue // a queue that came up between the two reads, or one counted enough
		}
		waiting, err := s.fdb.QueueWaiting(ctx, db.QueueWaitingParams{Route: route.ID, Now: timestampOf(now), MaxRows: waitingCounted})
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

// SetQueuePaused stops or resumes the dispatch of a queue, which need not
// exist yet. The leader's dispatcher is told by its caller.
func (s *Store) SetQueuePaused(ctx context.Context, queue string, paused bool) error {
	if queue == "" {
		return invalid("queue is empty")
	}
	if err := checkText("queue", queue, maxNameBytes); err != nil {
		return err
	}
	set := s.db.ResumeQueue
	if paused {
		set = s.db.PauseQueue
	}
	if err := set(ctx, queue); err != nil {
		return fmt.Errorf("pause queue %q: %w", queue, err)
	}
	return nil
}
