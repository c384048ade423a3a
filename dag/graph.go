package dag

// Def describes a node of a graph that is to be submitted or appended.
type Def struct {
	Name    string // unique in its batch; empty: none
	Kind    string // for the layout only
	Batch   ID     // container; Root or a batch with a smaller number
	IsBatch bool

	Join    int32 // k of "at least k of n" edges; 0: all
	Hold    bool
	Cleanup bool

	Open      bool      // batches only
	Tolerance Tolerance // batches only

	// Parents and Children are the numbers of edges into and out of the node,
	// as announced in a stream, in which edges follow all nodes. A Graph, which
	// has its edges at hand, counts them itself and ignores both.
	Parents, Children int32
}

// Graph is the structure of a workflow before it runs. Nodes[i] is number i+1,
// in depth-first order: the members of a batch, nested ones inside, follow it
// directly. The root is only implied; Tolerance and Open are its options.
type Graph struct {
	Nodes []Def
	Edges []Edge

	Tolerance Tolerance
	Open      bool
}

// Limits bound a graph. Zero fields take the values of DefaultLimits.
type Limits struct {
	Nodes     int // jobs and batches
	Edges     int
	Depth     int // batches around a node, the root not counted
	NameBytes int
}

// DefaultLimits are the limits of the engine.
var DefaultLimits = Limits{Nodes: 1_100_000, Edges: 5_000_000, Depth: 100, NameBytes: 200}

func (l Limits) withDefaults() Limits {
	if l.Nodes <= 0 {
		l.Nodes = DefaultLimits.Nodes
	}
	if l.Edges <= 0 {
		l.Edges = DefaultLimits.Edges
	}
	if l.Depth <= 0 {
		l.Depth = DefaultLimits.Depth
	}
	if l.NameBytes <= 0 {
		l.NameBytes = DefaultLimits.NameBytes
	}
	return l
}

// Validate checks everything that can be checked before a graph runs. It
// reports up to 20 mistakes in one joined error, every one wrapping ErrInvalid
// or being a *CycleError.
func (g *Graph) Validate(limits Limits) error {
	_, err := g.Build(limits)
	return err
}

// Initial gives the nodes as a submit writes them, the root first: counters,
// which nodes are released from the start, the ranges of batches. The second
// result lists batches that are released and have no members, in ascending
// order; they need a Settle event. The graph must be valid.
func (g *Graph) Initial() ([]Node, []ID) {
	b := newBuilder(g)
	nodes := make([]Node, len(g.Nodes)+1)
	for i := range g.Nodes {
		nodes[i+1] = b.add(&g.Nodes[i])
	}
	b.closeRanges()
	var empty []ID
	for _, batch := range b.Batches() {
		nodes[batch.ID] = batch
		if batch.State == Released && batch.Total == 0 {
			empty = append(empty, batch.ID)
		}
	}
	return nodes, empty
}

// Build runs a whole graph through a Builder and finishes it. The Builder is
// good for what it knows about the structure also when there is an error.
func (g *Graph) Build(limits Limits) (*Builder, error) {
	b := newBuilder(g)
	b.limits = limits.withDefaults()
	for i := range g.Nodes {
		if !b.room(len(g.Nodes)) {
			break
		}
		b.add(&g.Nodes[i])
	}
	for _, e := range g.Edges {
		if !b.roomForEdges(len(g.Edges)) {
			break
		}
		b.Connect(e)
	}
	return b, b.Finish()
}
