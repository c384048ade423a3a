package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/engine/store"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// schedStore gives the scheduler its view of the store. It notes the timeline
// under which each reign has taken over, and reads the database's clock off
// what the scheduler loads.
type schedStore struct {
	store   *store.Store
	clock   *dbClock
	reign   atomic.Pointer[model.Reign]
	foreign *foreign
}

var _ raftsched.Store = (*schedStore)(nil)

// fenced gives the store's refusal the scheduler's name.
func fenced(err error) error {
	if errors.Is(err, store.ErrFenced) {
		return fmt.Errorf("%w: %w", raftsched.ErrFenced, err)
	}
	return err
}

// Takeover implements raftsched.Store. The timeline is read first: a promotion
// after that fences this reign out, as it must.
func (s *schedStore) Takeover(ctx context.Context, cluster fsm.WorkflowID, epoch uint64) (uint64, error) {
	timeline, err := s.store.Timeline(ctx)
	if err != nil {
		return 0, err
	}
	floor, err := s.store.Takeover(ctx, cluster, epoch)
	for s.foreign.settle(ctx, err) {
		floor, err = s.store.Takeover(ctx, cluster, epoch)
	}
	if err != nil || floor >= epoch {
		return floor, fenced(err)
	}
	s.reign.Store(&model.Reign{Epoch: epoch, Timeline: timeline})
	return 0, nil
}

// Leases implements raftsched.Store.
func (s *schedStore) Leases(ctx context.Context, leases []fsm.Lease) ([]raftsched.LeaseFact, error) {
	facts, err := s.store.Leases(ctx, leases)
	if err != nil {
		return nil, fenced(err)
	}
	out := make([]raftsched.LeaseFact, len(facts))
	for i, f := range facts {
		out[i] = raftsched.LeaseFact{Lease: f.Lease, Held: f.Held, Row: f.Row}
	}
	return out, nil
}

// Routes implements raftsched.Store.
func (s *schedStore) Routes(ctx context.Context) ([]dispatch.Route, error) {
	return s.store.Routes(ctx)
}

// Paused implements raftsched.Store.
func (s *schedStore) Paused(ctx context.Context) ([]string, []fsm.WorkflowID, error) {
	return s.store.Paused(ctx)
}

// Walk implements raftsched.Store.
func (s *schedStore) Walk(ctx context.Context, after dispatch.LanePriority, first bool, perLane, limit int) ([]dispatch.Loaded, bool, error) {
	loaded, more, err := s.store.Walk(ctx, after, first, perLane, limit)
	s.observe(loaded)
	return loaded, more, err
}

// Load implements raftsched.Store.
func (s *schedStore) Load(ctx context.Context, loads []dispatch.Load) ([]dispatch.Loaded, error) {
	loaded, err := s.store.Load(ctx, loads)
	s.observe(loaded)
	return loaded, err
}

func (s *schedStore) observe(loaded []dispatch.Loaded) {
	if len(loaded) > 0 {
		s.clock.observe(loaded[len(loaded)-1].Now)
	}
}

// Lanes implements raftsched.Store.
func (s *schedStore) Lanes(ctx context.Context, after dispatch.LanePriority, first bool, limit int) ([]dispatch.LanePriority, error) {
	return s.store.Lanes(ctx, after, first, limit)
}

// Payloads implements raftsched.Store.
func (s *schedStore) Payloads(ctx context.Context, jobs []fsm.JobID) ([][]byte, error) {
	return s.store.Payloads(ctx, jobs)
}

// ArgsInPayloads implements raftsched.Store.
func (s *schedStore) ArgsInPayloads(flags int32) bool { return s.store.ArgsInPayloads(flags) }
