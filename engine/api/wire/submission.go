package wire

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// Submission converts one workflow of a unary request, whole. It may change
// the options in s.
func (l Limits) Submission(s *heddlev1.Submission) (model.Submission, error) {
	sub, d, err := l.header(s)
	if err != nil {
		return sub, err
	}
	switch work := s.GetWork().(type) {
	case *heddlev1.Submission_Job:
		return sub, l.lone(s, work.Job, &d, &sub)
	case *heddlev1.Submission_Graph:
		return sub, Within("graph", l.graph(work.Graph, &d, &sub))
	}
	return sub, invalid("", "is neither a job nor a graph")
}

// Decode converts the encoded heddle.v1.Submission that a user's own
// transaction left in the inbox.
func (l Limits) Decode(body []byte) (model.Submission, error) {
	var s heddlev1.Submission
	if err := proto.Unmarshal(body, &s); err != nil {
		return model.Submission{}, invalid("", "is no submission: %v", err)
	}
	return l.Submission(&s)
}

// header converts everything but the work.
func (l Limits) header(s *heddlev1.Submission) (model.Submission, defaults, error) {
	id, err := NewID("id", s.GetId())
	if err != nil {
		return model.Submission{}, defaults{}, err
	}
	sub := model.Submission{ID: id, Name: s.GetName(), Repeat: s.GetRepeat()}
	if err := name("name", s.GetName()); err != nil {
		return sub, defaults{}, err
	}
	d, err := newDefaults(s.GetHeaders())
	if err != nil {
		return sub, d, err
	}
	sub.Headers = d.encoded
	sub.Root, err = batch(s.GetRoot())
	return sub, d, Within("root", err)
}

// lone makes the workflow of a single job.
func (l Limits) lone(s *heddlev1.Submission, spec *heddlev1.JobSpec, d *defaults, sub *model.Submission) error {
	if s.GetName() != "" {
		return invalid("name", "%q is set, but only a graph has a name", s.GetName())
	}
	if proto.Size(s.GetRoot()) > 0 {
		return invalid("root", "is set, but only a graph has options of its own")
	}
	job := new(model.Job)
	if err := l.job(spec, d, job); err != nil {
		return Within("job", err)
	}
	sub.Lone, sub.Headers = true, nil
	sub.Nodes = []model.NewNode{{Job: job}}
	return nil
}

// graph converts the nodes and edges of a new workflow.
func (l Limits) graph(g *heddlev1.Graph, d *defaults, sub *model.Submission) error {
	nodes, s, err := l.nodes(g, d, false)
	if err != nil {
		return err
	}
	edges := make([]dag.Edge, 0, len(g.GetEdges()))
	for i, e := range g.GetEdges() {
		x, err := edge(e, 1, int32(len(nodes)))
		if err != nil {
			return withinItem("edges", i, err)
		}
		x.Parent, x.Child = dag.ID(s.number[x.Parent]), dag.ID(s.number[x.Child])
		edges = append(edges, x)
	}
	for i, spec := range g.GetNodes() {
		for j, p := range spec.GetAfter() {
			x, err := after(p, s, nil)
			if err != nil {
				return withinItem("nodes", i, withinItem("after", j, err))
			}
			x.Child = dag.ID(s.number[i+1])
			edges = append(edges, x)
		}
	}
	for _, x := range edges {
		nodes[x.Parent-1].Children++
		nodes[x.Child-1].Parents++
	}
	if err := check(sub.Root, nodes, edges); err != nil {
		return err
	}
	sub.Nodes, sub.Edges = nodes, edges
	return nil
}

// nodes converts the nodes of a graph into depth-first order. In a grown graph
// their containers are negative.
func (l Limits) nodes(g *heddlev1.Graph, d *defaults, grown bool) ([]model.NewNode, *shape, error) {
	if len(g.GetNodes()) > l.MaxNodes {
		return nil, nil, invalid("nodes", "%d nodes are over the limit of %d", len(g.GetNodes()), l.MaxNodes)
	}
	s, err := arrange(g.GetNodes(), grown)
	if err != nil {
		return nil, nil, err
	}
	nodes := make([]model.NewNode, len(g.GetNodes()))
	jobs := make([]model.Job, len(g.GetNodes()))
	for i, given := range s.order {
		spec := g.GetNodes()[given-1]
		if err := l.node(spec, d, &jobs[i], &nodes[i]); err != nil {
			return nil, nil, withinNode(int(given-1), spec, err)
		}
		container := s.number[s.container[given]]
		if grown {
			container = -container
		}
		nodes[i].Container = dag.ID(container)
	}
	return nodes, s, nil
}

// withinNode is withinItem for a node; it adds the name people gave it.
func withinNode(index int, spec *heddlev1.NodeSpec, err error) error {
	err = withinItem("nodes", index, err)
	var fe *FieldError
	if errors.As(err, &fe) && spec.GetName() != "" && len(spec.GetName()) <= maxText {
		fe.Problem += fmt.Sprintf(" (node %q)", spec.GetName())
	}
	return err
}

// after converts a parent named by its path; the child is filled in by the
// caller. existing finds nodes outside the graph; nil: there are none.
func after(p *heddlev1.ParentRef, s *shape, existing func(path string) (dag.ID, error)) (dag.Edge, error) {
	on, err := conditions(p.GetOn())
	if err != nil {
		return dag.Edge{}, err
	}
	if g, ok := s.paths[p.GetPath()]; ok {
		return dag.Edge{Parent: dag.ID(s.number[g]), On: on}, nil
	}
	if err := needed("path", p.GetPath(), maxPath); err != nil {
		return dag.Edge{}, err
	}
	if existing == nil {
		return dag.Edge{}, invalid("path", "%q names no node of the graph", p.GetPath())
	}
	id, err := existing(p.GetPath())
	if err != nil {
		return dag.Edge{}, err
	}
	if id == dag.Root {
		return dag.Edge{}, invalid("path", "%q is the workflow itself, which no node can wait for", p.GetPath())
	}
	return dag.Edge{Parent: -id, On: on}, nil
}

// maxNumber is the highest number a node can have.
const maxNumber = math.MaxInt32
