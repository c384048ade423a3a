package wire

import (
	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// Then converts the graph that a job returned. Its nodes are -1, -2, ... in
// depth-first order; nodes that exist already are named by their number.
func (l Limits) Then(g *heddlev1.Graph) (*model.Chunk, error) {
	return l.Append(g, nil)
}

// Append converts a graph that continues a workflow, as Then. existing finds
// nodes of the workflow by path; nil: they have to be named by number.
func (l Limits) Append(g *heddlev1.Graph, existing func(path string) (dag.ID, error)) (*model.Chunk, error) {
	if len(g.GetNodes()) == 0 {
		return nil, invalid("nodes", "is empty")
	}
	nodes, s, err := l.nodes(g, new(defaults), true)
	if err != nil {
		return nil, err
	}
	edges := make([]dag.Edge, 0, len(g.GetEdges()))
	for i, e := range g.GetEdges() {
		x, err := s.grownEdge(e)
		if err != nil {
			return nil, withinItem("edges", i, err)
		}
		edges = append(edges, x)
	}
	for i, spec := range g.GetNodes() {
		for j, p := range spec.GetAfter() {
			x, err := after(p, s, existing)
			if err != nil {
				return nil, withinItem("nodes", i, withinItem("after", j, err))
			}
			edges = append(edges, dag.Edge{Parent: -x.Parent, Child: dag.ID(-s.number[i+1]), On: x.On})
		}
	}
	for _, x := range edges {
		nodes[-x.Child-1].Parents++
		if x.Parent < 0 {
			nodes[-x.Parent-1].Children++
		}
	}
	if err := checkGrown(nodes, edges); err != nil {
		return nil, err
	}
	return &model.Chunk{Nodes: nodes, Edges: edges}, nil
}

// grownEdge converts an edge into a new node.
func (s *shape) grownEdge(e *heddlev1.Edge) (dag.Edge, error) {
	if c := e.GetChild(); c >= 0 {
		return dag.Edge{}, invalid("child", "%d is not new: edges lead into new nodes only (-1 to -%d)", c, len(s.order))
	}
	x, err := edge(e, -int32(len(s.order)), maxNumber)
	if err != nil {
		return x, err
	}
	x.Child = dag.ID(-s.number[-x.Child])
	if x.Parent < 0 {
		x.Parent = dag.ID(-s.number[-x.Parent])
	}
	return x, nil
}
