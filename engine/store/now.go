package store

import (
	"context"
	"fmt"
	"time"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Now is the database's time, at most a round trip old.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if err := s.readClock(ctx); err != nil {
		return time.Time{}, err
	}
	return s.now(ctx)
}

// Ping answers nil when the database can be reached.
func (s *Store) Ping(ctx context.Context) error { return s.main.Ping(ctx) }

// Cluster is the id of the cluster that owns the database; zero: none yet.
func (s *Store) Cluster(ctx context.Context) (fsm.WorkflowID, error) {
	state, err := s.fdb.FenceState(ctx)
	if err != nil {
		return fsm.WorkflowID{}, fmt.Errorf("read the owner of the database: %w", err)
	}
	if state.ClusterID == nil {
		return fsm.WorkflowID{}, nil
	}
	return *state.ClusterID, nil
}
