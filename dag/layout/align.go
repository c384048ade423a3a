package layout

import (
	"math"
	"slices"
)

// rounds of moving the cards of a box towards their neighbours.
const alignments = 6

// aligner moves what is stacked in a box up and down, its order kept, so that
// edges run straight and a card stands in the middle of its neighbours.
type aligner struct {
	ties        [][]tie   // by box + 1: the edges between what stands in it
	ends        [][]int32 // by card: its ties in its box, by place
	left, right []int32   // by card: its first and last column

	// The box at hand: what stands directly above what, and what is in its
	// columns, of which the first is from, from the top down.
	above   [][2]int32
	columns [][]int32
	from    int32

	// By card: where its top would like to be, and ways to settle that.
	want, down, up, best []float64

	some []float64 // for medians
}

// tie is an edge between two cards of a box or things in them.
type tie struct {
	from, to     int32 // cards of the box; from lies to the left
	first, last  int32 // the ends of the edge, which may lie further in
	above, below float64
}

// tie finds, for every edge, the innermost box that holds both of its ends.
func (a *aligner) tie(p *Picture) {
	n := len(p.Cards)
	a.ties, a.ends = make([][]tie, n+1), make([][]int32, n)
	a.want, a.down, a.up, a.best = make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	depth := make([]int32, n)
	for i := range p.Cards {
		if box := p.Cards[i].Box; box >= 0 {
			depth[i] = depth[box] + 1
		}
	}
	for _, e := range p.Edges {
		from, to := e.From, e.To
		for depth[from] > depth[to] {
			from = p.Cards[from].Box
		}
		for depth[to] > depth[from] {
			to = p.Cards[to].Box
		}
		for p.Cards[from].Box != p.Cards[to].Box {
			from, to = p.Cards[from].Box, p.Cards[to].Box
		}
		if a.left[from] == a.left[to] {
			continue // one is the other, or they stand one above the other
		}
		t := tie{from: from, to: to, first: e.From, last: e.To}
		if a.left[from] > a.left[to] {
			t = tie{from: to, to: from, first: e.To, last: e.From}
		}
		box := p.Cards[from].Box + 1
		at := int32(len(a.ties[box]))
		a.ties[box] = append(a.ties[box], t)
		a.ends[from] = append(a.ends[from], at)
		a.ends[to] = append(a.ends[to], at)
	}
}

// align moves the cards of a box whose contents are in place, and gives the
// height they take.
func (a *aligner) align(box int, cards []int32, p *Picture, top []float64) float64 {
	ties := a.ties[box]
	depthOf := func(end, card int32) float64 {
		y := p.Cards[end].Height / 2
		for ; end != card; end = p.Cards[end].Box {
			y += top[end] + boxTitle
		}
		return y
	}
	for i := range ties {
		t := &ties[i]
		t.above, t.below = depthOf(t.first, t.from), depthOf(t.last, t.to)
	}
	best := math.Inf(1)
	for round := range alignments {
		for _, i := range cards {
			a.want[i] = top[i]
		}
		both := round >= alignments-2
		toLeft, toRight := both || round%2 == 0, both || round%2 == 1
		for step := range a.columns {
			if toLeft {
				a.pass(step, a.left, ties, p, toLeft, toRight)
			} else {
				a.pass(len(a.columns)-1-step, a.right, ties, p, toLeft, toRight)
			}
		}
		a.settle(cards, p, top)
		if length := bends(ties, top); length < best {
			best = length
			for _, i := range cards {
				a.best[i] = top[i]
			}
		}
	}
	highest, lowest := math.Inf(1), math.Inf(-1)
	for _, i := range cards {
		highest = min(highest, a.best[i])
		lowest = max(lowest, a.best[i]+p.Cards[i].Height)
	}
	for _, i := range cards {
		top[i] = a.best[i] - highest
	}
	return lowest - highest
}

// pass moves the cards that begin, or end, in a column, which lie in begins,
// towards their neighbours to the left, to the right, or both.
func (a *aligner) pass(column int, begins []int32, ties []tie, p *Picture, toLeft, toRight bool) {
	cards := a.columns[column]
	for _, i := range cards {
		if begins[i] == a.from+int32(column) {
			a.move(i, ties, toLeft, toRight)
		}
		a.down[i], a.up[i] = a.want[i], a.want[i]
	}
	for at := 1; at < len(cards); at++ {
		over, under := cards[at-1], cards[at]
		a.down[under] = max(a.down[under], a.down[over]+p.Cards[over].Height+gap)
	}
	for at := len(cards) - 1; at > 0; at-- {
		over, under := cards[at-1], cards[at]
		a.up[over] = min(a.up[over], a.up[under]-p.Cards[over].Height-gap)
	}
	for _, i := range cards {
		if begins[i] == a.from+int32(column) {
			a.want[i] = (a.down[i] + a.up[i]) / 2
		}
	}
}

// move lets a card want the median of the places that would make its edges
// straight: those to the left, to the right, or all. Of two in the middle it
// takes the mean; looking both ways it stays where it is between them, lest a
// chain that must bend somewhere bends everywhere.
func (a *aligner) move(i int32, ties []tie, left, right bool) {
	a.some = a.some[:0]
	for _, at := range a.ends[i] {
		t := &ties[at]
		switch {
		case t.to == i && left:
			a.some = append(a.some, a.want[t.from]+t.above-t.below)
		case t.from == i && right:
			a.some = append(a.some, a.want[t.to]+t.below-t.above)
		}
	}
	n := len(a.some)
	if n == 0 {
		return
	}
	slices.Sort(a.some)
	low, high := a.some[(n-1)/2], a.some[n/2]
	if left && right {
		a.want[i] = min(max(a.want[i], low), high)
	} else {
		a.want[i] = (low + high) / 2
	}
}

// settle gives the cards places near those they want where they do not overlap.
// Pushing down what is too close together is such an arrangement, pushing up
// another, and so is the mean of both.
func (a *aligner) settle(cards []int32, p *Picture, top []float64) {
	for _, i := range cards {
		a.down[i], a.up[i] = a.want[i], a.want[i]
	}
	for _, pair := range a.above {
		over, under := pair[0], pair[1]
		a.down[under] = max(a.down[under], a.down[over]+p.Cards[over].Height+gap)
	}
	for _, pair := range slices.Backward(a.above) {
		over, under := pair[0], pair[1]
		a.up[over] = min(a.up[over], a.up[under]-p.Cards[over].Height-gap)
	}
	for _, i := range cards {
		top[i] = (a.down[i] + a.up[i]) / 2
	}
}

// bends sums up how far ties are from being straight.
func bends(ties []tie, top []float64) float64 {
	sum := 0.0
	for i := range ties {
		t := &ties[i]
		sum += bend(top[t.from] + t.above - top[t.to] - t.below)
	}
	return sum
}

// bend weighs a difference of rows: two bends are worse than one of the same
// length.
func bend(rows float64) float64 {
	rows = math.Abs(rows)
	if rows > 0.02 {
		rows += 0.3
	}
	return rows
}
