package dag

// Into says where an appended graph goes.
type Into struct {
	Batch ID // the batch it is put into
	First ID // the workflow's next number, which the first new node takes
	// Taken tells whether a direct member of Batch has this name already. Nil:
	// none has.
	Taken func(name string) bool
}

// Grow checks a graph that is to be appended and gives it as an Append event
// takes it. In such a graph the new nodes are -1, -2, ... in order, in Batch and
// in Edges; numbers from 0 are existing nodes, which may only be Into.Batch as a
// container and parents of edges. Whether existing parents lie inside the batch
// is for Decide to judge, which can load them.
func (g *Graph) Grow(into Into, limits Limits) ([]Node, []Edge, error) {
	limits = limits.withDefaults()
	if room := limits.Nodes - int(into.First) + 1; len(g.Nodes) > room {
		return nil, nil, invalid("the workflow would have more than %d nodes", limits.Nodes)
	}
	b := NewBuilder(limits, Tolerance{}, false)
	n := ID(len(g.Nodes))
	b.given = append(b.given, make([]int32, n)...)
	b.kids = append(b.kids, make([]int32, n)...)
	local := func(id ID) ID { // -1, -2, ... to 1, 2, ...; anything else out of range
		if id < 0 && id >= -n {
			return -id
		}
		return n + 1
	}
	for _, e := range g.Edges {
		if c := local(e.Child); c <= n {
			b.given[c]++
		}
		if p := local(e.Parent); p <= n {
			b.kids[p]++
		}
	}
	nodes := make([]Node, 0, n)
	for i := range g.Nodes {
		def := g.Nodes[i]
		if def.Batch == into.Batch {
			def.Batch = Root
			if def.Name != "" && into.Taken != nil && into.Taken(def.Name) {
				b.mistake("batch %d has a member named %q already", into.Batch, def.Name)
			}
		} else {
			if def.Batch >= 0 {
				b.mistake("node %d names batch %d; it may lie in batch %d or in a new batch", i+1, def.Batch, into.Batch)
			}
			def.Batch = local(def.Batch)
		}
		nodes = append(nodes, b.add(&def))
	}
	edges := make([]Edge, len(g.Edges))
	old := make(map[[2]ID]struct{})
	shift := func(id ID) ID { return id + into.First - 1 }
	for i, e := range g.Edges {
		c := local(e.Child)
		if c > n {
			b.mistake("an edge from %d leads to %d; appended edges lead into new nodes only", e.Parent, e.Child)
			continue
		}
		if e.Parent < 0 {
			b.Connect(Edge{Parent: local(e.Parent), Child: c, On: e.On})
			edges[i] = Edge{Parent: shift(local(e.Parent)), Child: shift(c), On: e.On}
			continue
		}
		_, twice := old[[2]ID{e.Parent, e.Child}]
		switch {
		case e.Parent == Root:
			b.mistake("the workflow itself cannot be a parent (of %s)", b.node(int32(c)))
		case e.Parent >= into.First:
			b.mistake("there is no node %d (edge to %s)", e.Parent, b.node(int32(c)))
		case e.On == None || e.On&^Always != 0:
			b.mistake("the edge from node %d to %s has the condition %d; it is a sum of 1, 2, 4 and 8", e.Parent, b.node(int32(c)), uint8(e.On))
		case twice:
			b.mistake("two edges from node %d to %s; give one edge with both conditions", e.Parent, b.node(int32(c)))
		}
		old[[2]ID{e.Parent, e.Child}] = struct{}{}
		b.outside = append(b.outside, int32(c))
		edges[i] = Edge{Parent: e.Parent, Child: shift(c), On: e.On}
	}
	if err := b.Finish(); err != nil {
		return nil, nil, err
	}
	batches := b.Batches()[1:]
	for i := range nodes {
		n := &nodes[i]
		if n.IsBatch {
			*n, batches = batches[0], batches[1:]
			n.Lo, n.Hi = shift(n.Lo), shift(n.Hi)
		}
		n.ID = shift(n.ID)
		if n.Batch == Root {
			n.Batch = into.Batch
		} else {
			n.Batch = shift(n.Batch)
		}
		n.State, n.Released = Blocked, false
	}
	return nodes, edges, nil
}
