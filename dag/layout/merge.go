package layout

import "strconv"

// Merge gives a picture of at most limit cards and says in it how far it had to
// go: groups of the same rank and kind in the same box become one, and with
// boxes what is in them; if that is not enough, all of a rank, neighbouring
// ranks too where there are more ranks than cards allowed. The second result
// gives, for each group, the card it is in. A picture that is small enough comes
// back as it is. The places of merged cards are still to be found.
func (p *Picture) Merge(limit int) (*Picture, []int32) {
	limit = max(limit, 1)
	if len(p.Cards) <= limit {
		same := make([]int32, len(p.Cards))
		for i := range same {
			same[i] = int32(i)
		}
		return p, same
	}
	if to, n := p.alike(); n <= limit {
		return p.merge(to, n, ByRankAndKind), to
	}
	to, n := p.ranked(limit)
	return p.merge(to, n, ByRank), to
}

// alike puts cards of the same box, rank and kind together. A box comes before
// what is in it, so that boxes are merged by the time their cards are.
func (p *Picture) alike() (to []int32, n int) {
	type key struct {
		box     int32
		rank    int32
		isBatch bool
		kind    string
	}
	to = make([]int32, len(p.Cards))
	seen := make(map[key]int32)
	for i := range p.Cards {
		c := &p.Cards[i]
		k := key{box: -1, rank: c.Rank, isBatch: c.IsBatch, kind: c.Kind}
		if c.Box >= 0 {
			k.box = to[c.Box]
		}
		at, ok := seen[k]
		if !ok {
			at = int32(n)
			seen[k] = at
			n++
		}
		to[i] = at
	}
	return to, n
}

// ranked puts all cards of a rank together, or of a span of ranks.
func (p *Picture) ranked(limit int) (to []int32, n int) {
	last := int32(0)
	for i := range p.Cards {
		last = max(last, p.Cards[i].Rank)
	}
	span := (last + 1 + int32(limit) - 1) / int32(limit)
	to = make([]int32, len(p.Cards))
	seen := make(map[int32]int32)
	for i := range p.Cards {
		at, ok := seen[p.Cards[i].Rank/span]
		if !ok {
			at = int32(n)
			seen[p.Cards[i].Rank/span] = at
			n++
		}
		to[i] = at
	}
	return to, n
}

// merge makes cards of cards. Ranks are renumbered without gaps by Place.
func (p *Picture) merge(to []int32, n int, how Merged) *Picture {
	m := &Picture{Cards: make([]Card, n), Groups: len(p.Cards), Merged: how}
	groups := make([]int, n)
	for i := range p.Cards {
		c, at := &p.Cards[i], to[i]
		t := &m.Cards[at]
		groups[at]++
		if groups[at] == 1 {
			*t = *c
			t.X, t.Y, t.Width, t.Height = 0, 0, 0, 0
			if how == ByRank {
				t.Box, t.Batch = -1, 0
			} else if c.Box >= 0 {
				t.Box = to[c.Box]
			}
			continue
		}
		t.Node = 0
		t.First, t.Last = min(t.First, c.First), max(t.Last, c.Last)
		t.Size += c.Size
		t.Rank, t.LastRank = min(t.Rank, c.Rank), max(t.LastRank, c.LastRank)
		if t.Kind != c.Kind {
			t.Kind = ""
		}
		t.IsBatch = t.IsBatch && c.IsBatch
	}
	for i := range m.Cards {
		if t := &m.Cards[i]; groups[i] > 1 {
			t.Label = merged(t)
			if how == ByRank {
				t.IsBatch, t.LastRank = false, t.Rank
			}
		}
	}
	m.Edges = regroup(p.Edges, to)
	return m
}

func merged(c *Card) string {
	switch {
	case c.IsBatch:
		return strconv.Itoa(int(c.Size)) + " batches"
	case c.Kind != "":
		return c.Kind
	}
	return strconv.Itoa(int(c.Size)) + " nodes"
}

// regroup sums edges of groups up to edges of merged cards.
func regroup(old []Edge, to []int32) []Edge {
	place := make(map[[2]int32]int)
	var sum []Edge
	for _, e := range old {
		pair := [2]int32{to[e.From], to[e.To]}
		if pair[0] == pair[1] {
			continue
		}
		at, ok := place[pair]
		if !ok {
			at = len(sum)
			place[pair] = at
			sum = append(sum, Edge{From: pair[0], To: pair[1]})
		}
		sum[at].On |= e.On
		sum[at].Size += e.Size
	}
	sortEdges(sum)
	return sum
}
