package store

import (
	"context"

	"github.com/heddle-io/heddle/dag/layout"
	"github.com/heddle-io/heddle/internal/gen/db"
)

// cardsKept is the number of cards from which the groups of a graph are merged
// before they are stored: a chain of a million jobs has a million groups, and
// no answer shows more than 2,000.
const cardsKept = 4000

// cards is the structure of the graph view, as it is stored.
type cards struct {
	picture   *layout.Picture
	los, grps []int32
}

// layOut makes the cards of a complete graph. Numbers behind the last node are
// in no card: those are appended later.
func layOut(b layout.Structure) *cards {
	all := layout.Group(b)
	c := &cards{}
	picture, to := all.Merge(cardsKept)
	last := int32(-1)
	for i, lo := range all.Los {
		if grp := to[all.Grps[i]]; grp != last {
			c.los, c.grps = append(c.los, int32(lo)), append(c.grps, grp)
			last = grp
		}
	}
	c.los, c.grps = append(c.los, int32(b.Len())+1), append(c.grps, -1)
	picture.Place()
	c.picture = picture
	return c
}

// queueCards adds the cards of graphs.
func queueCards(ctx context.Context, q *db.Queries, graphs []*plan) error {
	var groups db.InsertGroupsParams
	var edges db.InsertGroupEdgesParams
	for _, p := range graphs {
		pic := p.cards.picture
		err := q.InsertGroupRanges(ctx, db.InsertGroupRangesParams{
			WorkflowID: p.id, Los: p.cards.los, Grps: p.cards.grps, Groups: int32(pic.Groups), Merged: string(pic.Merged),
		})
		if err != nil {
			return err
		}
		for i := range pic.Cards {
			c := &pic.Cards[i]
			groups.WorkflowIds = append(groups.WorkflowIds, p.id)
			groups.Grps = append(groups.Grps, int32(i))
			groups.Batches = append(groups.Batches, int32(c.Batch))
			groups.Boxes = append(groups.Boxes, c.Box)
			groups.Nodes = append(groups.Nodes, int32(c.Node))
			groups.FirstNodes = append(groups.FirstNodes, int32(c.First))
			groups.LastNodes = append(groups.LastNodes, int32(c.Last))
			groups.Ranks = append(groups.Ranks, c.Rank)
			groups.LastRanks = append(groups.LastRanks, c.LastRank)
			groups.Sizes = append(groups.Sizes, c.Size)
			groups.Xs = append(groups.Xs, c.X)
			groups.Ys = append(groups.Ys, c.Y)
			groups.Widths = append(groups.Widths, c.Width)
			groups.Heights = append(groups.Heights, c.Height)
			groups.IsBatches = append(groups.IsBatches, c.IsBatch)
			groups.Labels = append(groups.Labels, c.Label)
			groups.Kinds = append(groups.Kinds, c.Kind)
		}
		for _, e := range pic.Edges {
			edges.WorkflowIds = append(edges.WorkflowIds, p.id)
			edges.FromGrps = append(edges.FromGrps, e.From)
			edges.ToGrps = append(edges.ToGrps, e.To)
			edges.OnSets = append(edges.OnSets, int16(e.On))
			edges.Sizes = append(edges.Sizes, e.Size)
		}
	}
	if len(groups.Grps) > 0 {
		if err := q.InsertGroups(ctx, groups); err != nil {
			return err
		}
	}
	if len(edges.FromGrps) > 0 {
		return q.InsertGroupEdges(ctx, edges)
	}
	return nil
}
