package store

import (
	"context"
	"fmt"
	"time"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// Bounds of counting.
const (
	counted     = 10_000 // beyond, a count says "more"
	streamsRead = 300
	graphsRead  = 20_000 // rows of open jobs, and of batches
	dayBack     = 24 * time.Hour
)

func bounded(n int64) *heddlev1.Count {
	return &heddlev1.Count{N: min(n, counted), More: n > counted}
}

// Totals counts what stands on the page's rail, but for the workers. It takes
// some milliseconds however much there is: every count is bounded. What
// succeeded is left to the statistics.
func (s *Store) Totals(ctx context.Context) (*heddlev1.Totals, error) {
	t, err := s.totals(ctx)
	if err != nil {
		return nil, fmt.Errorf("totals: %w", err)
	}
	return t, nil
}

func (s *Store) totals(ctx context.Context) (*heddlev1.Totals, error) {
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	ready, err := s.rdb.ReadyCounts(ctx, db.ReadyCountsParams{Now: timestampOf(now), MaxRows: counted + 1, MostStreams: streamsRead + 1})
	if err != nil {
		return nil, err
	}
	// After the rows: a job that has started meanwhile is not missing from both.
	running := int64(s.leases().LeaseCount())
	graphs, err := s.rdb.GraphCounts(ctx, db.GraphCountsParams{MaxRows: counted + 1, Rows: graphsRead})
	if err != nil {
		return nil, err
	}
	others, err := s.rdb.OtherCounts(ctx, db.OtherCountsParams{Since: timestampOf(now.Add(-dayBack)), MaxRows: counted + 1})
	if err != nil {
		return nil, err
	}
	t := &heddlev1.Totals{
		Scheduled: bounded(ready.Scheduled), Retryable: bounded(ready.Retryable),
		Running: &heddlev1.Count{N: running}, Blocked: bounded(graphs.Blocked),
		Failed: bounded(others.Failed), Cancelled: bounded(others.Cancelled), Skipped: bounded(others.Skipped), Unresolved: bounded(others.Unresolved),
		Workflows: bounded(graphs.Workflows), Batches: bounded(graphs.Running),
	}
	// Leased jobs are among the due ones. Where those were not all counted, how
	// many of the counted ones are leased is not known.
	if ready.Due > counted {
		t.Available = &heddlev1.Count{N: max(counted-running, 0), More: true}
	} else {
		t.Available = &heddlev1.Count{N: max(ready.Due-running, 0)}
	}
	many := ready.Streams > streamsRead
	later := ready.Scheduled+ready.Retryable > counted
	t.Available.More = t.Available.More || many
	t.Scheduled.More = t.Scheduled.More || many || later
	t.Retryable.More = t.Retryable.More || many || later
	t.Blocked.More = t.Blocked.More || graphs.JobsRead >= graphsRead || graphs.Workflows > counted
	t.Batches.More = t.Batches.More || graphs.BatchesRead >= graphsRead || graphs.Workflows > counted
	queues, err := s.rdb.ListQueues(ctx)
	if err != nil {
		return nil, err
	}
	t.Queues = int32(len(queues))
	for _, q := range queues {
		if q.Paused {
			t.PausedQueues++
		}
	}
	return t, nil
}
