package wire

import (
	"errors"
	"math"
	"strings"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
)

// define gives the rules' view of a node; number is the one of its container.
func define(n *model.NewNode, container dag.ID) dag.Def {
	d := dag.Def{
		Name: n.Name, Batch: container, Join: n.Join, Hold: n.Hold, Cleanup: n.Cleanup,
		Parents: n.Parents, Children: n.Children,
	}
	if n.Batch != nil {
		d.IsBatch, d.Open, d.Tolerance = true, n.Batch.Open, n.Batch.Tolerance
	} else {
		d.Kind = n.Job.Kind
	}
	return d
}

// bounds are the limits of the rules: nodes are counted here already.
func bounds() dag.Limits {
	return dag.Limits{Nodes: math.MaxInt32, NameBytes: maxText}
}

// check asks the rules whether a new graph is sound.
func check(root model.NewBatch, nodes []model.NewNode, edges []dag.Edge) error {
	g := dag.Graph{
		Nodes: make([]dag.Def, len(nodes)), Edges: edges,
		Tolerance: root.Tolerance, Open: root.Open,
	}
	for i := range nodes {
		g.Nodes[i] = define(&nodes[i], nodes[i].Container)
	}
	return unsound(g.Validate(bounds()))
}

// anyNumber stands for the first number that new nodes will take: above all
// numbers of nodes that exist.
const anyNumber = 1 << 30

// checkGrown asks the rules whether the new part of a graph is sound by itself.
func checkGrown(nodes []model.NewNode, edges []dag.Edge) error {
	g := dag.Graph{Nodes: make([]dag.Def, len(nodes)), Edges: edges}
	for i := range nodes {
		g.Nodes[i] = define(&nodes[i], nodes[i].Container)
	}
	_, _, err := g.Grow(dag.Into{Batch: dag.Root, First: anyNumber}, bounds())
	return unsound(err)
}

// unsound words what the rules refuse.
func unsound(err error) error {
	if err == nil {
		return nil
	}
	var said []string
	for line := range strings.Lines(err.Error()) {
		said = append(said, strings.TrimPrefix(strings.TrimSpace(line), dag.ErrInvalid.Error()+": "))
	}
	return &FieldError{Problem: strings.Join(said, "; "), Cause: errors.Join(err)}
}
