package dag

import (
	"errors"
	"hash/maphash"
	"strconv"
	"strings"
)

// mistakesReported bounds the joined error of a graph.
const mistakesReported = 20

// Builder checks a graph that arrives node by node, all nodes before all edges,
// and says at once how each node is to be written. It keeps some tens of bytes a
// node, so that a stream of a million needs no Graph in memory.
//
// A Builder belongs to one goroutine.
type Builder struct {
	limits Limits

	// Of nodes 0 (the root) to n.
	batch []int32
	flags []uint8
	join  []int32
	given []int32 // parents, as announced or counted
	kids  []int32 // children, likewise
	names []byte
	ends  []int   // of the name of a node in names
	kind  []int32 // place in kinds

	kinds   []string
	kindsAt map[string]int32

	// Edges.
	parent, child []int32
	on            []Outcome
	outside       []int32 // appended graphs: the children of edges out of older nodes

	open    []int32 // the batch of the next node and those around it, the root first
	batches []Node  // in ascending order, the root first
	place   map[int32]int
	seen    nameSet

	mistakes []error
	left     int // mistakes not reported
}

const (
	builtBatch uint8 = 1 << iota
	builtReleased
	builtMisplaced
)

// NewBuilder begins a graph. Zero limits take the values of DefaultLimits.
func NewBuilder(limits Limits, tolerance Tolerance, open bool) *Builder {
	b := &Builder{limits: limits.withDefaults(), place: make(map[int32]int), open: []int32{0}}
	b.seen.seed = maphash.MakeSeed()
	b.batch = append(b.batch, int32(NoBatch))
	b.flags = append(b.flags, builtBatch|builtReleased)
	b.join = append(b.join, 0)
	b.given = append(b.given, 0)
	b.kids = append(b.kids, 0)
	b.ends = append(b.ends, 0)
	b.kinds, b.kindsAt = []string{""}, map[string]int32{"": 0}
	b.kind = append(b.kind, 0)
	b.batches = append(b.batches, Node{
		ID: Root, Batch: NoBatch, IsBatch: true, Open: open, Tolerance: tolerance,
		State: Released, Released: true, Lo: 1, Hi: 0,
	})
	b.place[0] = 0
	b.checkTolerance(0, tolerance)
	return b
}

// newBuilder counts the edges of a graph, so that its nodes can be added.
func newBuilder(g *Graph) *Builder {
	b := NewBuilder(Limits{}, g.Tolerance, g.Open)
	n := len(g.Nodes)
	b.batch = append(make([]int32, 0, n+1), b.batch...)
	b.flags = append(make([]uint8, 0, n+1), b.flags...)
	b.join = append(make([]int32, 0, n+1), b.join...)
	b.ends = append(make([]int, 0, n+1), b.ends...)
	b.kind = append(make([]int32, 0, n+1), b.kind...)
	b.given = make([]int32, n+1)
	b.kids = make([]int32, n+1)
	b.parent = make([]int32, 0, len(g.Edges))
	b.child = make([]int32, 0, len(g.Edges))
	b.on = make([]Outcome, 0, len(g.Edges))
	for _, e := range g.Edges {
		if e.Child > 0 && int(e.Child) <= n {
			b.given[e.Child]++
		}
		if e.Parent > 0 && int(e.Parent) <= n {
			b.kids[e.Parent]++
		}
	}
	return b
}

// Add takes the next node in depth-first order, numbers it, and gives it as it
// is to be written, but for the ranges and counters of batches, which are known
// after the last node (Batches). Mistakes are kept for Finish.
func (b *Builder) Add(def Def) Node {
	if !b.room(len(b.batch)) {
		return Node{}
	}
	b.given = append(b.given, def.Parents)
	b.kids = append(b.kids, def.Children)
	return b.add(&def)
}

func (b *Builder) room(nodes int) bool {
	if nodes <= b.limits.Nodes {
		return true
	}
	if b.left == 0 && len(b.mistakes) == 0 {
		b.mistake("the graph has more than %d nodes", b.limits.Nodes)
	}
	return false
}

func (b *Builder) roomForEdges(edges int) bool {
	if edges <= b.limits.Edges {
		return true
	}
	if b.left == 0 && len(b.mistakes) == 0 {
		b.mistake("the graph has more than %d edges", b.limits.Edges)
	}
	return false
}

func (b *Builder) add(def *Def) Node {
	id := int32(len(b.batch))
	b.batch = append(b.batch, int32(def.Batch))
	b.join = append(b.join, def.Join)
	b.names = append(b.names, def.Name...)
	b.ends = append(b.ends, len(b.names))
	b.kind = append(b.kind, b.intern(def.Kind))
	b.flags = append(b.flags, 0)

	b.checkName(id, def.Name)
	b.enter(id, int32(def.Batch))
	parents, children := b.given[id], b.kids[id]
	if def.Join < 0 || def.Join > parents {
		b.mistake("%s is to start after %d of %d parents", b.node(id), def.Join, parents)
	}

	n := Node{
		ID: ID(id), Batch: ID(b.batch[id]), IsBatch: def.IsBatch,
		Hold: def.Hold, Cleanup: def.Cleanup,
		Join: def.Join, HasChildren: children > 0,
	}
	n.Need = n.required(parents)
	n.Slack = parents - n.Need
	if parents == 0 && b.flags[b.batch[id]]&builtReleased != 0 {
		n.State, n.Released = Released, true
		b.flags[id] |= builtReleased
	}
	at := b.place[b.batch[id]]
	b.batches[at].Total++
	if def.IsBatch {
		n.Open, n.Tolerance = def.Open, def.Tolerance
		n.Lo, n.Hi = n.ID+1, n.ID
		b.checkTolerance(id, def.Tolerance)
		b.flags[id] |= builtBatch
		b.place[id] = len(b.batches)
		b.batches = append(b.batches, n)
		b.open = append(b.open, id)
		if len(b.open)-1 > b.limits.Depth {
			b.mistake("%s is nested more than %d deep", b.node(id), b.limits.Depth)
		}
	} else if def.Open || def.Tolerance != (Tolerance{}) {
		b.mistake("%s is a job and cannot be open or have a tolerance", b.node(id))
	}
	return n
}

// enter closes the batches that end before node id. A node that does not lie in
// an open batch is put into the root, so that one mistake does not hide others.
func (b *Builder) enter(id, batch int32) {
	for i := len(b.open) - 1; i >= 0; i-- {
		if b.open[i] == batch {
			for _, closed := range b.open[i+1:] {
				b.batches[b.place[closed]].Hi = ID(id - 1)
			}
			b.open = b.open[:i+1]
			return
		}
	}
	b.batch[id] = 0
	b.flags[id] |= builtMisplaced
	switch {
	case batch < 0 || batch >= id:
		b.mistake("%s names %d as its batch; a batch comes before its members", b.node(id), batch)
	case b.flags[batch]&builtBatch == 0:
		b.mistake("%s names %s as its batch, which is a job", b.node(id), b.node(batch))
	default:
		b.mistake("%s is not in depth-first order: the members of %s must follow it directly", b.node(id), b.node(batch))
	}
	b.enter(id, 0)
}

func (b *Builder) checkName(id int32, name string) {
	switch {
	case name == "":
		return
	case len(name) > b.limits.NameBytes:
		b.mistake("the name of node %d has %d bytes; %d are allowed (%.40q...)", id, len(name), b.limits.NameBytes, name)
	case strings.IndexByte(name, '/') >= 0:
		b.mistake("the name of node %d holds a slash: %q", id, name)
	}
	if twin, ok := b.seen.add(b, id, name); ok {
		b.mistake("nodes %d and %d of %s are both named %q", twin, id, b.scope(b.batch[id]), name)
	}
}

func (b *Builder) scope(batch int32) string {
	if batch <= 0 || int(batch) >= len(b.flags) {
		return "the workflow"
	}
	return b.node(batch)
}

func (b *Builder) checkTolerance(id int32, t Tolerance) {
	switch {
	case t.Count < 0:
		b.mistake("the tolerance of %s is negative: %d", b.node(id), t.Count)
	case !(t.Percent >= 0 && t.Percent <= 100):
		b.mistake("the tolerance of %s is %v percent; 0 to 100 are allowed", b.node(id), t.Percent)
	case t.Count > 0 && t.Percent > 0:
		b.mistake("the tolerance of %s is a count and a percentage; give one", b.node(id))
	}
}

// Connect takes an edge, after the last node.
func (b *Builder) Connect(e Edge) {
	if !b.roomForEdges(len(b.parent) + 1) {
		return
	}
	nodes := int32(len(b.batch))
	p, c := int32(e.Parent), int32(e.Child)
	switch {
	case p < 0 || p >= nodes || c < 0 || c >= nodes:
		b.mistake("there is no node %d (edge from %d to %d)", pick(p < 0 || p >= nodes, p, c), p, c)
		return
	case p == 0:
		b.mistake("the workflow itself cannot be a parent (of %s)", b.node(c))
		return
	case c == 0:
		b.mistake("the workflow itself cannot wait (for %s)", b.node(p))
		return
	case e.On == None || e.On&^Always != 0:
		b.mistake("the edge from %s to %s has the condition %d; it is a sum of 1, 2, 4 and 8", b.node(p), b.node(c), uint8(e.On))
	}
	b.parent = append(b.parent, p)
	b.child = append(b.child, c)
	b.on = append(b.on, e.On)
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// Finish checks what only the whole graph shows: announced edges, doubled
// edges, cycles. It reports up to 20 mistakes joined.
func (b *Builder) Finish() error {
	b.closeRanges()
	out := index(b.parent, b.child, len(b.batch))
	b.checkEdges(out)
	if len(b.mistakes) == 0 {
		if cycle := b.cycle(out); cycle != nil {
			return cycle
		}
		return nil
	}
	if b.left > 0 {
		b.mistakes = append(b.mistakes, invalid("and %d more mistakes", b.left))
		b.left = 0
	}
	return errors.Join(b.mistakes...)
}

// closeRanges gives the batches that are still open their last member.
func (b *Builder) closeRanges() {
	for _, id := range b.open {
		b.batches[b.place[id]].Hi = ID(len(b.batch) - 1)
	}
}

// Batches gives the root and all batches in ascending order, with ranges and
// numbers of members, after the last node.
func (b *Builder) Batches() []Node { return b.batches }

// Empty lists the batches that are released and have no members, in ascending
// order; once written they need a Settle event.
func (b *Builder) Empty() []ID {
	var ids []ID
	for i := range b.batches {
		if n := &b.batches[i]; n.State == Released && n.Total == 0 {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// Len is the number of nodes, the root not counted.
func (b *Builder) Len() int { return len(b.batch) - 1 }

// Batch gives the container of a node.
func (b *Builder) Batch(id ID) ID { return ID(b.batch[id]) }

// IsBatch tells whether a node is a batch.
func (b *Builder) IsBatch(id ID) bool { return b.flags[id]&builtBatch != 0 }

// Name gives the name of a node; empty: none.
func (b *Builder) Name(id ID) string { return string(b.names[b.ends[id-1]:b.ends[id]]) }

// Kind gives a number that is the same for nodes of one kind.
func (b *Builder) Kind(id ID) int32 { return b.kind[id] }

// KindName gives the kind back by its number.
func (b *Builder) KindName(kind int32) string { return b.kinds[kind] }

// NumEdges is the number of edges.
func (b *Builder) NumEdges() int { return len(b.parent) }

// Edge gives the edges by place, in the order in which they came.
func (b *Builder) Edge(i int) Edge {
	return Edge{Parent: ID(b.parent[i]), Child: ID(b.child[i]), On: b.on[i]}
}

func (b *Builder) intern(kind string) int32 {
	n, ok := b.kindsAt[kind]
	if !ok {
		kind = strings.Clone(kind)
		n = int32(len(b.kinds))
		b.kinds = append(b.kinds, kind)
		b.kindsAt[kind] = n
	}
	return n
}

// checkEdges compares the edges with what was announced and finds pairs of
// nodes that have more than one.
func (b *Builder) checkEdges(out adjacency) {
	parents := make([]int32, len(b.batch))
	for _, c := range b.child {
		parents[c]++
	}
	for _, c := range b.outside {
		parents[c]++
	}
	last := make([]int32, len(b.batch)) // the last parent that named a child, plus 1
	for id := int32(1); int(id) < len(b.batch); id++ {
		if parents[id] != b.given[id] {
			b.mistake("%s was announced with %d parents and has %d", b.node(id), b.given[id], parents[id])
		}
		children := out.of(id)
		if int32(len(children)) != b.kids[id] {
			b.mistake("%s was announced with %d children and has %d", b.node(id), b.kids[id], len(children))
		}
		for _, c := range children {
			if last[c] == id+1 {
				b.mistake("two edges from %s to %s; give one edge with both conditions", b.node(id), b.node(c))
			}
			last[c] = id + 1
		}
	}
}

func (b *Builder) mistake(format string, args ...any) {
	if len(b.mistakes) == mistakesReported {
		b.left++
		return
	}
	b.mistakes = append(b.mistakes, invalid(format, args...))
}

// node names a node by its path and number.
func (b *Builder) node(id int32) string {
	if id == 0 {
		return "the workflow"
	}
	word := "job "
	if b.flags[id]&builtBatch != 0 {
		word = "batch "
	}
	if path := b.path(id); path != "" {
		return word + path + " (node " + strconv.Itoa(int(id)) + ")"
	}
	return "node " + strconv.Itoa(int(id))
}

// path joins the names from the outermost batch to the node; nameless nodes are
// given as their numbers. It is empty if the node itself has no name.
func (b *Builder) path(id int32) string {
	if b.name(id) == "" {
		return ""
	}
	var parts []string
	for ; id > 0; id = b.batch[id] {
		part := b.name(id)
		if part == "" {
			part = strconv.Itoa(int(id))
		}
		parts = append(parts, part)
	}
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, "/")
}

func (b *Builder) name(id int32) string {
	if id <= 0 || int(id) >= len(b.ends) {
		return ""
	}
	name := b.names[b.ends[id-1]:b.ends[id]]
	return string(name[:min(len(name), 80)])
}

// nameSet finds names given twice in a batch: a table of node numbers, hashed
// by batch and name.
type nameSet struct {
	seed  maphash.Seed
	table []int32
	used  int
}

func (s *nameSet) hash(batch int32, name []byte) uint64 {
	return maphash.Bytes(s.seed, name) ^ uint64(uint32(batch)+1)*0x9e3779b97f4a7c15
}

// add notes the name of a node, or gives the node that has it already.
func (s *nameSet) add(b *Builder, id int32, name string) (twin int32, ok bool) {
	if s.used*2 >= len(s.table) {
		s.grow(b)
	}
	own := b.names[b.ends[id-1]:b.ends[id]]
	mask := uint64(len(s.table) - 1)
	for at := s.hash(b.batch[id], own) & mask; ; at = (at + 1) & mask {
		other := s.table[at]
		if other == 0 {
			s.table[at] = id
			s.used++
			return 0, false
		}
		if b.batch[other] == b.batch[id] && string(b.names[b.ends[other-1]:b.ends[other]]) == name {
			return other, true
		}
	}
}

func (s *nameSet) grow(b *Builder) {
	old := s.table
	s.table = make([]int32, max(64, 2*len(old)))
	mask := uint64(len(s.table) - 1)
	for _, id := range old {
		if id == 0 {
			continue
		}
		at := s.hash(b.batch[id], b.names[b.ends[id-1]:b.ends[id]]) & mask
		for s.table[at] != 0 {
			at = (at + 1) & mask
		}
		s.table[at] = id
	}
}
