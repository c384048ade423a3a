package layout

import (
	"slices"
	"strconv"

	"github.com/heddle-io/heddle/dag"
)

// rounds bounds the refinement. Every round tells more nodes apart; stopping
// early leaves nodes together whose difference lies further away. Ranks, which
// tell chains apart, are compared from the start.
const rounds = 8

// Group puts the nodes into groups: those of the same batch and kind whose
// parents and children are in the same groups. A batch is always a group of its
// own, in whose box its members' groups stand. The cards have ranks, but no
// places yet.
func Group(s Structure) *Picture {
	out, in := adjacencies(s)
	r := rank(s, &out, &in)
	classes := first(s, &out, &in, &r)
	refine(s, &out, &in, classes)
	return draw(s, classes, &out, &r)
}

// first gives nodes their first class: what they have without looking at their
// neighbours.
func first(s Structure, out, in *adjacency, r *ranks) []int32 {
	n := int32(s.Len() + 1)
	type key struct {
		batch         dag.ID
		kind          int32
		before, after int32 // -1: no edges of its own
	}
	classes := make([]int32, n)
	seen := make(map[key]int32)
	next := int32(1)
	last, lastClass := key{}, int32(0)
	for id := int32(1); id < n; id++ {
		if s.IsBatch(dag.ID(id)) {
			classes[id] = next
			next++
			continue
		}
		k := key{batch: s.Batch(dag.ID(id)), kind: s.Kind(dag.ID(id)), before: -1, after: -1}
		if connected(out, in, id) {
			k.before, k.after = r.before[id], r.after[id]
		}
		if k == last && lastClass != 0 { // members of a batch mostly come alike
			classes[id] = lastClass
			continue
		}
		class, ok := seen[k]
		if !ok {
			class = next
			seen[k] = class
			next++
		}
		classes[id] = class
		last, lastClass = k, class
	}
	return classes
}

func connected(out, in *adjacency, id int32) bool {
	return out.first[id] < out.first[id+1] || in.first[id] < in.first[id+1]
}

// refine splits classes by the classes of parents and children until that makes
// no difference. Only jobs with edges of their own are looked at.
func refine(s Structure, out, in *adjacency, classes []int32) {
	var ids []int32
	for id := int32(1); int(id) < len(classes); id++ {
		if !s.IsBatch(dag.ID(id)) && connected(out, in, id) {
			ids = append(ids, id)
		}
	}
	highest := slices.Max(classes)
	signs := make([]uint64, len(ids))
	seen := make(map[uint64]int32, len(ids)/4)
	taken := make([]bool, highest+1)
	var around []uint64
	for range rounds {
		clear(seen)
		taken = append(taken[:0], make([]bool, highest+1)...)
		for i, id := range ids {
			signs[i], around = sign(classes, out, in, id, around)
		}
		split := false
		for i, id := range ids {
			class, ok := seen[signs[i]]
			if !ok {
				class = classes[id]
				if taken[class] { // someone else of the class keeps its number
					highest++
					class = highest
					split = true
				} else {
					taken[class] = true
				}
				seen[signs[i]] = class
			}
			signs[i] = uint64(class)
		}
		for i, id := range ids {
			classes[id] = int32(signs[i])
		}
		if !split {
			return
		}
	}
}

// sign is a number for a node's class and the set of its neighbours' classes.
func sign(classes []int32, out, in *adjacency, id int32, around []uint64) (uint64, []uint64) {
	around = around[:0]
	for way, a := range [...]*adjacency{out, in} {
		to, on := a.of(id)
		for i, other := range to {
			v := uint64(uint32(classes[other]))<<8 | uint64(on[i])<<1 | uint64(way)
			if n := len(around); n > 0 && around[n-1] == v {
				continue
			}
			around = append(around, v)
		}
	}
	slices.Sort(around)
	h := mix(uint64(uint32(classes[id])))
	var last uint64
	for i, v := range around {
		if i == 0 || v != last {
			h = mix(h ^ v)
		}
		last = v
	}
	return h, around
}

// mix scatters the bits of a number (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// draw makes cards of classes, in the order of their first nodes.
func draw(s Structure, classes []int32, out *adjacency, r *ranks) *Picture {
	n := int32(len(classes))
	p := &Picture{}
	group := make([]int32, slices.Max(classes)+1)
	of := make([]int32, n)
	of[0] = -1
	last := int32(-1)
	for id := int32(1); id < n; id++ {
		node := dag.ID(id)
		g := group[classes[id]] - 1
		if g < 0 {
			g = int32(len(p.Cards))
			group[classes[id]] = g + 1
			batch := s.Batch(node)
			p.Cards = append(p.Cards, Card{
				Batch: batch, Box: of[batch], IsBatch: s.IsBatch(node), Kind: s.KindName(s.Kind(node)),
				Node: node, First: node, Rank: r.before[id], LastRank: r.until[id],
			})
		}
		c := &p.Cards[g]
		c.Size++
		c.Last = node
		of[id] = g
		if g != last {
			p.Los = append(p.Los, node)
			p.Grps = append(p.Grps, g)
			last = g
		}
	}
	for i := range p.Cards {
		c := &p.Cards[i]
		c.Label = label(s, c)
		if c.Size > 1 {
			c.Node = 0
		}
	}
	p.Groups = len(p.Cards)
	p.Edges = edges(out, of)
	return p
}

func label(s Structure, c *Card) string {
	if c.Size == 1 {
		if name := s.Name(c.First); name != "" {
			return name
		}
		if c.IsBatch {
			return "batch " + strconv.Itoa(int(c.First))
		}
	}
	if c.Kind != "" {
		return c.Kind
	}
	return "node " + strconv.Itoa(int(c.First))
}

// edges sums the edges of nodes up to edges of cards.
func edges(out *adjacency, of []int32) []Edge {
	place := make(map[[2]int32]int32)
	var sum []Edge
	var last [2]int32
	at := int32(-1)
	for id := int32(1); int(id) < len(of); id++ {
		to, on := out.of(id)
		for i, c := range to {
			pair := [2]int32{of[id], of[c]}
			if pair[0] == pair[1] {
				continue
			}
			if pair != last || at < 0 {
				var ok bool
				if at, ok = place[pair]; !ok {
					at = int32(len(sum))
					place[pair] = at
					sum = append(sum, Edge{From: pair[0], To: pair[1]})
				}
				last = pair
			}
			sum[at].On |= on[i]
			sum[at].Size++
		}
	}
	sortEdges(sum)
	return sum
}

func sortEdges(edges []Edge) {
	slices.SortFunc(edges, func(a, b Edge) int {
		if a.From != b.From {
			return int(a.From - b.From)
		}
		return int(a.To - b.To)
	})
}
