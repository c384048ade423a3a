package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

type pgTime = pgtype.Timestamptz

var (
	// ErrFenced is returned by fenced transactions when a newer reign has
	// taken over, or the database was promoted to a new timeline. Nothing was
	// changed.
	ErrFenced = errors.New("fenced by a newer reign")
	// ErrForeign is returned by Takeover of a database that another cluster
	// owns.
	ErrForeign = errors.New("the database belongs to another cluster")
)

// codeFenced is raised by heddle_fence.
const codeFenced = "HD001"

// A takeover waits so long for the transactions of older reigns before it ends
// them, and ends them so often.
const (
	takeoverWait  = 2 * time.Second
	takeoverTries = 5
)

// Timeline is the database's timeline: a promotion raises it.
func (s *Store) Timeline(ctx context.Context) (int32, error) {
	timeline, err := s.fdb.Timeline(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the timeline: %w", err)
	}
	return timeline, nil
}

// Disown makes the database nobody's: the cluster that takes over next owns it,
// and it is foreign to the one that had it before.
func (s *Store) Disown(ctx context.Context) error {
	if err := s.fdb.DisownFence(ctx); err != nil {
		return fmt.Errorf("take the database from its owner: %w", err)
	}
	return nil
}

// Takeover fences out every older reign: it takes the fence's lock
// exclusively, which waits for the transactions under way, checks the cluster
// and that the stored epoch is below epoch, writes it and commits. A database
// that no cluster owns yet is adopted. If the stored epoch is not below, it is
// answered as the floor of the next try, and nothing has changed. Transactions
// that hold the lock for too long are ended. A commit in doubt is
// model.ErrDoubt: the caller takes a higher epoch.
func (s *Store) Takeover(ctx context.Context, cluster fsm.WorkflowID, epoch uint64) (floor uint64, err error) {
	for try := 1; ; try++ {
		floor, err = s.takeover(ctx, cluster, epoch)
		if sqlState(err) != codeLockTimeout || try == takeoverTries {
			break
		}
		ended, endErr := s.fdb.EndFenceHolders(ctx)
		if endErr != nil {
			err = errors.Join(err, endErr)
			break
		}
		s.log.Warn("transactions of an older reign ended", "count", ended, "epoch", epoch)
	}
	if err != nil {
		return 0, fmt.Errorf("take over with epoch %d: %w", epoch, err)
	}
	return floor, nil
}

func (s *Store) takeover(ctx context.Context, cluster fsm.WorkflowID, epoch uint64) (floor uint64, err error) {
	tx, err := s.flush.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return 0, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	q := db.New(tx)
	if err := q.SetLockTimeout(ctx, fmt.Sprintf("%dms", takeoverWait.Milliseconds())); err != nil {
		return 0, err
	}
	key, err := q.FenceKey(ctx)
	if err != nil {
		return 0, err
	}
	if err := q.FenceLock(ctx, key); err != nil {
		return 0, err
	}
	// A statement of its own: its snapshot follows the lock (C9).
	state, err := q.FenceState(ctx)
	if err != nil {
		return 0, err
	}
	if state.ClusterID != nil && *state.ClusterID != cluster {
		return 0, fmt.Errorf("%w: %s, this one is %s", ErrForeign, state.ClusterID, cluster)
	}
	if uint64(state.Epoch) >= epoch {
		return uint64(state.Epoch), nil
	}
	if err := q.SetFence(ctx, db.SetFenceParams{Cluster: &cluster, Epoch: int64(epoch)}); err != nil {
		return 0, err
	}
	return 0, commit(ctx, tx)
}
