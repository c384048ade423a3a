package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
)

// graphPlanner turns a graph into rows while its nodes and edges arrive. It
// keeps the structure, never the arguments.
type graphPlanner struct {
	planner
	structure *dag.Builder
	digest    *digester
	root      model.NewBatch
	batches   []batchRow       // the root first, without their counters
	index     map[dag.ID]int32 // of batches by number
	number    int32            // of the last node
	jobCount  int
}

func (s *Store) newGraphPlanner(sub *model.Submission, now time.Time) (*graphPlanner, error) {
	if err := checkText("name of the workflow", sub.Name, maxNameBytes); err != nil {
		return nil, err
	}
	if len(sub.Headers) > s.config.MaxBody {
		return nil, invalid("headers have %d bytes, the limit is %d", len(sub.Headers), s.config.MaxBody)
	}
	if sub.Root.Priority < 0 || sub.Root.Priority > 4 {
		return nil, invalid("priority of the workflow is %d, must be 1 to 4", sub.Root.Priority)
	}
	return &graphPlanner{
		planner:   planner{s: s, id: sub.ID, now: now},
		structure: dag.NewBuilder(dag.Limits{Nodes: maxNodes}, sub.Root.Tolerance, sub.Root.Open),
		digest:    newDigester(sub),
		root:      sub.Root,
		batches:   []batchRow{{parent: -1, priority: sub.Root.Priority}},
		index:     map[dag.ID]int32{dag.Root: 0},
	}, nil
}

// A graph may hold a million jobs and the batches around them.
const (
	maxJobs  = 1_000_000
	maxNodes = maxJobs + 200_000
)

// node takes the next node. A job gives its row; a batch nil. What is wrong
// with the structure is told by finish.
func (g *graphPlanner) node(n *model.NewNode) (*jobRow, error) {
	g.number++
	g.digest.node(n)
	def := dag.Def{
		Name: n.Name, Batch: n.Container, IsBatch: n.Batch != nil, Join: n.Join, Hold: n.Hold, Cleanup: n.Cleanup,
		Parents: n.Parents, Children: n.Children,
	}
	if n.Batch != nil {
		def.Open, def.Tolerance = n.Batch.Open, n.Batch.Tolerance
	} else {
		def.Kind = n.Job.Kind
	}
	node := g.structure.Add(def)
	var inherited int16
	if i, ok := g.index[n.Container]; ok {
		inherited = g.batches[i].priority
	}
	if n.Batch != nil {
		return nil, g.batch(n, node, inherited)
	}
	if g.jobCount++; g.jobCount > maxJobs {
		return nil, invalid("more than %d jobs", maxJobs)
	}
	released := node.State == dag.Released
	row, err := g.job(g.number, n, int32(n.Container), inherited, released)
	if err != nil {
		return nil, err
	}
	if !released {
		row.need, row.slack = node.Need, node.Slack
	}
	row.join = n.Join
	row.flags |= nodeFlags(&node)
	return &row, nil
}

func (g *graphPlanner) batch(n *model.NewNode, node dag.Node, inherited int16) error {
	if err := checkText("name", n.Name, maxNameBytes); err != nil {
		return fmt.Errorf("%s: %w", nodeText(g.number, n.Name), err)
	}
	if p := n.Batch.Priority; p < 0 || p > 4 {
		return fmt.Errorf("%s: %w", nodeText(g.number, n.Name), invalid("priority is %d, must be 1 to 4", p))
	}
	g.index[dag.ID(g.number)] = int32(len(g.batches))
	g.batches = append(g.batches, batchRow{
		node: g.number, parent: int32(n.Container), need: node.Need, slack: node.Slack, join: n.Join,
		priority: firstPriority(n.Batch.Priority, inherited), name: n.Name,
	})
	return nil
}

// nodeFlags gives the bits that say how a node takes part in its graph.
func nodeFlags(n *dag.Node) int32 {
	var flags int32
	if n.HasChildren {
		flags |= FlagChildren
	}
	if n.Hold {
		flags |= FlagHold
	}
	if n.Cleanup {
		flags |= FlagCleanup
	}
	if n.Open {
		flags |= FlagOpen
	}
	return flags
}

func (g *graphPlanner) edge(e dag.Edge) dag.Edge {
	if e.On == dag.None {
		e.On = dag.Succeeded
	}
	g.digest.edge(e)
	g.structure.Connect(e)
	return e
}

// finish checks the whole structure and completes the plan: the rows of the
// batches, what has to be settled, the digest, the cards.
func (g *graphPlanner) finish(p *plan) error {
	if err := g.structure.Finish(); err != nil {
		return asInvalid(err)
	}
	for _, node := range g.structure.Batches() {
		row := &g.batches[g.index[node.ID]]
		row.lo, row.hi, row.total = int32(node.Lo), int32(node.Hi), node.Total
		row.flags = nodeFlags(&node)
		row.tolerance = node.Tolerance
		row.released = node.State == dag.Released
		if row.released {
			row.flags |= FlagReleased
			row.need, row.slack = 0, 0
			if node.Total == 0 && !node.Open {
				p.settle = append(p.settle, dag.Event{Kind: dag.Settle, Node: node.ID})
			}
		}
	}
	p.batches = g.batches
	p.nodes = g.number
	p.digest = g.digest.finish()
	p.cards = layOut(g.structure)
	return nil
}

// asInvalid marks what package dag says of a graph as the submitter's fault. But
// for cycles the text of dag begins with that word.
func asInvalid(err error) error {
	var cycle *dag.CycleError
	switch {
	case errors.Is(err, model.ErrInvalid):
		return err
	case errors.Is(err, dag.ErrInvalid) && !errors.As(err, &cycle):
		return ruled{model.ErrInvalid, err}
	}
	return fmt.Errorf("%w: %w", model.ErrInvalid, err)
}

// planGraph plans a submission whose edges are at hand: it counts them itself.
func (s *Store) planGraph(sub *model.Submission, now time.Time) (*plan, error) {
	g, err := s.newGraphPlanner(sub, now)
	if err != nil {
		return nil, err
	}
	p := &plan{id: sub.ID, repeat: sub.Repeat, now: now.UnixMicro(), name: sub.Name, headers: sub.Headers}
	parents, children := degrees(len(sub.Nodes), sub.Edges)
	p.jobs = make([]jobRow, 0, len(sub.Nodes))
	for i := range sub.Nodes {
		n := sub.Nodes[i]
		n.Parents, n.Children = parents[i], children[i]
		row, err := g.node(&n)
		if err != nil {
			return nil, err
		}
		if row == nil {
			continue
		}
		p.jobs = append(p.jobs, *row)
		if row.state == stateReleased {
			p.release(row)
		}
	}
	p.edges = make([]dag.Edge, len(sub.Edges))
	for i, e := range sub.Edges {
		p.edges[i] = g.edge(e)
	}
	if err := g.finish(p); err != nil {
		return nil, err
	}
	p.weight = 1 + len(p.jobs) + len(p.batches) + len(p.edges)
	return p, nil
}

// degrees counts the edges into and out of each node. Ends that do not exist
// are left to the validation.
func degrees(nodes int, edges []dag.Edge) (parents, children []int32) {
	parents, children = make([]int32, nodes), make([]int32, nodes)
	for _, e := range edges {
		if e.Child >= 1 && int(e.Child) <= nodes {
			parents[e.Child-1]++
		}
		if e.Parent >= 1 && int(e.Parent) <= nodes {
			children[e.Parent-1]++
		}
	}
	return parents, children
}
