// Package dagtest runs whole graphs in memory through the rules of package dag.
// It is for tests: of the rules themselves, of stores that must agree with
// them, and of users' workflows. It starts no goroutine; its values belong to
// one goroutine each.
package dagtest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/heddle-io/heddle/dag"
)

// Sim holds all nodes of one graph, applies events through Region.Decide, and
// loads into each region no more than it asks for.
type Sim struct {
	// CascadeLimit is handed to every region; 0: the engine's.
	CascadeLimit int32

	nodes    []dag.Node
	out, in  map[dag.ID][]dag.Edge
	members  map[dag.ID][]dag.ID
	starts   []int
	begun    map[life]int
	cascades []cascade
	rounds   int
}

type life struct {
	node dag.ID
	life int32
}

// cascade is what the engine keeps in a row: members up to cursor are done.
type cascade struct {
	batch  dag.ID
	cursor dag.ID
}

// New begins a graph as a submit does: written, then its empty batches settled.
// The graph should be valid; a cyclic one simply never ends.
func New(g *dag.Graph, cascadeLimit int32) (*Sim, error) {
	nodes, empty := g.Initial()
	s := &Sim{
		CascadeLimit: cascadeLimit,
		nodes:        nodes,
		out:          make(map[dag.ID][]dag.Edge),
		in:           make(map[dag.ID][]dag.Edge),
		members:      make(map[dag.ID][]dag.ID),
		starts:       make([]int, len(nodes)),
		begun:        make(map[life]int),
	}
	for _, n := range nodes {
		if n.Batch != dag.NoBatch {
			s.members[n.Batch] = append(s.members[n.Batch], n.ID)
		}
		if n.Released {
			s.begin(n)
		}
	}
	s.connect(g.Edges)
	events := make([]dag.Event, len(empty))
	for i, id := range empty {
		events[i] = dag.Event{Kind: dag.Settle, Node: id}
	}
	_, err := s.Apply(events...)
	return s, err
}

func (s *Sim) connect(edges []dag.Edge) {
	for _, e := range edges {
		s.out[e.Parent] = append(s.out[e.Parent], e)
		s.in[e.Child] = append(s.in[e.Child], e)
	}
}

func (s *Sim) begin(n dag.Node) {
	s.starts[n.ID]++
	s.begun[life{n.ID, n.Life}]++
}

// Node gives a node; the root is node 0.
func (s *Sim) Node(id dag.ID) dag.Node { return s.nodes[id] }

// Nodes gives all nodes by number. The slice is the simulation's own.
func (s *Sim) Nodes() []dag.Node { return s.nodes }

// In gives the edges into a node.
func (s *Sim) In(id dag.ID) []dag.Edge { return s.in[id] }

// Out gives the edges out of a node.
func (s *Sim) Out(id dag.ID) []dag.Edge { return s.out[id] }

// Members gives the direct members of a batch.
func (s *Sim) Members(id dag.ID) []dag.ID { return s.members[id] }

// Starts is how often a node has been released, over all lives.
func (s *Sim) Starts(id dag.ID) int { return s.starts[id] }

// Rounds is how often regions had to be loaded further, over all events.
func (s *Sim) Rounds() int { return s.rounds }

// Ready lists the released jobs that nobody runs.
func (s *Sim) Ready() []dag.ID {
	return s.jobs(func(n *dag.Node) bool { return n.State == dag.Released && !n.Running })
}

// Running lists the jobs under way.
func (s *Sim) Running() []dag.ID {
	return s.jobs(func(n *dag.Node) bool { return n.State == dag.Released && n.Running })
}

func (s *Sim) jobs(want func(*dag.Node) bool) []dag.ID {
	var ids []dag.ID
	for i := range s.nodes {
		if n := &s.nodes[i]; !n.IsBatch && want(n) {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// Start leases a released job.
func (s *Sim) Start(id dag.ID) error {
	n := &s.nodes[id]
	if n.IsBatch || n.State != dag.Released || n.Running {
		return fmt.Errorf("node %d is not available", id)
	}
	n.Running = true
	return nil
}

// Stop takes the lease of a running job back, uncounted.
func (s *Sim) Stop(id dag.ID) { s.nodes[id].Running = false }

// Apply decides events and carries the changes out.
func (s *Sim) Apply(events ...dag.Event) (dag.Decision, error) {
	decision, err := s.Decide(events...)
	if err != nil {
		return dag.Decision{}, err
	}
	for i, e := range events {
		if e.Kind == dag.Append && !slices.Contains(decision.Dropped, i) {
			s.connect(e.Edges)
		}
	}
	for _, c := range decision.Changes {
		if err := s.change(c); err != nil {
			return dag.Decision{}, err
		}
	}
	return decision, nil
}

// Decide loads and decides, and changes nothing.
func (s *Sim) Decide(events ...dag.Event) (dag.Decision, error) {
	region := dag.NewRegion()
	region.CascadeLimit = s.CascadeLimit
	for {
		decision, err := region.Decide(events...)
		if err != nil || decision.Missing.Empty() {
			return decision, err
		}
		s.rounds++
		if err := s.load(region, decision.Missing); err != nil {
			return dag.Decision{}, err
		}
	}
}

// load puts what a region misses. Asking for a thing twice is a fault of the
// rules that would keep an engine busy for ever.
func (s *Sim) load(region *dag.Region, missing dag.Missing) error {
	put := func(ids []dag.ID) {
		for _, id := range ids {
			region.Put(s.nodes[id])
		}
	}
	for _, id := range missing.Nodes {
		if id < 0 || int(id) >= len(s.nodes) {
			return fmt.Errorf("the rules ask for node %d, which does not exist", id)
		}
		if _, ok := region.Node(id); ok {
			return fmt.Errorf("the rules ask for node %d again", id)
		}
	}
	put(missing.Nodes)
	for _, id := range missing.Out {
		if _, ok := region.Out(id); ok {
			return fmt.Errorf("the rules ask for the edges out of node %d again", id)
		}
		region.PutOut(id, s.out[id])
		for _, e := range s.out[id] {
			region.Put(s.nodes[e.Child])
		}
	}
	for _, id := range missing.In {
		if _, ok := region.In(id); ok {
			return fmt.Errorf("the rules ask for the edges into node %d again", id)
		}
		region.PutIn(id, s.in[id])
		for _, e := range s.in[id] {
			region.Put(s.nodes[e.Parent])
		}
	}
	for _, id := range missing.Members {
		if _, ok := region.Members(id); ok {
			return fmt.Errorf("the rules ask for the members of batch %d again", id)
		}
		region.PutMembers(id, s.members[id])
		put(s.members[id])
	}
	for _, id := range missing.Troubled {
		if _, ok := region.Troubled(id); ok {
			return fmt.Errorf("the rules ask for the troubled members of batch %d again", id)
		}
		var troubled []dag.ID
		for _, m := range s.members[id] {
			if n := s.nodes[m]; n.IsBatch || n.State == dag.Ended && n.Outcome != dag.Succeeded {
				troubled = append(troubled, m)
			}
		}
		region.PutTroubled(id, troubled)
		put(troubled)
	}
	return nil
}

// change carries one change out, and checks that its flags tell a store all it
// has to know.
func (s *Sim) change(c dag.Change) error {
	n := c.Node
	if c.New {
		if int(n.ID) != len(s.nodes) {
			return fmt.Errorf("new node %d should be %d", n.ID, len(s.nodes))
		}
		s.nodes = append(s.nodes, n)
		s.starts = append(s.starts, 0)
		s.members[n.Batch] = append(s.members[n.Batch], n.ID)
	} else {
		was := s.nodes[n.ID]
		switch {
		case was.State == dag.Ended && n.State != dag.Ended && !c.Reset:
			return fmt.Errorf("node %d is open again without a reset", n.ID)
		case was.State == dag.Blocked && n.State == dag.Released && !c.Released:
			return fmt.Errorf("node %d is released without saying so", n.ID)
		case was.State == dag.Ended && n.State == dag.Ended && was.Outcome != n.Outcome && !c.Reset:
			return fmt.Errorf("node %d has another outcome without a reset", n.ID)
		case n.Life < was.Life:
			return fmt.Errorf("node %d goes back to life %d", n.ID, n.Life)
		case was.Cascade != n.Cascade && n.Cascade != dag.NoCascade && !c.Cascade:
			return fmt.Errorf("batch %d has a cascade that was not started", n.ID)
		}
		s.nodes[n.ID] = n
	}
	if c.Released {
		s.begin(n)
	}
	if c.Cascade || n.Cascade == dag.NoCascade {
		s.cascades = slices.DeleteFunc(s.cascades, func(c cascade) bool { return c.batch == n.ID })
	}
	if n.Cascade != dag.NoCascade && c.Cascade {
		s.cascades = append(s.cascades, cascade{batch: n.ID})
	}
	return nil
}

// Append puts a graph into a batch; its new nodes are numbered as in Graph.Grow.
// It gives the number of the first.
func (s *Sim) Append(batch dag.ID, g *dag.Graph, inside bool) (dag.ID, error) {
	first := dag.ID(len(s.nodes))
	nodes, edges, err := g.Grow(dag.Into{Batch: batch, First: first}, dag.Limits{})
	if err != nil {
		return 0, err
	}
	_, err = s.Apply(dag.Event{Kind: dag.Append, Node: batch, New: nodes, Edges: edges, Inside: inside})
	return first, err
}

// Cascades lists the batches with a pending cascade, the oldest first.
func (s *Sim) Cascades() []dag.ID {
	ids := make([]dag.ID, len(s.cascades))
	for i, c := range s.cascades {
		ids[i] = c.batch
	}
	return ids
}

// Step hands the cascade at place i of Cascades down to up to chunk members.
func (s *Sim) Step(i, chunk int) error {
	c := &s.cascades[i]
	members := slices.Clone(s.members[c.batch])
	slices.SortFunc(members, func(a, b dag.ID) int { return cmp.Compare(a, b) })
	members = slices.DeleteFunc(members, func(id dag.ID) bool {
		return id <= c.cursor || s.nodes[id].State == dag.Ended
	})
	last := len(members) <= chunk
	if !last {
		members = members[:chunk]
	}
	if len(members) > 0 {
		c.cursor = members[len(members)-1]
	}
	_, err := s.Apply(dag.Event{Kind: dag.Step, Node: c.batch, Members: members, Last: last})
	return err
}

// ErrEndless: cascades that never come to an end.
var ErrEndless = errors.New("cascades do not end")

// Drain steps until no cascade is pending.
func (s *Sim) Drain(chunk int) error {
	for range 10*len(s.nodes) + 100 {
		if len(s.cascades) == 0 {
			return nil
		}
		if err := s.Step(0, chunk); err != nil {
			return err
		}
	}
	return ErrEndless
}
