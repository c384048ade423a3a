package layout

import (
	"cmp"
	"math"
	"slices"
)

// Extents, in columns and rows.
const (
	cardWidth  = 0.74
	cardHeight = 0.7
	gap        = 1 - cardHeight // between what stands one above the other
	boxMargin  = 0.15           // below what is in a box
	boxTitle   = 0.35
	boxSide    = 0.06 // left and right of what is in a box
)

// sweeps is how often rows are put in order by their neighbours.
const sweeps = 8

// Place gives every card a place: its column by rank, its row so that neighbours
// lie close, edges run straight where they can and nothing overlaps. A box spans
// the columns of what is in it. It takes about n log n for n cards, unless very
// many boxes span very many columns.
func (p *Picture) Place() {
	if len(p.Cards) == 0 {
		return
	}
	l := newPlacer(p)
	l.arrange()
	best, places := l.length(), l.keep()
	same := 0
	for sweep := range sweeps {
		l.wish(sweep%2 == 0)
		if !l.arrange() {
			if same++; same == 2 { // neither neighbours before nor behind change the order
				break
			}
			continue
		}
		same = 0
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
	order  []int32   // by column
	middle []float64 // of a column
	nested [2][]int32
	top    []float64 // in the box
	column []int32   // the column at hand
	aligner
}

func newPlacer(p *Picture) *placer {
	n := len(p.Cards)
	l := &placer{
		p: p, inside: make([][]int32, n+1), wishes: make([]float64, n), around: make([][]int32, n),
		top: make([]float64, n),
	}
	l.left, l.right = make([]int32, n), make([]int32, n)
	columns, count := l.number()
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
		}
	}
	l.spread(count)
	l.order = make([]int32, n)
	for i := range l.order {
		l.order[i] = int32(i)
	}
	slices.SortStableFunc(l.order, func(a, b int32) int { return cmp.Compare(p.Cards[a].Rank, p.Cards[b].Rank) })
	for _, e := range p.Edges {
		l.around[e.From] = append(l.around[e.From], e.To)
		l.around[e.To] = append(l.around[e.To], e.From)
	}
	l.tie(p)
	return l
}

// number gives numbers to the ranks that occur, without gaps.
func (l *placer) number() (columns map[int32]int32, count int32) {
	var used []int32
	columns = make(map[int32]int32)
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
	return columns, int32(len(used))
}

// spread gives columns their middles: one apart, and further where boxes begin
// or end between them. nested counts, for both sides of a box, the boxes that
// begin or end in the same column, one in the other, itself included.
func (l *placer) spread(count int32) {
	n := len(l.p.Cards)
	begin, end := make([]int32, count), make([]int32, count)
	l.nested = [2][]int32{make([]int32, n), make([]int32, n)}
	holds := make([]bool, n)
	for i := n - 1; i >= 0; i-- {
		if holds[i] {
			l.nested[0][i]++
			l.nested[1][i]++
		}
		begin[l.left[i]] = max(begin[l.left[i]], l.nested[0][i])
		end[l.right[i]] = max(end[l.right[i]], l.nested[1][i])
		box := l.p.Cards[i].Box
		if box < 0 {
			continue
		}
		holds[box] = true
		if l.left[box] == l.left[i] {
			l.nested[0][box] = max(l.nested[0][box], l.nested[0][i])
		}
		if l.right[box] == l.right[i] {
			l.nested[1][box] = max(l.nested[1][box], l.nested[1][i])
		}
	}
	l.middle = make([]float64, count)
	for column := range l.middle {
		l.middle[column] = boxSide * float64(begin[column])
		if column > 0 {
			l.middle[column] += l.middle[column-1] + 1 + boxSide*float64(end[column-1])
		}
	}
}

// arrange stacks the cards of every box, from the innermost boxes out, and then
// gives every card its place, from the outermost in. It tells whether the order
// of cards has changed anywhere.
func (l *placer) arrange() (changed bool) {
	for box := len(l.p.Cards); box >= 0; box-- {
		height, other := l.stack(l.inside[box])
		changed = changed || other
		if len(l.inside[box]) > 1 && len(l.ties[box]) > 0 {
			height = l.align(box, l.inside[box], l.p, l.top)
		}
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
		from := l.middle[l.left[i]] - cardWidth/2 - boxSide*float64(l.nested[0][i])
		to := l.middle[l.right[i]] + cardWidth/2 + boxSide*float64(l.nested[1][i])
		c.X, c.Width = (from+to)/2, to-from
		c.Y = top + c.Height/2
	}
	return changed
}

// stack puts cards into the first free rows of their columns, in the order they
// wish for, and gives the height that takes. It notes for the aligner what came
// to stand in each column.
func (l *placer) stack(cards []int32) (height float64, changed bool) {
	l.above = l.above[:0]
	if len(cards) == 0 {
		return 0, false
	}
	byWish := func(a, b int32) int { return cmp.Compare(l.wishes[a], l.wishes[b]) }
	if !slices.IsSortedFunc(cards, byWish) {
		slices.SortStableFunc(cards, byWish)
		changed = true
	}
	from, to := l.left[cards[0]], l.right[cards[0]]
	for _, i := range cards {
		from, to = min(from, l.left[i]), max(to, l.right[i])
	}
	free := make([]float64, to-from+1)
	l.from = from
	l.columns = append(l.columns[:0], make([][]int32, to-from+1)...)
	for _, i := range cards {
		span := free[l.left[i]-from : l.right[i]-from+1]
		top := slices.Max(span)
		l.top[i] = top
		bottom := top + l.p.Cards[i].Height + gap
		before := int32(-1)
		for column := l.left[i] - from; column <= l.right[i]-from; column++ {
			free[column] = bottom
			above := l.columns[column]
			if n := len(above); n > 0 && above[n-1] != before {
				before = above[n-1]
				l.above = append(l.above, [2]int32{before, i})
			}
			l.columns[column] = append(above, i)
		}
		height = max(height, bottom)
	}
	return height - gap, changed
}

// wish lets every card wish for the middle row of its neighbours in earlier
// columns, or in later ones, which have wished before it; a box for that of what
// is in it, too. Of a column not all can have the same wish: they are moved apart.
func (l *placer) wish(earlier bool) {
	n := len(l.p.Cards)
	for i := range n {
		l.wishes[i] = l.p.Cards[i].Y
	}
	sum, count := make([]float64, n), make([]float64, n)
	for step := 0; step < n; {
		from := step
		rank := l.p.Cards[l.stepAt(from, earlier)].Rank
		for step < n && l.p.Cards[l.stepAt(step, earlier)].Rank == rank {
			i := l.stepAt(step, earlier)
			for _, other := range l.around[i] {
				if l.before(other, i) == earlier {
					sum[i] += l.wishes[other]
					count[i]++
				}
			}
			if count[i] > 0 {
				l.wishes[i] = sum[i] / count[i]
			}
			step++
		}
		l.part(from, step, earlier)
	}
	for i := n - 1; i >= 0; i-- {
		if count[i] > 0 {
			sum[i] = l.wishes[i] * count[i]
		}
		if box := l.p.Cards[i].Box; box >= 0 {
			sum[box] += sum[i]
			count[box] += count[i]
			l.wishes[box] = sum[box] / max(count[box], 1)
			if count[box] == 0 {
				l.wishes[box] = l.p.Cards[box].Y
			}
		}
	}
}

// stepAt gives the cards in the order of their columns, or against it.
func (l *placer) stepAt(step int, earlier bool) int32 {
	if earlier {
		return l.order[step]
	}
	return l.order[len(l.order)-1-step]
}

// part moves wishes of cards of one column, boxes left out, a row apart.
func (l *placer) part(from, to int, earlier bool) {
	column := l.column[:0]
	for step := from; step < to; step++ {
		if i := l.stepAt(step, earlier); len(l.inside[i+1]) == 0 {
			column = append(column, i)
		}
	}
	l.column = column
	slices.SortFunc(column, func(a, b int32) int {
		return cmp.Or(cmp.Compare(l.wishes[a], l.wishes[b]), cmp.Compare(l.p.Cards[a].Y, l.p.Cards[b].Y), cmp.Compare(a, b))
	})
	down, up := math.Inf(-1), math.Inf(1)
	for _, i := range column {
		down = max(down+1, l.wishes[i])
		l.down[i] = down
	}
	for _, i := range slices.Backward(column) {
		up = min(up-1, l.wishes[i])
		l.wishes[i] = (l.down[i] + up) / 2
	}
}

func (l *placer) before(a, b int32) bool { return l.p.Cards[a].Rank < l.p.Cards[b].Rank }

// length is how far the edges reach across rows, all together: it grows with
// crossings and with distance.
func (l *placer) length() float64 {
	sum := 0.0
	for _, e := range l.p.Edges {
		sum += bend(l.p.Cards[e.From].Y - l.p.Cards[e.To].Y)
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
		c.X, c.Y, c.Width, c.Height = round(at.x), round(at.y), round(at.width), round(at.height)
	}
}

// round leaves what the eye can see and an answer has room for.
func round(x float64) float64 { return math.Round(x*1000) / 1000 }
