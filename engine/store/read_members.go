package store

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

const (
	// mosaicMost is the number of members whose states one answer has.
	mosaicMost = 200_000
	// windowNodes is how many numbers one read of a card's members spans.
	windowNodes = 50_000
)

// shown is a workflow as it is shown, for reads of a card.
type shown struct {
	id      fsm.WorkflowID
	now     time.Time
	nodes   int32
	picture *picture
}

// show finds the picture in which a request names a card.
func (s *Store) show(ctx context.Context, id fsm.WorkflowID, maxCards int32) (*shown, error) {
	limit, err := cardLimit(int(maxCards))
	if err != nil {
		return nil, err
	}
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	nodes, err := s.nodeCount(ctx, id)
	if err != nil {
		return nil, err
	}
	p, err := s.picture(ctx, id, limit, nodes)
	if err != nil {
		return nil, fmt.Errorf("cards of workflow %s: %w", id, err)
	}
	return &shown{id: id, now: now, nodes: nodes, picture: p}, nil
}

// nodeCount is the number of nodes of a workflow.
func (s *Store) nodeCount(ctx context.Context, id fsm.WorkflowID) (int32, error) {
	rows, err := s.rdb.FindWorkflow(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("workflow %s: %w", id, err)
	}
	if len(rows) > 0 {
		return rows[0].NextNode - 1, nil
	}
	lone, err := s.rdb.ViewJob(ctx, db.ViewJobParams{WorkflowID: id, Node: 1})
	if err != nil {
		return 0, fmt.Errorf("workflow %s: %w", id, err)
	}
	if len(lone) == 0 {
		return 0, notFoundWorkflow(id)
	}
	return 1, nil
}

// window cuts the next window from spans: numbers lo to hi, and the spans in it.
func window(spans []cardSpan) (in, rest []cardSpan) {
	lo := spans[0].lo
	for i, span := range spans {
		if int64(span.hi)-int64(lo) < windowNodes {
			continue
		}
		if i == 0 || int64(span.lo)-int64(lo) < windowNodes {
			// The span is cut in two.
			cut := lo + windowNodes - 1
			in = append(slices.Clone(spans[:i]), cardSpan{span.lo, cut})
			return in, append([]cardSpan{{cut + 1, span.hi}}, spans[i+1:]...)
		}
		return spans[:i], spans[i:]
	}
	return spans, nil
}

// contains reports whether a number is in one of the spans, which are in order.
func contains(spans []cardSpan, node int32) bool {
	i, found := slices.BinarySearchFunc(spans, node, func(s cardSpan, n int32) int { return int(s.lo) - int(n) })
	return found || i > 0 && node <= spans[i-1].hi
}

// Mosaic gives the state of every member of a card, by number.
func (s *Store) Mosaic(ctx context.Context, id fsm.WorkflowID, req *heddlev1.MosaicRequest) (*heddlev1.MosaicResponse, error) {
	w, err := s.show(ctx, id, req.GetMaxCards())
	if err != nil {
		return nil, err
	}
	if _, err := w.picture.card(req.GetGroup()); err != nil {
		return nil, err
	}
	resp := &heddlev1.MosaicResponse{}
	leased := s.leasedNodes(id)
	var last int32
	even := true
	for rest := w.picture.spans(req.GetGroup(), 1); len(rest) > 0; {
		if len(resp.States) >= mosaicMost {
			for _, span := range rest {
				resp.LeftOut += span.hi - span.lo + 1
			}
			break
		}
		var in []cardSpan
		in, rest = window(rest)
		rows, err := s.rdb.NodeStates(ctx, db.NodeStatesParams{
			WorkflowID: id, Lo: in[0].lo, Hi: in[len(in)-1].hi, Leased: leased, Now: timestampOf(w.now),
		})
		if err != nil {
			return nil, fmt.Errorf("mosaic of workflow %s: %w", id, err)
		}
		for _, r := range rows {
			if !contains(in, r.Node) {
				continue
			}
			if len(resp.States) == mosaicMost {
				resp.LeftOut++
				continue
			}
			if len(resp.States) == 0 {
				resp.First = r.Node
			} else {
				resp.Gaps = append(resp.Gaps, r.Node-last)
				even = even && r.Node == last+1
			}
			resp.States = append(resp.States, byte(codedState(r.State)))
			last = r.Node
		}
	}
	if even {
		resp.Gaps = nil
	}
	return resp, nil
}

// Members pages through the members of a card by number.
func (s *Store) Members(ctx context.Context, id fsm.WorkflowID, req *heddlev1.MembersRequest) (*heddlev1.MembersResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := readToken(req.GetPageToken(), key{id: id})
	if err != nil {
		return nil, err
	}
	if after.id != id {
		return nil, invalid("page_token %q is of another workflow", req.GetPageToken())
	}
	w, err := s.show(ctx, id, req.GetMaxCards())
	if err != nil {
		return nil, err
	}
	nodes, next, err := s.members(ctx, w, req.GetGroup(), newStateSet(req.GetStates()), after.node, int(size))
	if err != nil {
		return nil, err
	}
	resp := &heddlev1.MembersResponse{}
	if next != 0 {
		resp.NextPageToken = pageToken(key{id, next})
	}
	for _, n := range nodes {
		if n.batch != nil {
			resp.Batches = append(resp.Batches, viewBatch(n.batch))
			continue
		}
		job, err := s.viewJob(ctx, n.job, w.now)
		if err != nil {
			return nil, err
		}
		resp.Jobs = append(resp.Jobs, job)
	}
	return resp, nil
}

// members reads the members of a card behind a number, up to size. next is where
// to go on, 0 at the end.
func (s *Store) members(ctx context.Context, w *shown, group int32, f stateSet, after int32, size int) (found []oneNode, next int32, err error) {
	if _, err := w.picture.card(group); err != nil {
		return nil, 0, err
	}
	if after == math.MaxInt32 {
		return nil, 0, nil
	}
	began := time.Now()
	for rest := w.picture.spans(group, after+1); len(rest) > 0; {
		var in []cardSpan
		in, rest = window(rest)
		at, until := in[0].lo-1, in[len(in)-1].hi
		for more := true; more; {
			var rows []oneNode
			rows, more, err = s.nodesBetween(ctx, w.id, AllNodes, f, at, until, max(size-len(found), defaultPage), w.now)
			if err != nil {
				return nil, 0, fmt.Errorf("members of workflow %s: %w", w.id, err)
			}
			for i := range rows {
				at = rows[i].number
				if !contains(in, at) {
					continue
				}
				if len(found) == size {
					return found, found[size-1].number, nil
				}
				found = append(found, rows[i])
			}
			if time.Since(began) > searchBudget && more {
				return found, at, nil
			}
		}
		if time.Since(began) > searchBudget && len(rest) > 0 {
			return found, until, nil
		}
	}
	return found, 0, nil
}
