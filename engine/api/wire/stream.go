package wire

import (
	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// Stream converts a workflow that arrives in parts: nodes first, depth first,
// then edges. It checks each part by itself; whether the whole graph is sound,
// and has the edges that its nodes announce, is for whoever writes it. It keeps
// only counters and the batches that enclose the present place, and is for one
// goroutine.
type Stream struct {
	limits  Limits
	d       defaults
	nesting nesting
	nodes   int
	edges   int
}

// Stream begins with the header, which holds no work.
func (l Limits) Stream(header *heddlev1.Submission) (*Stream, model.Submission, error) {
	sub, d, err := l.header(header)
	if err != nil {
		return nil, sub, err
	}
	if header.GetWork() != nil {
		return nil, sub, invalid("", "has work of its own; in a stream it follows in chunks")
	}
	return &Stream{limits: l, d: d}, sub, nil
}

// Nodes is the number of nodes so far.
func (s *Stream) Nodes() int { return s.nodes }

// Chunk converts the next part. Errors count nodes and edges over the whole
// stream.
func (s *Stream) Chunk(g *heddlev1.Graph) (*model.Chunk, error) {
	nodes, err := s.addNodes(g.GetNodes())
	if err != nil {
		return nil, err
	}
	edges := make([]dag.Edge, len(g.GetEdges()))
	for i, e := range g.GetEdges() {
		if edges[i], err = edge(e, 1, int32(s.nodes)); err != nil {
			return nil, withinItem("edges", s.edges, err)
		}
		s.edges++
	}
	return &model.Chunk{Nodes: nodes, Edges: edges}, nil
}

// addNodes converts the nodes of a chunk.
func (s *Stream) addNodes(specs []*heddlev1.NodeSpec) ([]model.NewNode, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	if s.edges > 0 {
		return nil, withinItem("nodes", s.nodes, invalid("", "comes after the first edge; all nodes come first"))
	}
	if s.nodes+len(specs) > s.limits.MaxNodes {
		return nil, invalid("nodes", "%d nodes are over the limit of %d", s.nodes+len(specs), s.limits.MaxNodes)
	}
	nodes := make([]model.NewNode, len(specs))
	jobs := make([]model.Job, len(specs))
	for i, spec := range specs {
		if err := s.addNode(spec, &jobs[i], &nodes[i]); err != nil {
			return nil, withinNode(s.nodes, spec, err)
		}
		s.nodes++
	}
	return nodes, nil
}

// addNode converts one node and its place.
func (s *Stream) addNode(spec *heddlev1.NodeSpec, job *model.Job, out *model.NewNode) error {
	if spec.GetIn() != "" {
		return invalid("in", "%q is set; a stream names containers by number", clip(spec.GetIn()))
	}
	if len(spec.GetAfter()) > 0 {
		return invalid("after", "is set; a stream names parents by number, in edges")
	}
	if spec.GetParents() < 0 {
		return invalid("parents", "%d is negative", spec.GetParents())
	}
	if spec.GetChildren() < 0 {
		return invalid("children", "%d is negative", spec.GetChildren())
	}
	number, container := int32(s.nodes+1), spec.GetContainer()
	if container < 0 || container >= number || !s.nesting.enter(number, container, spec.GetBatch() != nil) {
		return misplaced(container)
	}
	if err := s.limits.node(spec, &s.d, job, out); err != nil {
		return err
	}
	out.Container, out.Parents, out.Children = dag.ID(container), spec.GetParents(), spec.GetChildren()
	return nil
}
