package store

import (
	"context"
	"errors"
	"testing"

	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// A cluster that does not own the database neither waits for the owner's
// transactions nor ends them.
func TestForeignTakeoverHurtsNobody(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	reign := newReign(t, s)
	tx, err := s.flush.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if err := db.New(tx).Fence(ctx, db.FenceParams{Epoch: int64(reign.Epoch), Timeline: reign.Timeline}); err != nil {
		t.Fatal(err)
	}
	var foreign *ForeignError
	if _, err := s.Takeover(ctx, fsm.WorkflowID{2}, reign.Epoch+1); !errors.As(err, &foreign) || !errors.Is(err, ErrForeign) {
		t.Fatalf("another cluster takes over: %v", err)
	}
	if foreign.Owner != (fsm.WorkflowID{1}) || foreign.Cluster != (fsm.WorkflowID{2}) {
		t.Errorf("refused with %+v", foreign)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Errorf("the owner's transaction: %v", err)
	}
}

// The database is taken from its owner, and from nobody else.
func TestDisown(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	reign := newReign(t, s)
	if done, err := s.Disown(ctx, fsm.WorkflowID{3}); err != nil || done {
		t.Errorf("taken from who does not own it: %v, %v", done, err)
	}
	if _, err := s.Takeover(ctx, fsm.WorkflowID{2}, reign.Epoch+1); !errors.Is(err, ErrForeign) {
		t.Errorf("after that: %v", err)
	}
	if done, err := s.Disown(ctx, fsm.WorkflowID{1}); err != nil || !done {
		t.Errorf("taken from its owner: %v, %v", done, err)
	}
	if floor, err := s.Takeover(ctx, fsm.WorkflowID{2}, reign.Epoch+1); err != nil || floor != 0 {
		t.Errorf("after that: floor %d, %v", floor, err)
	}
	if _, err := s.Takeover(ctx, fsm.WorkflowID{1}, reign.Epoch+2); !errors.Is(err, ErrForeign) {
		t.Errorf("the owner before: %v", err)
	}
}
