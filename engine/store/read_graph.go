package store

import (
	"context"
	"fmt"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/layout"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Cards of an answer.
const (
	defaultCards = 400
	mostCards    = 2000
)

// Graph gives the cards of the graph view with counts by state: at most
// maxCards (0: 400), merged where there are more. Who looks first after an
// append has the cards made anew, unless the graph is large: then what was
// appended stands in one card of its own, the last one.
func (s *Store) Graph(ctx context.Context, id fsm.WorkflowID, maxCards int) (*heddlev1.GraphResponse, error) {
	if maxCards == 0 {
		maxCards = defaultCards
	}
	if maxCards < 1 || maxCards > mostCards {
		return nil, invalid("max_cards is %d, must be 1 to %d", maxCards, mostCards)
	}
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	w, err := s.Workflow(ctx, id)
	if err != nil {
		return nil, err
	}
	resp, err := s.graphCards(ctx, id, maxCards, w, now)
	if err != nil {
		return nil, fmt.Errorf("graph of workflow %s: %w", id, err)
	}
	return resp, nil
}

func (s *Store) graphCards(ctx context.Context, id fsm.WorkflowID, maxCards int, w *heddlev1.Workflow, now time.Time) (*heddlev1.GraphResponse, error) {
	ranges, stored, err := s.readCards(ctx, id)
	if err != nil {
		return nil, err
	}
	known := int32(1)
	if len(ranges) > 0 {
		known = knownNodes(&ranges[0])
	}
	if w.Nodes > known {
		if err := s.layOutAgain(ctx, id, w.Nodes); err != nil {
			return nil, err
		}
		if ranges, stored, err = s.readCards(ctx, id); err != nil {
			return nil, err
		}
	}
	if len(ranges) == 0 {
		return s.loneCard(ctx, id, w, now)
	}
	picture, to := stored.Merge(maxCards)
	resp := &heddlev1.GraphResponse{Groups: ranges[0].Groups, Merged: ranges[0].Merged}
	if picture != stored {
		picture.Place()
		resp.Merged = string(picture.Merged)
	}
	for i := range picture.Cards {
		resp.Cards = append(resp.Cards, viewCard(int32(i), &picture.Cards[i]))
	}
	for _, e := range picture.Edges {
		resp.Edges = append(resp.Edges, &heddlev1.CardEdge{From: e.From, To: e.To, On: uint32(e.On), Size: e.Size})
	}
	if err := s.countCards(ctx, id, resp, &ranges[0], to, w.Nodes, now); err != nil {
		return nil, err
	}
	return resp, s.stateCards(ctx, id, resp)
}

// readCards rebuilds the picture that layOut has stored.
func (s *Store) readCards(ctx context.Context, id fsm.WorkflowID) (ranges []db.GroupRange, _ *layout.Picture, err error) {
	var groups []db.Group
	var edges []db.ListGroupEdgesRow
	err = s.snapshot(ctx, func(q *db.Queries) error {
		if ranges, err = q.GetGroupRanges(ctx, id); err != nil {
			return err
		}
		if groups, err = q.ListGroups(ctx, id); err != nil {
			return err
		}
		edges, err = q.ListGroupEdges(ctx, id)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	p := &layout.Picture{Cards: make([]layout.Card, len(groups)), Edges: make([]layout.Edge, len(edges)), Groups: len(groups)}
	for i, g := range groups {
		p.Cards[i] = layout.Card{
			Batch: dag.ID(g.Batch), Box: g.Box, IsBatch: g.IsBatch, Label: g.Label, Kind: g.Kind,
			First: dag.ID(g.FirstNode), Last: dag.ID(g.LastNode), Size: g.Size, Rank: g.Rank, LastRank: g.LastRank,
			X: g.X, Y: g.Y, Width: g.Width, Height: g.Height,
		}
		if g.Node != nil {
			p.Cards[i].Node = dag.ID(*g.Node)
		}
	}
	for i, e := range edges {
		p.Edges[i] = layout.Edge{From: e.FromGrp, To: e.ToGrp, On: dag.Outcome(e.OnSet), Size: e.Size}
	}
	return ranges, p, nil
}

func viewCard(group int32, c *layout.Card) *heddlev1.Card {
	return &heddlev1.Card{
		Group: group, Batch: int32(c.Batch), Label: c.Label, Kind: c.Kind, IsBatch: c.IsBatch, Rank: c.Rank,
		X: c.X, Y: c.Y, Width: c.Width, Height: c.Height, Box: c.Box, Size: c.Size, Counts: &heddlev1.Counts{},
		Node: int32(c.Node), FirstNode: int32(c.First), LastNode: int32(c.Last),
	}
}

// countCards counts the jobs of every card by state, which is that of a card
// for a single job.
func (s *Store) countCards(ctx context.Context, id fsm.WorkflowID, resp *heddlev1.GraphResponse, ranges *db.GroupRange, to []int32, nodes int32, now time.Time) error {
	counts, err := s.db.GroupCounts(ctx, db.GroupCountsParams{WorkflowID: id, Los: ranges.Los, Now: timestampOf(now)})
	if err != nil {
		return err
	}
	if known := knownNodes(ranges); nodes > known {
		resp.Cards = append(resp.Cards, appendedCard(resp, known, nodes))
	}
	for _, c := range counts {
		if c.Range < 1 || int(c.Range) > len(ranges.Grps) {
			continue // node 0 is no job
		}
		card := resp.Cards[len(resp.Cards)-1]
		if grp := ranges.Grps[c.Range-1]; grp >= 0 {
			card = resp.Cards[to[grp]]
		}
		state := heddlev1.State(c.State)
		if c.State > 10 {
			state = outcomeState(int16(c.State - 10))
		}
		count(card.Counts, state, c.Jobs)
		card.Counts.Total += c.Jobs
		if card.Node != 0 {
			card.State = state
		}
	}
	return nil
}

// appendedCard stands below the others for what was appended since.
func appendedCard(resp *heddlev1.GraphResponse, known, nodes int32) *heddlev1.Card {
	card := &heddlev1.Card{
		Group: int32(len(resp.Cards)), Label: "appended", Size: nodes - known, FirstNode: known + 1, LastNode: nodes,
		Width: 1, Height: 1, Box: -1, Counts: &heddlev1.Counts{},
	}
	if card.Size == 1 {
		card.Node = card.FirstNode
	}
	for _, c := range resp.Cards {
		card.Y = max(card.Y, c.Y+c.Height/2+1)
	}
	return card
}

// stateCards gives the cards of single batches their states and the counters
// of their members.
func (s *Store) stateCards(ctx context.Context, id fsm.WorkflowID, resp *heddlev1.GraphResponse) error {
	var nodes []int32
	for _, c := range resp.Cards {
		if c.Node != 0 && c.Counts.Total == 0 {
			nodes = append(nodes, c.Node)
		}
	}
	batches, err := s.db.BatchesByNode(ctx, db.BatchesByNodeParams{WorkflowID: id, Nodes: nodes})
	if err != nil {
		return err
	}
	byNode := make(map[int32]*heddlev1.Batch, len(batches))
	for i := range batches {
		byNode[batches[i].Node] = viewBatch(&batches[i])
	}
	for _, c := range resp.Cards {
		if b := byNode[c.Node]; b != nil {
			c.State, c.Counts, c.IsBatch = b.State, b.Members, true
		}
	}
	return nil
}

// loneCard is the picture of a lone job.
func (s *Store) loneCard(ctx context.Context, id fsm.WorkflowID, w *heddlev1.Workflow, now time.Time) (*heddlev1.GraphResponse, error) {
	row, err := s.viewRow(ctx, fsm.JobID{Workflow: id, Node: 1})
	if err != nil {
		return nil, err
	}
	route, err := s.routeNames(ctx, row.Route)
	if err != nil {
		return nil, err
	}
	label := row.Name
	if label == "" {
		label = route.kind
	}
	resp := &heddlev1.GraphResponse{Groups: 1, Cards: []*heddlev1.Card{{
		Label: label, Kind: route.kind, Size: 1, Node: 1, FirstNode: 1, LastNode: 1, Width: 1, Height: 1, Box: -1, Counts: &heddlev1.Counts{},
	}}}
	ranges := db.GroupRange{Los: []int32{1, 2}, Grps: []int32{0, -1}}
	return resp, s.countCards(ctx, id, resp, &ranges, []int32{0}, w.Nodes, now)
}
