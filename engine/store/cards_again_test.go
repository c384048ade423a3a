package store

import (
	"sync"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Who looks at a graph to which was appended sees it as a whole: as it would be
// had it been submitted so.
func TestCardsOfAppendedNodes(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	out := submitOne(t, s, graphOf([]model.NewNode{job("start"), batch("all"), in(2, job("part"))}, dag.Edge{Parent: 1, Child: 2, On: dag.Succeeded}))
	mustFlush(t, s, reign, finish(out.Ready[0], model.EndSucceeded)) // one node is read from the history
	add := func(chunk model.Chunk, batch dag.ID) {
		t.Helper()
		if _, _, _, _, err := s.Append(t.Context(), AppendRequest{ID: out.ID, Batch: batch, Chunk: chunk}); err != nil {
			t.Fatal(err)
		}
	}
	graph := func() *heddlev1.GraphResponse {
		t.Helper()
		g, err := s.Graph(t.Context(), out.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	if n := len(graph().Cards); n != 3 {
		t.Fatalf("%d cards before anything is appended", n)
	}
	add(model.Chunk{Nodes: []model.NewNode{job("part"), job("part")}}, 2)
	add(model.Chunk{Nodes: []model.NewNode{named("last", job("end"))}, Edges: []dag.Edge{{Parent: 2, Child: -1, On: dag.Succeeded}}}, dag.Root)
	// Several look at once.
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := s.Graph(t.Context(), out.ID, 0); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	g := graph()
	byLabel := map[string]*heddlev1.Card{}
	for _, c := range g.Cards {
		byLabel[c.Label] = c
	}
	if len(g.Cards) != 4 || len(g.Edges) != 2 {
		t.Fatalf("cards %v, edges %v", g.Cards, g.Edges)
	}
	if c := byLabel["part"]; c.GetSize() != 3 || c.GetBatch() != 2 || c.GetCounts().GetTotal() != 3 {
		t.Errorf("the batch's members: %v", c)
	}
	if c := byLabel["last"]; c.GetNode() != 6 || c.GetRank() <= byLabel["all"].GetRank() || c.GetState() != heddlev1.State_STATE_BLOCKED {
		t.Errorf("what follows the batch: %v", c)
	}
	if c := byLabel["start"]; c.GetState() != heddlev1.State_STATE_SUCCEEDED {
		t.Errorf("the first: %v", c)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM groups WHERE workflow_id = $1`, out.ID); n != 4 {
		t.Errorf("%d cards are stored", n)
	}
}

// A lone job to which was appended has a picture, too.
func TestCardsOfALoneJobThatGrew(t *testing.T) {
	s := openStore(t)
	out := submitOne(t, s, lone("mail"))
	_, _, _, _, err := s.Append(t.Context(), AppendRequest{
		ID: out.ID, Chunk: model.Chunk{Nodes: []model.NewNode{job("reply")}, Edges: []dag.Edge{{Parent: 1, Child: -1, On: dag.Succeeded}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.Graph(t.Context(), out.ID, 0)
	if err != nil || len(g.Cards) != 2 || len(g.Edges) != 1 || g.Cards[0].Kind != "mail" || g.Cards[1].Kind != "reply" {
		t.Fatalf("%v, %v", g, err)
	}
	// A workflow that is gone leaves no cards behind.
	if err := s.layOutAgain(t.Context(), fsm.WorkflowID{1}, 0); err != nil {
		t.Error(err)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM group_ranges WHERE workflow_id = $1`, fsm.WorkflowID{1}); n != 0 {
		t.Error("cards of nothing are stored")
	}
}
