package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/layout"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Up to so many nodes and edges a graph to which was appended is laid out anew
// when somebody looks at it. In a larger one what was appended stands in one
// card.
const (
	layoutNodes = 20_000
	layoutEdges = 10 * layoutNodes
)

// structure is a graph as it was read, for the layout. Node numbers are places.
type structure struct {
	batches []dag.ID
	kind    []int32
	names   []string
	isBatch []bool
	kinds   []string
	edges   []db.EdgesOfGraphRow
}

func (g *structure) Len() int                   { return len(g.batches) - 1 }
func (g *structure) Batch(id dag.ID) dag.ID     { return g.batches[id] }
func (g *structure) IsBatch(id dag.ID) bool     { return g.isBatch[id] }
func (g *structure) Name(id dag.ID) string      { return g.names[id] }
func (g *structure) Kind(id dag.ID) int32       { return g.kind[id] }
func (g *structure) KindName(kind int32) string { return g.kinds[kind] }
func (g *structure) NumEdges() int              { return len(g.edges) }

func (g *structure) Edge(i int) dag.Edge {
	e := &g.edges[i]
	return dag.Edge{Parent: dag.ID(e.Parent), Child: dag.ID(e.Child), On: dag.Outcome(e.OnSet)}
}

var _ layout.Structure = (*structure)(nil)

// layOutAgain makes the cards of a graph of n nodes anew and stores them, unless
// that is not to be done, or somebody else has done it. What a graph consists
// of is only ever added to: the cards are made without a lock, of a snapshot.
func (s *Store) layOutAgain(ctx context.Context, id fsm.WorkflowID, n int32) error {
	if n > layoutNodes {
		return nil
	}
	g, err := s.readStructure(ctx, id, n)
	if err != nil || g == nil {
		return err
	}
	p := &plan{id: id, cards: layOut(g)}
	return pgx.BeginFunc(ctx, s.main, func(tx pgx.Tx) error {
		q := db.New(tx)
		if there, err := q.LockWorkflow(ctx, id); err != nil || len(there) == 0 {
			return err
		}
		stored, err := q.GetGroupRanges(ctx, id)
		if err != nil || len(stored) > 0 && knownNodes(&stored[0]) >= n {
			return err
		}
		only := []fsm.WorkflowID{id}
		for _, remove := range []func(context.Context, []fsm.WorkflowID) error{q.RemoveGroups, q.RemoveGroupEdges, q.RemoveGroupRanges} {
			if err := remove(ctx, only); err != nil {
				return err
			}
		}
		return queueCards(ctx, q, []*plan{p})
	})
}

// knownNodes is the number of nodes that stored cards cover.
func knownNodes(ranges *db.GroupRange) int32 { return ranges.Los[len(ranges.Los)-1] - 1 }

// readStructure reads the first n nodes of a graph, all there are; nil if it has
// too many edges, or not all of its nodes are there.
func (s *Store) readStructure(ctx context.Context, id fsm.WorkflowID, n int32) (*structure, error) {
	g := &structure{
		batches: make([]dag.ID, n+1), kind: make([]int32, n+1), names: make([]string, n+1), isBatch: make([]bool, n+1), kinds: []string{""},
	}
	var nodes []db.NodesOfGraphRow
	err := s.snapshot(ctx, func(q *db.Queries) (err error) {
		if nodes, err = q.NodesOfGraph(ctx, db.NodesOfGraphParams{WorkflowID: id, MaxRows: layoutNodes + 1}); err != nil {
			return err
		}
		g.edges, err = q.EdgesOfGraph(ctx, db.EdgesOfGraphParams{WorkflowID: id, MaxRows: layoutEdges + 1})
		return err
	})
	if err != nil || len(nodes) != int(n) || len(g.edges) > layoutEdges {
		return nil, err // more nodes than n: appended just now, for the next one who looks
	}
	kindOf := map[int32]int32{0: 0}
	number := map[string]int32{"": 0}
	seen := make([]bool, n+1)
	for _, node := range nodes {
		if node.Node < 1 || node.Node > n || seen[node.Node] || node.Batch >= node.Node {
			return nil, nil
		}
		kind, known := kindOf[node.Route]
		if !known {
			name, err := s.routeNames(ctx, node.Route)
			if err != nil {
				return nil, err
			}
			if kind, known = number[name.kind]; !known {
				kind = int32(len(g.kinds))
				g.kinds, number[name.kind] = append(g.kinds, name.kind), kind
			}
			kindOf[node.Route] = kind
		}
		seen[node.Node] = true
		g.batches[node.Node], g.kind[node.Node], g.names[node.Node], g.isBatch[node.Node] = dag.ID(node.Batch), kind, node.Name, node.IsBatch
	}
	for _, e := range g.edges {
		if e.Parent < 1 || e.Parent > n || e.Child < 1 || e.Child > n {
			return nil, nil
		}
	}
	return g, nil
}

// snapshot runs reads that see the same state.
func (s *Store) snapshot(ctx context.Context, read func(*db.Queries) error) error {
	return pgx.BeginTxFunc(ctx, s.read, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		return read(db.New(tx))
	})
}
