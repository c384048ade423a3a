package layout_test

import (
	"fmt"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
	"github.com/heddle-io/heddle/dag/layout"
)

// placed lays a graph out whose nodes are all of different kinds, and gives the
// cards by name.
func placed(t *testing.T, graph string) (*layout.Picture, map[string]layout.Card) {
	t.Helper()
	g, _, err := dagtest.Parse(graph)
	if err != nil {
		t.Fatal(err)
	}
	for i := range g.Nodes {
		g.Nodes[i].Kind = g.Nodes[i].Name
	}
	p := layout.Group(build(t, &g))
	p.Place()
	if err := apart(p); err != nil {
		t.Fatal(err)
	}
	cards := make(map[string]layout.Card)
	for _, c := range p.Cards {
		cards[c.Label] = c
	}
	return p, cards
}

func TestPlacePutsCardsInTheMiddleOfTheirNeighbours(t *testing.T) {
	_, c := placed(t, "a b<a c<a d<a e<b,c,d")
	if c["a"].Y != c["c"].Y || c["e"].Y != c["c"].Y {
		t.Errorf("a is at %v and e at %v, their middle neighbour at %v", c["a"].Y, c["e"].Y, c["c"].Y)
	}
	if over, under := c["c"].Y-c["b"].Y, c["d"].Y-c["c"].Y; over != under || over <= 0 {
		t.Errorf("b is %v above c, d %v below", over, under)
	}
	_, c = placed(t, "a b<a c<a d<b,c")
	if middle := (c["b"].Y + c["c"].Y) / 2; c["a"].Y != c["d"].Y || abs(c["a"].Y-middle) > 1e-9 {
		t.Errorf("a is at %v and d at %v, the middle between at %v", c["a"].Y, c["d"].Y, middle)
	}
}

func TestPlaceKeepsChainsStraight(t *testing.T) {
	p, _ := placed(t, "s a<s b<a c<b d<c  e<s f<e  g<s h<g i<h j<i  k<s l<k m<l  z<d,f,j,m")
	for _, e := range p.Edges {
		from, to := p.Cards[e.From], p.Cards[e.To]
		if from.Label != "s" && to.Label != "z" && from.Y != to.Y {
			t.Errorf("%s at %v and %s at %v are not in one row", from.Label, from.Y, to.Label, to.Y)
		}
	}
}

// TestPlaceUntangles orders rows although everything descends from one card
// and leads to another, which says nothing about the order.
func TestPlaceUntangles(t *testing.T) {
	for _, graph := range []string{
		"s a<s b<s c<s d<s  h<d i<c j<b k<a  z<h,i,j,k",
		"s a<s b<s c<s d<s  h<b i<d j<a k<c  l<k m<h n<j o<i  z<l,m,n,o",
	} {
		p, _ := placed(t, graph)
		if n := crossings(p); n != 0 {
			t.Errorf("%s: %d crossings", graph, n)
		}
	}
}

// crossings counts edges between the same two columns that cross.
func crossings(p *layout.Picture) int {
	n := 0
	for i, a := range p.Edges {
		for _, b := range p.Edges[:i] {
			af, at, bf, bt := p.Cards[a.From], p.Cards[a.To], p.Cards[b.From], p.Cards[b.To]
			if af.Rank == bf.Rank && at.Rank == bt.Rank && (af.Y-bf.Y)*(at.Y-bt.Y) < 0 {
				n++
			}
		}
	}
	return n
}

func TestPlaceGivesBoxesRoom(t *testing.T) {
	p, c := placed(t, "a A(B(C(D(m n)) o<C) p<B)<a q<A b<a")
	const least, slip = 0.05, 1e-9
	for _, inner := range p.Cards {
		if inner.Box < 0 {
			continue
		}
		outer := p.Cards[inner.Box]
		left := (inner.X - inner.Width/2) - (outer.X - outer.Width/2)
		right := (outer.X + outer.Width/2) - (inner.X + inner.Width/2)
		if left < least-slip || right < least-slip {
			t.Errorf("%s is %v from the left and %v from the right side of %s", inner.Label, left, right, outer.Label)
		}
	}
	box := c["A"]
	for _, name := range []string{"a", "q"} {
		if gap := abs(c[name].X-box.X) - (c[name].Width+box.Width)/2; gap < 0.2 {
			t.Errorf("%s is %v beside the box", name, gap)
		}
	}
	for _, name := range []string{"m", "o", "p", "b"} {
		if c[name].Width != c["a"].Width {
			t.Errorf("%s is %v wide, a %v", name, c[name].Width, c["a"].Width)
		}
	}
}

// TestPlaceIsStable places the same graph twice: merged pictures are placed
// with every answer, and two answers must agree.
func TestPlaceIsStable(t *testing.T) {
	g := deep(600)
	var last string
	for range 3 {
		p, _ := layout.Group(build(t, &g)).Merge(300)
		p.Place()
		if now := fmt.Sprint(p.Cards); last != "" && now != last {
			t.Fatal("the places differ")
		} else {
			last = now
		}
	}
}

// BenchmarkMesh places 400 cards that all have many edges.
func BenchmarkMesh(b *testing.B) {
	var g dag.Graph
	for column := range 20 {
		for row := range 20 {
			g.Nodes = append(g.Nodes, dag.Def{Kind: fmt.Sprint(row)})
			for parent := range 20 {
				if id := dag.ID(len(g.Nodes)); column > 0 && (parent+row+column)%3 == 0 {
					g.Edges = append(g.Edges, dag.Edge{Parent: dag.ID((column-1)*20 + parent + 1), Child: id, On: dag.Succeeded})
				}
			}
		}
	}
	p := layout.Group(build(b, &g))
	b.ReportAllocs()
	for b.Loop() {
		p.Place()
	}
}
