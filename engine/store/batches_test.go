package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

func TestBatches(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(21, 22))
	type one struct {
		id    string
		node  int32
		state heddlev1.State
	}
	var all []one
	leases := heldLeases{}
	for range 12 {
		id := played(t, s, reign, rng, dagtest.Shape{Nodes: 25, Edges: 15, Waits: true}, rng.IntN(30))
		for _, l := range s.leases().Leased(id) {
			leases[l.Job] = l
		}
		w, err := s.Workflow(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range w.GetBatches() {
			all = append(all, one{w.GetId(), b.GetNode(), b.GetState()})
		}
	}
	s.ShowLeases(leases)
	slices.SortFunc(all, func(a, b one) int {
		if a.id != b.id {
			return slices.Compare([]byte(b.id), []byte(a.id))
		}
		return int(b.node - a.node)
	})
	for _, states := range [][]heddlev1.State{nil, {heddlev1.State_STATE_RUNNING}, {heddlev1.State_STATE_SUCCEEDED, heddlev1.State_STATE_BLOCKED}, {heddlev1.State_STATE_RUNNING, heddlev1.State_STATE_FAILED}} {
		for _, only := range []string{"", all[0].id} {
			var got, want []string
			for _, b := range all {
				if (states == nil || slices.Contains(states, b.state)) && (only == "" || b.id == only) {
					want = append(want, fmt.Sprint(b.id, b.node))
				}
			}
			req := &heddlev1.BatchServiceListRequest{States: states, WorkflowId: only, PageSize: int32(1 + rng.IntN(9))}
			for {
				page, err := s.Batches(ctx, req)
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range page.GetBatches() {
					got = append(got, fmt.Sprint(b.GetWorkflowId(), b.GetBatch().GetNode()))
					checkBatch(t, s, b)
				}
				if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("states %v of %q:\ngot  %v\nwant %v", states, only, got, want)
			}
		}
	}
	id := campaign(t, s)
	end(t, s, id, 4, dag.Failed, "")
	exec(t, s, `UPDATE batches SET state = 1, started_at = now() - interval '10 s' WHERE workflow_id = $1`, id)
	exec(t, s, `UPDATE jobs SET state = 1 WHERE workflow_id = $1 AND node IN (5, 6)`, id)
	got, err := s.Batch(ctx, id, 2)
	if err != nil || got.GetBatch().GetBatch().GetPath() != "emails" || len(got.GetNested()) != 1 || got.GetNested()[0].GetName() != "first" || len(got.GetBefore()) != 1 ||
		len(got.GetAfter()) != 1 || len(got.GetBlockers()) != 3 || got.GetBlockers()[0].GetNode() != 4 {
		t.Errorf("batch %v, %v", got, err)
	}
	if got, err = s.Batch(ctx, id, 3); err != nil || got.GetBatch().GetBatch().GetPath() != "emails/first" || got.GetRate() == 0 || got.GetLeft() == nil {
		t.Errorf("nested batch %v, %v", got, err)
	}
	if got, err = s.Batch(ctx, id, 0); err != nil || got.GetBatch().GetBatch().GetMembers().GetTotal() != 3 || got.GetBatch().GetBatch().GetMembers().GetRunning() != 1 {
		t.Errorf("root %v, %v", got, err)
	}
	for _, c := range []struct {
		id   fsm.WorkflowID
		node int32
	}{{id, 1}, {newID(), 0}} {
		if _, err := s.Batch(ctx, c.id, c.node); !errors.Is(err, model.ErrNotFound) {
			t.Errorf("no batch %v: %v", c, err)
		}
	}
}

// checkBatch compares a batch of a list with the same by itself: the list may not
// know of some open members.
func checkBatch(t *testing.T, s *Store, listed *heddlev1.BatchOf) {
	t.Helper()
	id, err := parseWorkflowID(listed.GetWorkflowId())
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Batch(context.Background(), id, listed.GetBatch().GetNode())
	if err != nil {
		t.Fatal(err)
	}
	a, b := listed.GetBatch().GetMembers(), got.GetBatch().GetBatch().GetMembers()
	if sum := b.Blocked + b.Scheduled + b.Available + b.Running + b.Retryable + b.Succeeded + b.Failed + b.Cancelled + b.Skipped; sum != b.Total {
		t.Errorf("batch %s/%d counts %d of %d members: %v", id, listed.GetBatch().GetNode(), sum, b.Total, b)
	}
	if a.GetTotal() != b.GetTotal() || a.GetSucceeded() != b.GetSucceeded() || a.GetFailed() != b.GetFailed() || a.GetAvailable() != b.GetAvailable() ||
		a.GetRunning() > b.GetRunning() || a.GetBlocked() > b.GetBlocked() {
		t.Errorf("batch %s/%d: in the list %v, by itself %v", id, listed.GetBatch().GetNode(), a, b)
	}
}
