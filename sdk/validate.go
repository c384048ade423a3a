package heddle

import (
	"errors"

	"github.com/heddle-io/heddle/dag"
)

// check gives all mistakes of the graph at once: those collected while it was
// built, and those that only the whole shows, such as cycles. Sequences are not
// read for it: their jobs have no edges.
func (b *builder) check() error {
	errs := b.errs
	if len(b.nodes) > 0 {
		graph := b.graph()
		if err := graph.Validate(dag.Limits{}); err != nil {
			errs = append(errs[:len(errs):len(errs)], err)
		}
	}
	return errors.Join(errs...)
}

// graph gives the nodes as the rules see them, numbered depth first.
func (b *builder) graph() *dag.Graph {
	numbers := make([]dag.ID, len(b.nodes))
	g := &dag.Graph{Nodes: make([]dag.Def, 0, len(b.nodes))}
	var walk func(items []item, container dag.ID)
	walk = func(items []item, container dag.ID) {
		for _, it := range items {
			n := it.node
			if n == nil {
				continue
			}
			def := dag.Def{Batch: container, IsBatch: n.group != nil, Hold: n.hold, Cleanup: n.cleanup}
			if def.IsBatch {
				def.Open = n.batch.Open
			} else {
				def.Kind = n.job.kind
			}
			// Faults of names are known already.
			if n.in.names[n.name] == n && checkName("name", n.name) == nil {
				def.Name = n.name
			}
			if n.join == joinAny || n.join == joinAtLeast {
				if def.Join = int32(n.k); n.waitsForExisting() {
					def.Join = 0 // the rules see only part of its edges here
				}
			}
			g.Nodes = append(g.Nodes, def)
			numbers[n.index] = dag.ID(len(g.Nodes))
			if n.group != nil {
				walk(n.group.items, numbers[n.index])
			}
		}
	}
	if len(b.nodes) > 0 {
		walk(b.top().items, dag.Root)
	}
	for _, n := range b.nodes {
		for _, p := range n.parents {
			if p.node != nil {
				g.Edges = append(g.Edges, dag.Edge{Parent: numbers[p.node.index], Child: numbers[n.index], On: p.on})
			}
		}
	}
	return g
}

// top is the group at the top of the graph.
func (b *builder) top() *Group {
	g := b.nodes[0].in
	for g.node != nil {
		g = g.node.in
	}
	return g
}

func (n *Node) waitsForExisting() bool {
	for _, p := range n.parents {
		if p.node == nil {
			return true
		}
	}
	return false
}
