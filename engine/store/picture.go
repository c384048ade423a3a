package store

import (
	"context"
	"slices"
	"sync"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/layout"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// picture is the cards of a workflow as they are shown: which there are, where
// they stand, and which node is on which. It never changes; a workflow that
// grows gets another one.
type picture struct {
	nodes  int32 // of the workflow
	known  int32 // up to which nodes were laid out
	cards  []layout.Card
	edges  []layout.Edge
	groups int32
	merged string
	// Numbers from los[i] on to before los[i+1] are on card grps[i]; the last
	// range, of what was appended since, is open and on the last card.
	los  []int32
	grps []int32
	lone bool
}

// pictures keeps the pictures that were looked at last.
type pictures struct {
	mu   sync.Mutex
	kept []keptPicture // the last used one first
}

type keptPicture struct {
	id       fsm.WorkflowID
	maxCards int
	picture  *picture
}

// picturesKept bounds the memory: a picture has up to some megabytes.
const picturesKept = 16

func (p *pictures) get(id fsm.WorkflowID, maxCards int, nodes int32) *picture {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, k := range p.kept {
		if k.id == id && k.maxCards == maxCards {
			p.kept = slices.Insert(slices.Delete(p.kept, i, i+1), 0, k)
			if k.picture.nodes != nodes {
				return nil
			}
			return k.picture
		}
	}
	return nil
}

func (p *pictures) put(id fsm.WorkflowID, maxCards int, pic *picture) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = slices.DeleteFunc(p.kept, func(k keptPicture) bool { return k.id == id && k.maxCards == maxCards })
	p.kept = slices.Insert(p.kept, 0, keptPicture{id, maxCards, pic})
	p.kept = p.kept[:min(len(p.kept), picturesKept)]
}

// picture gives the cards of a workflow of so many nodes. Who looks first after
// an append has them made anew, unless the graph is large: then what was
// appended stands on one card of its own, the last one.
func (s *Store) picture(ctx context.Context, id fsm.WorkflowID, maxCards int, nodes int32) (*picture, error) {
	if p := s.pictures.get(id, maxCards, nodes); p != nil {
		return p, nil
	}
	ranges, stored, err := s.readCards(ctx, id)
	if err != nil {
		return nil, err
	}
	known := int32(1)
	if len(ranges) > 0 {
		known = knownNodes(&ranges[0])
	}
	if nodes > known {
		if err := s.layOutAgain(ctx, id, nodes); err != nil {
			return nil, err
		}
		if ranges, stored, err = s.readCards(ctx, id); err != nil {
			return nil, err
		}
	}
	if len(ranges) == 0 {
		return s.lonePicture(ctx, id)
	}
	p := newPicture(nodes, &ranges[0], stored, maxCards)
	if p.nodes <= p.known || nodes > layoutNodes {
		s.pictures.put(id, maxCards, p)
	}
	return p, nil
}

func newPicture(nodes int32, ranges *db.GroupRange, stored *layout.Picture, maxCards int) *picture {
	shown, to := stored.Merge(maxCards)
	p := &picture{nodes: nodes, known: knownNodes(ranges), groups: ranges.Groups, merged: ranges.Merged}
	if shown != stored {
		shown.Place()
		p.merged = string(shown.Merged)
	}
	p.cards, p.edges = shown.Cards, shown.Edges
	p.los = ranges.Los
	p.grps = make([]int32, len(ranges.Grps))
	for i, grp := range ranges.Grps {
		p.grps[i] = int32(len(shown.Cards)) // appended
		if grp >= 0 {
			p.grps[i] = to[grp]
		}
	}
	if p.nodes > p.known {
		p.cards = append(slices.Clone(p.cards), p.appendedCard())
	}
	return p
}

// appendedCard stands below the others for what was appended since.
func (p *picture) appendedCard() layout.Card {
	card := layout.Card{
		Label: "appended", Size: p.nodes - p.known, First: dag.ID(p.known + 1), Last: dag.ID(p.nodes), Width: 1, Height: 1, Box: -1,
	}
	if card.Size == 1 {
		card.Node = card.First
	}
	for i := range p.cards {
		card.Y = max(card.Y, p.cards[i].Y+p.cards[i].Height/2+1)
	}
	return card
}

// lonePicture is that of a lone job.
func (s *Store) lonePicture(ctx context.Context, id fsm.WorkflowID) (*picture, error) {
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
	return &picture{nodes: 1, known: 1, groups: 1, lone: true, los: []int32{1, 2}, grps: []int32{0, 1}, cards: []layout.Card{{
		Label: label, Kind: route.kind, Size: 1, Node: 1, First: 1, Last: 1, Width: 1, Height: 1, Box: -1,
	}}}, nil
}

// cardOf tells which card a node is on; -1: on none.
func (p *picture) cardOf(node int32) int32 {
	i, found := slices.BinarySearch(p.los, node)
	if !found {
		i--
	}
	if i < 0 {
		return -1
	}
	return p.cardAt(i)
}

// cardAt tells which card the range at i is on; -1: on none.
func (p *picture) cardAt(i int) int32 {
	if int(p.grps[i]) >= len(p.cards) {
		return -1 // appended after the workflow was read
	}
	return p.grps[i]
}

// card gives a card by its group.
func (p *picture) card(group int32) (*layout.Card, error) {
	if group < 0 || int(group) >= len(p.cards) {
		return nil, invalid("group is %d, the workflow has %d cards", group, len(p.cards))
	}
	return &p.cards[group], nil
}

// cardSpan is a range of numbers on one card, both ends in it.
type cardSpan struct{ lo, hi int32 }

// spans lists the ranges of a card's nodes from a number on.
func (p *picture) spans(group, from int32) []cardSpan {
	var out []cardSpan
	for i := range p.los {
		if p.cardAt(i) != group {
			continue
		}
		hi := p.nodes
		if i+1 < len(p.los) {
			hi = p.los[i+1] - 1
		}
		if hi >= from {
			out = append(out, cardSpan{max(p.los[i], from), hi})
		}
	}
	return out
}

// view is the picture as it is sent, without counts.
func (p *picture) view() *heddlev1.GraphResponse {
	resp := &heddlev1.GraphResponse{Groups: p.groups, Merged: p.merged}
	for i := range p.cards {
		resp.Cards = append(resp.Cards, viewCard(int32(i), &p.cards[i]))
	}
	for _, e := range p.edges {
		resp.Edges = append(resp.Edges, &heddlev1.CardEdge{From: e.From, To: e.To, On: uint32(e.On), Size: e.Size})
	}
	return resp
}
