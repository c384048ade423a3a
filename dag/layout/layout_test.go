package layout_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
	"github.com/heddle-io/heddle/dag/layout"
)

func build(t testing.TB, g *dag.Graph) *dag.Builder {
	t.Helper()
	s, err := g.Build(dag.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// show writes the cards as "label*size@rank", in their boxes.
func show(p *layout.Picture) string {
	var text []string
	for _, c := range p.Cards {
		box := ""
		if c.Box >= 0 {
			box = p.Cards[c.Box].Label + "/"
		}
		text = append(text, fmt.Sprintf("%s%s*%d@%d", box, c.Label, c.Size, c.Rank))
	}
	return strings.Join(text, " ")
}

func TestGroupPutsLikeNodesTogether(t *testing.T) {
	g := dag.Graph{Nodes: []dag.Def{
		{Name: "load", Kind: "load"},
		{Name: "emails", IsBatch: true},
	}}
	g.Edges = append(g.Edges, dag.Edge{Parent: 1, Child: 2, On: dag.Succeeded})
	for range 1000 {
		render := dag.ID(len(g.Nodes) + 1)
		g.Nodes = append(g.Nodes, dag.Def{Kind: "render", Batch: 2}, dag.Def{Kind: "send", Batch: 2})
		g.Edges = append(g.Edges, dag.Edge{Parent: render, Child: render + 1, On: dag.Succeeded})
	}
	g.Nodes = append(g.Nodes, dag.Def{Name: "report", Kind: "report"})
	g.Edges = append(g.Edges, dag.Edge{Parent: 2, Child: dag.ID(len(g.Nodes)), On: dag.Finished})
	p := layout.Group(build(t, &g))
	if got, want := show(p), "load*1@0 emails*1@1 emails/render*1000@1 emails/send*1000@2 report*1@3"; got != want {
		t.Errorf("cards are %s\nnot %s", got, want)
	}
	want := []layout.Edge{{From: 0, To: 1, On: dag.Succeeded, Size: 1}, {From: 1, To: 4, On: dag.Finished, Size: 1}, {From: 2, To: 3, On: dag.Succeeded, Size: 1000}}
	if !slices.Equal(p.Edges, want) {
		t.Errorf("edges are %+v", p.Edges)
	}
	if len(p.Los) != 2003 || p.Grps[0] != 0 || p.Grps[2] != 2 || p.Grps[3] != 3 || p.Grps[2002] != 4 {
		t.Errorf("%d ranges: %v...", len(p.Los), p.Grps[:4])
	}
}

func TestGroupTellsNeighboursApart(t *testing.T) {
	for _, c := range []struct{ graph, cards string }{
		{"a b c", "k*3@0"},
		{"a b c<b", "k*1@0 k*1@0 k*1@1"},
		{"a b<a c d<c", "k*2@0 k*2@1"},
		{"a b<a c d<c:f", "k*1@0 k*1@1 k*1@0 k*1@1"},
		{"a b c<a,b d<a,b", "k*2@0 k*2@1"},
		{"a b<a c<b d e<d f<e", "k*2@0 k*2@1 k*2@2"},
		{"a b<a c<b d e<d", "k*1@0 k*1@1 k*1@2 k*1@0 k*1@1"},
		{"A(a b) B(c d)<A", "A*1@0 A/k*2@0 B*1@1 B/k*2@1"},
	} {
		g, _, err := dagtest.Parse(c.graph)
		if err != nil {
			t.Fatal(err)
		}
		for i := range g.Nodes {
			g.Nodes[i].Kind = "k"
			if !g.Nodes[i].IsBatch {
				g.Nodes[i].Name = ""
			}
		}
		p := layout.Group(build(t, &g))
		if got := show(p); got != c.cards {
			t.Errorf("%s\nis %s\nnot %s", c.graph, got, c.cards)
		}
	}
}

// TestPictures draws random graphs at several limits and checks what must hold
// of every picture.
func TestPictures(t *testing.T) {
	for seed := range uint64(400) {
		source := rand.New(rand.NewPCG(seed, 7))
		g := dagtest.Random(source.IntN, dagtest.Shape{Nodes: 40, Edges: 40})
		s := build(t, &g)
		p := layout.Group(s)
		if err := sound(s, p); err != nil {
			t.Fatalf("seed %d: %v\n%+v", seed, err, g)
		}
		for _, limit := range []int{1, 2, 5, 12, 1000} {
			m, to := p.Merge(limit)
			m.Place()
			if err := merged(p, m, to, limit); err != nil {
				t.Fatalf("seed %d, limit %d: %v\n%+v", seed, limit, err, g)
			}
			if err := apart(m); err != nil {
				t.Fatalf("seed %d, limit %d: %v\n%+v\n%+v", seed, limit, err, g, m.Cards)
			}
		}
	}
}

// sound: the ranges cover every node once, sizes and edges add up, and nodes of
// a card are alike.
func sound(s *dag.Builder, p *layout.Picture) error {
	group := make([]int32, s.Len()+1)
	sizes := make([]int32, len(p.Cards))
	for i, lo := range p.Los {
		hi := dag.ID(s.Len())
		if i+1 < len(p.Los) {
			hi = p.Los[i+1] - 1
			if hi < lo {
				return fmt.Errorf("range %d goes from %d to %d", i, lo, hi)
			}
		}
		for id := lo; id <= hi; id++ {
			group[id] = p.Grps[i]
			sizes[p.Grps[i]]++
			c := p.Cards[p.Grps[i]]
			if s.Batch(id) != c.Batch || s.IsBatch(id) != c.IsBatch || s.KindName(s.Kind(id)) != c.Kind {
				return fmt.Errorf("node %d is in a card of others: %+v", id, c)
			}
			if c.Box >= 0 && (p.Cards[c.Box].Node != c.Batch || c.Box >= p.Grps[i]) {
				return fmt.Errorf("card %+v stands in box %d", c, c.Box)
			}
		}
	}
	for i, c := range p.Cards {
		if c.Size != sizes[i] || c.IsBatch && c.Size != 1 {
			return fmt.Errorf("card %+v holds %d nodes", c, sizes[i])
		}
	}
	total := int32(0)
	for _, e := range p.Edges {
		total += e.Size
		if !p.Cards[e.To].IsBatch && p.Cards[e.From].Rank >= p.Cards[e.To].Rank {
			return fmt.Errorf("edge %+v leads back", e)
		}
	}
	if int(total) != s.NumEdges() {
		return fmt.Errorf("%d edges of %d", total, s.NumEdges())
	}
	return nil
}

// merged: no node is lost, there are no more cards than allowed, and the picture
// says so.
func merged(p, m *layout.Picture, to []int32, limit int) error {
	if len(m.Cards) > limit || (m.Merged == layout.Unmerged) != (len(p.Cards) <= limit) || m.Groups != len(p.Cards) {
		return fmt.Errorf("%d cards of %d merged by %q", len(m.Cards), m.Groups, m.Merged)
	}
	sizes := make([]int32, len(m.Cards))
	for i, c := range p.Cards {
		sizes[to[i]] += c.Size
	}
	for i, c := range m.Cards {
		if c.Size != sizes[i] || c.Box >= int32(i) {
			return fmt.Errorf("card %+v of %d nodes", c, sizes[i])
		}
	}
	return nil
}

// apart: cards of one box do not overlap, and lie in their box.
func apart(p *layout.Picture) error {
	const slip = 1e-9
	for i, a := range p.Cards {
		if a.Width <= 0 || a.Height <= 0 {
			return fmt.Errorf("card %d has no extent", i)
		}
		if a.Box >= 0 {
			box := p.Cards[a.Box]
			if a.X-a.Width/2 < box.X-box.Width/2-slip || a.X+a.Width/2 > box.X+box.Width/2+slip ||
				a.Y-a.Height/2 < box.Y-box.Height/2-slip || a.Y+a.Height/2 > box.Y+box.Height/2+slip {
				return fmt.Errorf("card %d leaves its box", i)
			}
		}
		for j, b := range p.Cards[:i] {
			if a.Box == b.Box && 2*abs(a.X-b.X) < a.Width+b.Width-slip && 2*abs(a.Y-b.Y) < a.Height+b.Height-slip {
				return fmt.Errorf("cards %d and %d overlap", i, j)
			}
		}
	}
	return nil
}

func abs(x float64) float64 { return max(x, -x) }

func TestPlaceFollowsNeighbours(t *testing.T) {
	g, _, err := dagtest.Parse("a b c x<c y<b z<a")
	if err != nil {
		t.Fatal(err)
	}
	p := layout.Group(build(t, &g))
	p.Place()
	for _, e := range p.Edges {
		if from, to := p.Cards[e.From], p.Cards[e.To]; from.Y != to.Y {
			t.Errorf("%s at %v and %s at %v are not in one row", from.Label, from.Y, to.Label, to.Y)
		}
	}
}

// deep is a graph of n nodes that does not collapse: chains of jobs of ten kinds
// in nested batches, one of them after another.
func deep(n int) dag.Graph {
	g := dag.Graph{}
	for len(g.Nodes) < n {
		outer := dag.ID(len(g.Nodes) + 1)
		g.Nodes = append(g.Nodes, dag.Def{IsBatch: true})
		if outer > 1 {
			g.Edges = append(g.Edges, dag.Edge{Parent: 1, Child: outer, On: dag.Succeeded})
		}
		for range 3 {
			inner := dag.ID(len(g.Nodes) + 1)
			g.Nodes = append(g.Nodes, dag.Def{IsBatch: true, Batch: outer})
			for i := range 30 {
				id := dag.ID(len(g.Nodes) + 1)
				g.Nodes = append(g.Nodes, dag.Def{Kind: string(rune('a' + i%10)), Batch: inner})
				if i > 0 {
					g.Edges = append(g.Edges, dag.Edge{Parent: id - 1, Child: id, On: dag.Succeeded})
				}
			}
		}
	}
	return g
}

func benchmark(b *testing.B, g dag.Graph) {
	s := build(b, &g)
	b.ReportAllocs()
	for b.Loop() {
		p, _ := layout.Group(s).Merge(400)
		p.Place()
		if len(p.Cards) > 400 {
			b.Fatal(len(p.Cards))
		}
	}
}

// BenchmarkDeep draws 100,000 nodes that are all different.
func BenchmarkDeep(b *testing.B) { benchmark(b, deep(100_000)) }

// BenchmarkChain draws a chain of 100,000 jobs.
func BenchmarkChain(b *testing.B) {
	g := dag.Graph{Nodes: make([]dag.Def, 100_000)}
	for i := 1; i < len(g.Nodes); i++ {
		g.Edges = append(g.Edges, dag.Edge{Parent: dag.ID(i), Child: dag.ID(i + 1), On: dag.Succeeded})
	}
	benchmark(b, g)
}

// BenchmarkFlat draws a batch of a million like jobs.
func BenchmarkFlat(b *testing.B) {
	g := dag.Graph{Nodes: make([]dag.Def, 1_000_000)}
	g.Nodes[0].IsBatch = true
	for i := range g.Nodes[1:] {
		g.Nodes[i+1] = dag.Def{Kind: "k", Batch: 1}
	}
	benchmark(b, g)
}

// BenchmarkPlace places 2,000 cards.
func BenchmarkPlace(b *testing.B) {
	g := deep(1_860)
	p := layout.Group(build(b, &g))
	b.ReportAllocs()
	for b.Loop() {
		p.Place()
	}
}
