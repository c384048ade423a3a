package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Nodes of a lineage.
const (
	defaultLineage = 200
	mostLineage    = 1000
	lineageEdges   = 20_000 // that one look around reads
)

// Lineage gives a node with what it stands on and what stands on it, nearest
// first. A batch around a node counts: a member starts after its batch does, and
// what follows a batch follows its members. Such a tie is an edge whose on is 0,
// from the batch to a member that stands on it, or from a member to the batch
// that stands on it.
func (s *Store) Lineage(ctx context.Context, id fsm.WorkflowID, req *heddlev1.LineageRequest) (*heddlev1.LineageResponse, error) {
	limit := int(req.GetLimit())
	switch {
	case limit == 0:
		limit = defaultLineage
	case limit < 1 || limit > mostLineage:
		return nil, invalid("limit is %d, must be 1 to %d", limit, mostLineage)
	}
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	l := &lineage{s: s, id: id, limit: limit, facts: map[int32]*fact{}, distance: map[int32]int32{}}
	l.look = func(nodes []int32) error {
		facts, err := s.facts(ctx, id, nodes, now)
		for n, f := range facts {
			l.facts[n] = f
		}
		return err
	}
	if err := l.build(ctx, req.GetNode()); err != nil {
		return nil, fmt.Errorf("lineage of %s/%d: %w", id, req.GetNode(), err)
	}
	return l.answer(), nil
}

// lineage is one under construction.
type lineage struct {
	s        *Store
	id       fsm.WorkflowID
	limit    int
	look     func(nodes []int32) error
	facts    map[int32]*fact
	distance map[int32]int32 // of the nodes that are in it
	order    []int32         // as they were found
	edges    []*heddlev1.Edge
	more     bool
	// chain is the node asked for and the batches around it that were found,
	// around those found last.
	chain  map[int32]bool
	around []int32
}

// build goes up and down by turns, so that both ways get their share.
func (l *lineage) build(ctx context.Context, node int32) error {
	if err := l.look([]int32{node}); err != nil {
		return err
	}
	if l.facts[node] == nil {
		return notFoundJob(fsm.JobID{Workflow: l.id, Node: node})
	}
	l.put(node, 0)
	l.chain = map[int32]bool{node: true}
	up, down := []int32{node}, []int32{node}
	for d := int32(1); len(up)+len(down) > 0 && !l.more; d++ {
		var err error
		if len(up) > 0 {
			if up, err = l.ring(ctx, up, -d); err != nil {
				return err
			}
		}
		// What follows the batches around the node follows it as well.
		down = append(down, l.around...)
		l.around = nil
		if len(down) > 0 {
			if down, err = l.ring(ctx, down, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// put takes a node in; false: there is no room. One that is in it stays where it
// is.
func (l *lineage) put(node, distance int32) bool {
	if _, known := l.distance[node]; known {
		return true
	}
	if len(l.order) == l.limit {
		l.more = true
		return false
	}
	l.distance[node] = distance
	l.order = append(l.order, node)
	return true
}

func (l *lineage) tie(parent, child int32, on int16) {
	l.edges = append(l.edges, &heddlev1.Edge{Parent: parent, Child: child, On: uint32(on)})
}

// ring takes in the neighbours of nodes on the side that distance says, and gives
// those that are new.
func (l *lineage) ring(ctx context.Context, nodes []int32, distance int32) ([]int32, error) {
	type link struct {
		from, to int32 // from is in it
		on       int16
	}
	var links []link
	if distance < 0 {
		edges, err := l.s.rdb.EdgesUp(ctx, db.EdgesUpParams{WorkflowID: l.id, Nodes: nodes, MaxRows: lineageEdges})
		if err != nil {
			return nil, err
		}
		for _, e := range edges {
			links = append(links, link{e.Child, e.Parent, e.OnSet})
		}
	} else {
		edges, err := l.s.rdb.EdgesDown(ctx, db.EdgesDownParams{WorkflowID: l.id, Nodes: nodes, MaxRows: lineageEdges})
		if err != nil {
			return nil, err
		}
		for _, e := range edges {
			links = append(links, link{e.Parent, e.Child, e.OnSet})
		}
	}
	l.more = l.more || len(links) == lineageEdges
	for _, n := range nodes {
		if batch := l.facts[n].Batch; batch != 0 && (distance < 0 || !l.chain[n]) {
			links = append(links, link{n, batch, 0})
		}
	}
	var missing []int32
	for _, k := range links {
		if l.facts[k.to] == nil {
			missing = append(missing, k.to)
		}
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	if most := l.limit; len(missing) > most {
		missing, l.more = missing[:most], true
	}
	if err := l.look(missing); err != nil {
		return nil, err
	}
	var next []int32
	for _, k := range links {
		_, known := l.distance[k.to]
		if l.facts[k.to] == nil || !l.put(k.to, distance) {
			continue
		}
		at := l.distance[k.to]
		switch {
		case k.on == 0 && distance > 0 && at <= 0:
			continue // it is before the node asked for already
		case distance < 0:
			l.tie(k.to, k.from, k.on)
			if k.on == 0 && l.chain[k.from] && !l.chain[k.to] {
				l.chain[k.to] = true
				l.around = append(l.around, k.to)
			}
		default:
			l.tie(k.from, k.to, k.on)
		}
		if !known {
			next = append(next, k.to)
		}
	}
	return next, nil
}

// answer lays the nodes out.
func (l *lineage) answer() *heddlev1.LineageResponse {
	resp := &heddlev1.LineageResponse{More: l.more}
	slices.SortFunc(l.edges, func(a, b *heddlev1.Edge) int {
		return cmp.Or(cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Child, b.Child), cmp.Compare(b.On, a.On))
	})
	resp.Edges = slices.CompactFunc(l.edges, func(a, b *heddlev1.Edge) bool { return proto.Equal(a, b) })
	x, y := arrange(l.order, l.distance, resp.Edges)
	for _, n := range l.order {
		f := l.facts[n]
		resp.Nodes = append(resp.Nodes, &heddlev1.LineageNode{
			Node: n, Name: f.Name, Kind: f.kind, IsBatch: f.IsBatch, State: f.state, Distance: l.distance[n], X: x[n], Y: y[n],
		})
	}
	return resp
}

// arrange gives nodes places: edges lead to the right, the node asked for is at
// 0, and the rows of a column are ordered by what they are tied to.
func arrange(order []int32, distance map[int32]int32, edges []*heddlev1.Edge) (x, y map[int32]float64) {
	column := make(map[int32]int32, len(order))
	for _, n := range order {
		column[n] = distance[n]
	}
	// A node stands behind all that it stands on. The rounds are bounded: ties
	// with batches may be circles.
	for range order {
		moved := false
		for _, e := range edges {
			p, c := e.Parent, e.Child
			switch {
			case column[p] < column[c]:
			case distance[c] > 0 && distance[p] >= 0:
				column[c], moved = column[p]+1, true
			case distance[p] < 0 && distance[c] <= 0:
				column[p], moved = column[c]-1, true
			}
		}
		if !moved {
			break
		}
	}
	columns := make(map[int32][]int32)
	var ranks []int32
	for _, n := range order {
		if columns[column[n]] == nil {
			ranks = append(ranks, column[n])
		}
		columns[column[n]] = append(columns[column[n]], n)
	}
	slices.Sort(ranks)
	tied := make(map[int32][]int32)
	for _, e := range edges {
		tied[e.Parent] = append(tied[e.Parent], e.Child)
		tied[e.Child] = append(tied[e.Child], e.Parent)
	}
	x, y = make(map[int32]float64, len(order)), make(map[int32]float64, len(order))
	place := func(rank int32) {
		for i, n := range columns[rank] {
			x[n], y[n] = float64(rank), float64(i)-float64(len(columns[rank])-1)/2
		}
	}
	for _, rank := range ranks {
		place(rank)
	}
	for range 4 {
		for _, rank := range ranks {
			wish := make(map[int32]float64, len(columns[rank]))
			for _, n := range columns[rank] {
				wish[n] = y[n]
				if len(tied[n]) > 0 {
					sum := 0.0
					for _, o := range tied[n] {
						sum += y[o]
					}
					wish[n] = sum / float64(len(tied[n]))
				}
			}
			slices.SortStableFunc(columns[rank], func(a, b int32) int { return cmp.Compare(wish[a], wish[b]) })
			place(rank)
		}
	}
	return x, y
}
