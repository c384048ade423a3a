package engine

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

func has(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestWatchHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		queries, over := 0, map[fsm.WorkflowID]dag.Outcome{}
		h := newWatchHub(slog.New(slog.DiscardHandler), func() bool { return true }, func(_ context.Context, ids []fsm.WorkflowID) (map[fsm.WorkflowID]dag.Outcome, error) {
			mu.Lock()
			defer mu.Unlock()
			queries++
			return maps.Clone(over), nil
		})
		go h.run(ctx)
		defer synctest.Wait()
		defer cancel()

		time.Sleep(time.Hour)
		if queries != 0 {
			t.Fatalf("%d queries while nobody watches", queries)
		}
		a, b := fsm.WorkflowID{1}, fsm.WorkflowID{2}
		first, second, other := h.Subscribe(a), h.Subscribe(a), h.Subscribe(b)
		h.tell([]fsm.WorkflowID{a}, nil)
		if !has(first.Touched) || !has(second.Touched) || has(other.Touched) || has(first.Ended) {
			t.Error("a touch reaches the watchers of its workflow, and them only")
		}
		h.tell(nil, []fsm.WorkflowID{a, a})
		if !has(first.Ended) || !has(first.Touched) || !has(second.Ended) || has(other.Ended) {
			t.Error("an end reaches the watchers of its workflow, and them only")
		}
		first.Stop()
		second.Stop()

		// An end nobody told of is found by one query.
		mu.Lock()
		over[b] = dag.Failed
		mu.Unlock()
		<-other.Ended
		if queries != 1 {
			t.Errorf("%d queries, want 1", queries)
		}
		other.Stop()
		time.Sleep(time.Hour)
		if queries > 2 {
			t.Errorf("%d queries after the last watcher has gone", queries)
		}
		if len(h.subs) != 0 {
			t.Errorf("%d workflows are kept", len(h.subs))
		}
	})
}

// Where another node leads, or none, nothing tells of commits: watchers look by
// themselves, some times a second.
func TestWatchHubOfAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		id := fsm.WorkflowID{1}
		var over atomic.Bool
		h := newWatchHub(slog.New(slog.DiscardHandler), func() bool { return false }, func(_ context.Context, ids []fsm.WorkflowID) (map[fsm.WorkflowID]dag.Outcome, error) {
			if over.Load() {
				return map[fsm.WorkflowID]dag.Outcome{id: dag.Succeeded}, nil
			}
			return nil, nil
		})
		go h.run(ctx)
		defer synctest.Wait()
		defer cancel()
		sub := h.Subscribe(id)
		defer sub.Stop()
		for range 3 {
			began := time.Now()
			<-sub.Touched
			if d := time.Since(began); d > watchAlone {
				t.Errorf("touched after %v", d)
			}
		}
		over.Store(true)
		began := time.Now()
		<-sub.Ended
		if d := time.Since(began); d > watchAlone {
			t.Errorf("ended after %v", d)
		}
	})
}
