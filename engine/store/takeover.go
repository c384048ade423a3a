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
	// owns, as a *ForeignError.
	ErrForeign = errors.New("the database belongs to another cluster")
)

// ForeignError names the cluster that owns the database.
type ForeignError struct {
	Owner   fsm.WorkflowID
	Cluster fsm.WorkflowID // that wanted to take over
}

// Error implements error.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("%v: %s, this one is %s", ErrForeign, e.Owner, e.Cluster)
}

// Unwrap gives ErrForeign.
func (e *ForeignError) Unwrap() error { return ErrForeign }

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

// Disown makes the database nobody's if owner owns it: the cluster that takes
// over next has it, and it is foreign to owner from then on. done tells whether
// it was owner's.
func (s *Store) Disown(ctx context.Context, owner fsm.WorkflowID) (done bool, err error) {
	rows, err := s.fdb.DisownFence(ctx, &owner)
	if err != nil {
		return false, fmt.Errorf("take the database from its owner: %w", err)
	}
	return rows > 0, nil
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
	// A foreign cluster must not wait for the owner's transactions, let alone end
	// them.
	if state, err := q.FenceState(ctx); err != nil {
		return 0, err
	} else if err := notForeign(state, cluster); err != nil {
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
	if err := notForeign(state, cluster); err != nil {
		return 0, err
	}
	if uint64(state.Epoch) >= epoch {
		return uint64(state.Epoch), nil
	}
	if err := q.SetFence(ctx, db.SetFenceParams{Cluster: &cluster, Epoch: int64(epoch)}); err != nil {
		return 0, err
	}
	return 0, commit(ctx, tx)
}

// notForeign refuses a database that another cluster owns.
func notForeign(state db.FenceStateRow, cluster fsm.WorkflowID) error {
	if state.ClusterID != nil && *state.ClusterID != cluster {
		return &ForeignError{Owner: *state.ClusterID, Cluster: cluster}
	}
	return nil
}
