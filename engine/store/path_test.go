package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// A batch whose last member ends last is on the path behind it; what the batch
// waited for comes before its first.
func TestCriticalPath(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	// 1 first -> 2 batch(3 a -> 4 b, 5 short) -> 6 last; 7 aside
	sub := graphOf([]model.NewNode{
		named("first", job("x")), batch("all"), in(2, named("a", job("x"))), in(2, named("b", job("x"))), in(2, named("short", job("x"))),
		named("last", job("x")), named("aside", job("x")),
	}, dag.Edge{Parent: 1, Child: 2, On: 1}, dag.Edge{Parent: 3, Child: 4, On: 1}, dag.Edge{Parent: 2, Child: 6, On: 1})
	submitOne(t, s, sub)
	path := func() (names []string) {
		resp, err := s.CriticalPath(ctx, sub.ID, &heddlev1.CriticalPathRequest{})
		if err != nil {
			t.Fatal(err)
		}
		last := time.Time{}
		for _, step := range resp.GetSteps() {
			names = append(names, step.GetName())
			if at := step.GetReleasedAt(); at == nil || !step.GetIsBatch() && at.AsTime().Before(last) {
				t.Errorf("step %v was released before what released it", step)
			}
			if !step.GetIsBatch() {
				last = step.GetReleasedAt().AsTime()
			}
		}
		return names
	}
	do := func(node int32) {
		for _, row := range readyOf(t, s, sub.ID) {
			if row.Job.Node == node {
				mustFlush(t, s, reign, finish(row, model.EndSucceeded))
			}
		}
	}
	do(7)
	do(1)
	do(5)
	do(3)
	if got := fmt.Sprint(path()); got != "[first all a b]" {
		t.Errorf("while b is due: %s", got)
	}
	do(4)
	do(6)
	if got := fmt.Sprint(path()); got != "[first a b all last]" {
		t.Errorf("at the end: %s", got)
	}
	alone := lone("mail")
	submitOne(t, s, alone)
	if resp, err := s.CriticalPath(ctx, alone.ID, &heddlev1.CriticalPathRequest{}); err != nil || len(resp.GetSteps()) != 1 || resp.GetSteps()[0].GetKind() != "mail" {
		t.Errorf("lone job: %v, %v", resp, err)
	}
	// The latest of a chain that is longer than an answer.
	var nodes []model.NewNode
	var edges []dag.Edge
	for i := range pathSteps + 50 {
		nodes = append(nodes, job("x"))
		if i > 0 {
			edges = append(edges, dag.Edge{Parent: dag.ID(i), Child: dag.ID(i + 1), On: 1})
		}
	}
	long := graphOf(nodes, edges...)
	submitOne(t, s, long)
	exec(t, s, `UPDATE jobs SET released_by = NULLIF(node - 1, 0), state = 1 WHERE workflow_id = $1`, long.ID)
	exec(t, s, `UPDATE jobs SET run_at = run_at + node * interval '1 us' WHERE workflow_id = $1`, long.ID)
	resp, err := s.CriticalPath(ctx, long.ID, &heddlev1.CriticalPathRequest{})
	if err != nil || len(resp.GetSteps()) != pathSteps || !resp.GetMore() || resp.GetSteps()[pathSteps-1].GetNode() != pathSteps+50 || resp.GetSteps()[0].GetNode() != 51 {
		t.Errorf("long chain: %d steps, more %t, %v", len(resp.GetSteps()), resp.GetMore(), err)
	}
	// Whatever the graph: the path ends, and nothing stands on it twice.
	rng := rand.New(rand.NewPCG(17, 18))
	for range 10 {
		id := played(t, s, reign, rng, dagtest.Shape{Nodes: 40, Edges: 50, Waits: true}, rng.IntN(60))
		resp, err := s.CriticalPath(ctx, id, &heddlev1.CriticalPathRequest{})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[int32]bool{}
		for _, step := range resp.GetSteps() {
			if seen[step.GetNode()] || step.GetGroup() < 0 {
				t.Errorf("step %v", step)
			}
			seen[step.GetNode()] = true
		}
	}
}

// Without batches a lineage is what can be reached along the edges, each way.
func TestLineage(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(19, 20))
	for range 10 {
		n := 5 + rng.IntN(30)
		var nodes []model.NewNode
		var edges []dag.Edge
		have := map[[2]int]bool{}
		for i := range n {
			nodes = append(nodes, job("x"))
			for range rng.IntN(3) {
				if i > 0 {
					if p := rng.IntN(i); !have[[2]int{p, i}] {
						have[[2]int{p, i}] = true
						edges = append(edges, dag.Edge{Parent: dag.ID(p + 1), Child: dag.ID(i + 1), On: 1})
					}
				}
			}
		}
		sub := graphOf(nodes, edges...)
		submitOne(t, s, sub)
		node := int32(1 + rng.IntN(n))
		want := map[int32]int32{node: 0}
		for _, way := range []int32{-1, 1} {
			ring := []int32{node}
			for d := way; len(ring) > 0; d += way {
				var next []int32
				for _, e := range edges {
					from, to := int32(e.Parent), int32(e.Child)
					if way < 0 {
						from, to = to, from
					}
					if _, known := want[to]; slices.Contains(ring, from) && !known {
						want[to] = d
						next = append(next, to)
					}
				}
				ring = next
			}
		}
		resp, err := s.Lineage(ctx, sub.ID, &heddlev1.LineageRequest{Node: node})
		if err != nil {
			t.Fatal(err)
		}
		got := map[int32]int32{}
		x := map[int32]float64{}
		places := map[[2]float64]bool{}
		for _, l := range resp.GetNodes() {
			got[l.GetNode()], x[l.GetNode()] = l.GetDistance(), l.GetX()
			if places[[2]float64{l.GetX(), l.GetY()}] {
				t.Errorf("two nodes at one place: %v", l)
			}
			places[[2]float64{l.GetX(), l.GetY()}] = true
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || resp.GetMore() {
			t.Errorf("of node %d: got %v, want %v", node, got, want)
		}
		links := 0
		for _, e := range edges {
			if _, a := want[int32(e.Parent)]; a {
				if _, b := want[int32(e.Child)]; b {
					links++
				}
			}
		}
		for _, e := range resp.GetEdges() {
			if x[e.GetParent()] >= x[e.GetChild()] {
				t.Errorf("edge %v leads back", e)
			}
		}
		if len(resp.GetEdges()) > links {
			t.Errorf("%d edges, %d in fact", len(resp.GetEdges()), links)
		}
		small, err := s.Lineage(ctx, sub.ID, &heddlev1.LineageRequest{Node: node, Limit: 3})
		if err != nil || len(small.GetNodes()) != min(3, len(want)) || small.GetMore() != (len(want) > 3) {
			t.Errorf("at most 3 of %d: %v, %v", len(want), small, err)
		}
	}
	id := campaign(t, s)
	resp, err := s.Lineage(ctx, id, &heddlev1.LineageRequest{Node: 4})
	if err != nil {
		t.Fatal(err)
	}
	var text string
	for _, n := range resp.GetNodes() {
		text += fmt.Sprintf("%d@%d ", n.GetNode(), n.GetDistance())
	}
	if text != "4@0 3@-1 2@-2 7@2 1@-3 " {
		t.Errorf("through batches: %s%v", text, resp.GetEdges())
	}
	if _, err := s.Lineage(ctx, id, &heddlev1.LineageRequest{Node: 99}); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown node: %v", err)
	}
}

func TestRelatives(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	id := campaign(t, s)
	end(t, s, id, 1, dag.Failed, "")
	of := func(node int32) *heddlev1.JobServiceRelativesResponse {
		resp, err := s.Relatives(ctx, fsm.JobID{Workflow: id, Node: node})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	if r := of(2); len(r.GetBefore()) != 1 || r.GetBefore()[0].GetName() != "letter" || !r.GetBefore()[0].GetDied() || r.GetBefore()[0].GetFired() ||
		len(r.GetAfter()) != 1 || r.GetAfter()[0].GetName() != "report" || r.GetAfter()[0].GetOn() != 7 || r.GetAfter()[0].GetDied() {
		t.Errorf("of the batch: %v", r)
	}
	if r := of(1); len(r.GetAfter()) != 1 || !r.GetAfter()[0].GetDied() || r.GetAfter()[0].GetState() != heddlev1.State_STATE_BLOCKED {
		t.Errorf("of the letter: %v", r)
	}
	exec(t, s, `UPDATE finished_jobs SET flags = COALESCE(flags, 0) | $2 WHERE workflow_id = $1 AND node = 1`, id, FlagHold)
	if r := of(1); r.GetAfter()[0].GetDied() || r.GetAfter()[0].GetFired() {
		t.Errorf("a failed job that holds: %v", r)
	}
	if r := of(4); len(r.GetAround()) != 3 || r.GetAround()[0].GetNode() != 0 || r.GetAround()[1].GetName() != "emails" || r.GetAround()[2].GetName() != "first" {
		t.Errorf("around a mail: %v", r)
	}
	if r := of(1); len(r.GetAround()) != 1 || r.GetAround()[0].GetNode() != 0 {
		t.Errorf("around the letter: %v", r)
	}
	alone := lone("a")
	submitOne(t, s, alone)
	if r, err := s.Relatives(ctx, fsm.JobID{Workflow: alone.ID, Node: 1}); err != nil || len(r.GetAround()) != 0 {
		t.Errorf("around a lone job: %v, %v", r, err)
	}
	var nodes []model.NewNode
	var edges []dag.Edge
	for i := range 130 {
		nodes = append(nodes, job("x"))
		if i > 0 {
			edges = append(edges, dag.Edge{Parent: 1, Child: dag.ID(i + 1), On: 1})
		}
	}
	fan := graphOf(nodes, edges...)
	submitOne(t, s, fan)
	r, err := s.Relatives(ctx, fsm.JobID{Workflow: fan.ID, Node: 1})
	if err != nil || len(r.GetAfter()) != relativesShown || r.GetAfterTotal() != 129 || r.GetBeforeTotal() != 0 {
		t.Errorf("of a fan: %d of %d, %v", len(r.GetAfter()), r.GetAfterTotal(), err)
	}
	if _, err := s.Relatives(ctx, fsm.JobID{Workflow: id, Node: 50}); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown node: %v", err)
	}
}
