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

func cardLimit(maxCards int) (int, error) {
	switch {
	case maxCards == 0:
		return defaultCards, nil
	case maxCards < 1 || maxCards > mostCards:
		return 0, invalid("max_cards is %d, must be 1 to %d", maxCards, mostCards)
	}
	return maxCards, nil
}

// Graph gives the cards of the graph view with counts by state: at most
// maxCards (0: 400), merged where there are more. Who looks first after an
// append has the cards made anew, unless the graph is large: then what was
// appended stands in one card of its own, the last one.
func (s *Store) Graph(ctx context.Context, id fsm.WorkflowID, maxCards int) (*heddlev1.GraphResponse, error) {
	_, resp, err := s.WorkflowGraph(ctx, id, maxCards)
	return resp, err
}

// WorkflowGraph gives a workflow with its Graph.
func (s *Store) WorkflowGraph(ctx context.Context, id fsm.WorkflowID, maxCards int) (*heddlev1.Workflow, *heddlev1.GraphResponse, error) {
	maxCards, err := cardLimit(maxCards)
	if err != nil {
		return nil, nil, err
	}
	now, err := s.now(ctx)
	if err != nil {
		return nil, nil, err
	}
	w, err := s.Workflow(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	p, err := s.picture(ctx, id, maxCards, w.Nodes)
	if err != nil {
		return nil, nil, fmt.Errorf("graph of workflow %s: %w", id, err)
	}
	resp := p.view()
	if err := s.countCards(ctx, id, resp, p, now); err != nil {
		return nil, nil, fmt.Errorf("graph of workflow %s: %w", id, err)
	}
	if err := s.stateCards(ctx, id, resp, p, w); err != nil {
		return nil, nil, fmt.Errorf("graph of workflow %s: %w", id, err)
	}
	return w, resp, nil
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
func (s *Store) countCards(ctx context.Context, id fsm.WorkflowID, resp *heddlev1.GraphResponse, p *picture, now time.Time) error {
	counts, err := s.rdb.GroupCounts(ctx, db.GroupCountsParams{WorkflowID: id, Los: p.los, Now: timestampOf(now), Leased: s.leasedNodes(id)})
	if err != nil {
		return err
	}
	for _, c := range counts {
		if c.Range < 1 || int(c.Range) > len(p.grps) {
			continue // node 0 is no job
		}
		at := p.cardAt(int(c.Range) - 1)
		if at < 0 {
			continue
		}
		card := resp.Cards[at]
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

// stateCards gives the cards of single batches their states and the counts of
// their members; those of several batches count the batches.
func (s *Store) stateCards(ctx context.Context, id fsm.WorkflowID, resp *heddlev1.GraphResponse, p *picture, w *heddlev1.Workflow) error {
	byNode := make(map[int32]*heddlev1.Batch, len(w.Batches))
	for _, b := range w.Batches {
		byNode[b.Node] = b
	}
	var nodes []int32 // of batches beyond those that were read
	for _, c := range resp.Cards {
		if c.Node != 0 && c.Counts.Total == 0 && byNode[c.Node] == nil {
			nodes = append(nodes, c.Node)
		}
	}
	if len(nodes) > 0 {
		batches, err := s.rdb.BatchesByNode(ctx, db.BatchesByNodeParams{WorkflowID: id, Nodes: nodes})
		if err != nil {
			return err
		}
		for i := range batches {
			byNode[batches[i].Node] = viewBatch(&batches[i])
		}
	}
	for _, c := range resp.Cards {
		if b := byNode[c.Node]; b != nil {
			c.State, c.Counts, c.IsBatch = b.State, b.Members, true
		}
	}
	if p.merged == "" && p.nodes <= p.known {
		return nil
	}
	counts, err := s.rdb.GroupBatchCounts(ctx, db.GroupBatchCountsParams{WorkflowID: id, Los: p.los})
	if err != nil {
		return err
	}
	for _, n := range counts {
		if n.Range < 1 || int(n.Range) > len(p.grps) {
			continue
		}
		at := p.cardAt(int(n.Range) - 1)
		if at < 0 || resp.Cards[at].Node != 0 {
			continue
		}
		count(resp.Cards[at].Counts, batchState(n.State, n.Outcome), n.Batches)
		resp.Cards[at].Counts.Total += n.Batches
	}
	return nil
}
