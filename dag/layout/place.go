package layout

import (
	"cmp"
	"math"
	"slices"
)

// Extents, in columns and rows.
const (
	cardWidth  = 0.8
	cardHeight = 0.7
	boxMargin  = 0.15 // around what is in a box, per box inside another less
	boxTitle   = 0.35
)

// sweeps is how often rows are put in order by their neighbours.
const sweeps = 8

// Place gives every card a place: its column by rank, its row so that neighbours
// lie close and nothing overlaps. A box spans the columns of what is in it. It
// takes about n log n for n cards, unless very many boxes span very many columns.
func (p *Picture) Place() {
	if len(p.Cards) == 0 {
		return
	}
	l := newPlacer(p)
	l.arrange()
	best, places := l.length(), l.keep()
	for sweep := range sweeps {
		l.wish(sweep%2 == 0)
		l.arrange()
		if length := l.length(); length < best {
			best, places = length, l.keep()
		}
	}
	l.restore(places)
}

// placer holds the boxes as a tree: inside[i+1] lists the cards in box i,
// inside[0] those in none.
type placer struct {
	p      *Picture
	inside [][]int32
	wishes []float64 // the row a card would like, to order by
	around [][]int32 // neighbours along edges
	left   []int32   // first and last column
	right  []int32
	order  []int32 // by column
	nested []int32 // boxes inside a box, one in the other
	top    []float64
}

func newPlacer(p *Picture) *placer {
	n := len(p.Cards)
	l := &placer{
		p: p, inside: make([][]int32, n+1), wishes: make([]float64, n), around: make([][]int32, n),
		left: make([]int32, n), right: make([]int32, n), nested: make([]int32, n), top: make([]float64, n),
	}
	columns := l.columns()
	for i := range p.Cards {
		c := &p.Cards[i]
		l.wishes[i] = float64(i)
		l.left[i], l.right[i] = columns[c.Rank], columns[c.Rank]
		l.inside[c.Box+1] = append(l.inside[c.Box+1], int32(i))
	}
	for i := n - 1; i >= 0; i-- { // what is in a box comes after it
		if box := p.Cards[i].Box; box >= 0 {
			l.left[box] = min(l.left[box], l.left[i])
			l.right[box] = max(l.right[box], l.right[i])
			l.nested[box] = max(l.nested[box], l.nested[i]+1)
		}
	}
	l.order = make([]int32, n)
	for i := range l.order {
		l.order[i] = int32(i)
	}
	slices.SortStableFunc(l.order, func(a, b int32) int { return cmp.Compare(p.Cards[a].Rank, p.Cards[b].Rank) })
	for _, e := range p.Edges {
		l.around[e.From] = append(l.around[e.From], e.To)
		l.around[e.To] = append(l.around[e.To], e.From)
	}
	return l
}

// columns numbers the ranks that occur without gaps.
func (l *placer) columns() map[int32]int32 {
	var used []int32
	columns := make(map[int32]int32)
	for i := range l.p.Cards {
		if r := l.p.Cards[i].Rank; columns[r] == 0 {
			columns[r] = 1
			used = append(used, r)
		}
	}
	slices.Sort(used)
	for i, r := range used {
		columns[r] = int32(i)
	}
	return columns
}

// arrange stacks the cards of every box, from the innermost boxes out, and then
// gives every card its place, from the outermost in.
func (l *placer) arrange() {
	for box := len(l.p.Cards); box >= 0; box-- {
		height := l.stack(l.inside[box])
		if box > 0 {
			c := &l.p.Cards[box-1]
			c.Height = cardHeight
			if len(l.inside[box]) > 0 {
				c.Height = height + boxTitle + boxMargin
			}
		}
	}
	for i := range l.p.Cards {
		c := &l.p.Cards[i]
		top := l.top[i]
		if c.Box >= 0 {
			box := &l.p.Cards[c.Box]
			top += box.Y - box.Height/2 + boxTitle
		}
		margin := 0.0
		if l.nested[i] > 0 {
			margin = boxMargin * (1 - 1/float64(l.nested[i]+1))
		}
		c.X = float64(l.left[i]+l.right[i]) / 2
		c.Width = float64(l.right[i]-l.left[i]) + cardWidth + margin
		c.Y = top + c.Height/2
	}
}

// stack puts cards into the first free rows of their columns, in the order they
// wish for, and gives the height that takes.
func (l *placer) stack(cards []int32) float64 {
	if len(cards) == 0 {
		return 0
	}
	slices.SortStableFunc(cards, func(a, b int32) int { return cmp.Compare(l.wishes[a], l.wishes[b]) })
	from, to := l.left[cards[0]], l.right[cards[0]]
	for _, i := range cards {
		from, to = min(from, l.left[i]), max(to, l.right[i])
	}
	free := make([]float64, to-from+1)
	height := 0.0
	for _, i := range cards {
		span := free[l.left[i]-from : l.right[i]-from+1]
		top := slices.Max(span)
		l.top[i] = top
		bottom := top + l.p.Cards[i].Height + (1 - cardHeight)
		for column := range span {
			span[column] = bottom
		}
		height = max(height, bottom)
	}
	return height - (1 - cardHeight)
}

// wish lets every card wish for the middle row of its neighbours in earlier
// columns, or in later ones, which have wished before it; a box for that of what
// is in it, too.
func (l *placer) wish(earlier bool) {
	n := len(l.p.Cards)
	for i := range n {
		l.wishes[i] = l.p.Cards[i].Y
	}
	sum, count := make([]float64, n), make([]float64, n)
	for step := range n {
		i := l.order[step]
		if !earlier {
			i = l.order[n-1-step]
		}
		for _, other := range l.around[i] {
			if l.before(other, i) == earlier {
				sum[i] += l.wishes[other]
				count[i]++
			}
		}
		if count[i] > 0 {
			l.wishes[i] = sum[i] / count[i]
		}
	}
	for i := n - 1; i >= 0; i-- {
		if count[i] > 0 {
			l.wishes[i] = sum[i] / count[i]
		}
		if box := l.p.Cards[i].Box; box >= 0 {
			sum[box] += sum[i]
			count[box] += count[i]
		}
	}
}

func (l *placer) before(a, b int32) bool { return l.p.Cards[a].Rank < l.p.Cards[b].Rank }

// length is how far the edges reach across rows, all together: it grows with
// crossings and with distance.
func (l *placer) length() float64 {
	sum := 0.0
	for _, e := range l.p.Edges {
		sum += math.Abs(l.p.Cards[e.From].Y - l.p.Cards[e.To].Y)
	}
	return sum
}

type place struct{ x, y, width, height float64 }

func (l *placer) keep() []place {
	places := make([]place, len(l.p.Cards))
	for i := range places {
		c := &l.p.Cards[i]
		places[i] = place{c.X, c.Y, c.Width, c.Height}
	}
	return places
}

func (l *placer) restore(places []place) {
	for i, at := range places {
		c := &l.p.Cards[i]
		c.X, c.Y, c.Width, c.Height = at.x, at.y, at.width, at.height
	}
}
