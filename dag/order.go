package dag

// DepthFirst puts the nodes of a graph written in any order into depth-first
// order, members in the order they were given. It also gives the new number of
// each node by its old one (0 for 0). Batches may come after their members; a
// batch that does not exist or lies in itself is an error.
func DepthFirst(g Graph) (Graph, []ID, error) {
	n := int32(len(g.Nodes))
	batches := make([]int32, n)
	ids := make([]int32, n)
	for i, def := range g.Nodes {
		id := int32(i) + 1
		if def.Batch < 0 || int32(def.Batch) > n || def.Batch > 0 && !g.Nodes[def.Batch-1].IsBatch {
			return Graph{}, nil, invalid("node %d names %d as its batch, which is none", id, def.Batch)
		}
		batches[i], ids[i] = int32(def.Batch), id
	}
	members := index(batches, ids, int(n)+1)

	ordered := Graph{Nodes: make([]Def, 0, n), Tolerance: g.Tolerance, Open: g.Open}
	number := make([]ID, n+1)
	type cursor struct{ rest []int32 }
	stack := []cursor{{members.of(0)}}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(top.rest) == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		id := top.rest[0]
		top.rest = top.rest[1:]
		def := g.Nodes[id-1]
		def.Batch = number[def.Batch]
		ordered.Nodes = append(ordered.Nodes, def)
		number[id] = ID(len(ordered.Nodes))
		if def.IsBatch {
			stack = append(stack, cursor{members.of(id)})
		}
	}
	if len(ordered.Nodes) < int(n) {
		for id := int32(1); id <= n; id++ {
			if number[id] == 0 {
				return Graph{}, nil, invalid("node %d lies in a batch that lies in itself", id)
			}
		}
	}
	ordered.Edges = make([]Edge, len(g.Edges))
	for i, e := range g.Edges {
		if e.Parent < 0 || e.Parent > ID(n) || e.Child < 0 || e.Child > ID(n) {
			return Graph{}, nil, invalid("the edge from %d to %d names a node that does not exist", e.Parent, e.Child)
		}
		ordered.Edges[i] = Edge{Parent: number[e.Parent], Child: number[e.Child], On: e.On}
	}
	return ordered, number, nil
}
