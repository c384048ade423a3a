package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// pathSteps bounds the steps of a critical path.
const pathSteps = 1000

// CriticalPath follows what released what, back from the node that ended last, or
// from the open job that became due last. A batch on the way stands behind its
// members, where it has ended, else before them.
func (s *Store) CriticalPath(ctx context.Context, id fsm.WorkflowID, req *heddlev1.CriticalPathRequest) (*heddlev1.CriticalPathResponse, error) {
	w, err := s.show(ctx, id, req.GetMaxCards())
	if err != nil {
		return nil, err
	}
	walk := pathWalk{s: s, w: w, facts: map[int32]*fact{}, seen: map[int32]bool{}}
	if err := walk.back(ctx); err != nil {
		return nil, fmt.Errorf("critical path of workflow %s: %w", id, err)
	}
	slices.Reverse(walk.path)
	resp := &heddlev1.CriticalPathResponse{More: walk.more}
	for _, node := range walk.path {
		f := walk.facts[node]
		resp.Steps = append(resp.Steps, &heddlev1.PathStep{
			Node: node, Group: w.picture.cardOf(node), Name: f.Name, Kind: f.kind, IsBatch: f.IsBatch, State: f.state,
			ReleasedAt: walk.released(f), StartedAt: stamp(f.StartedAt), FinishedAt: stamp(f.FinishedAt),
		})
	}
	return resp, nil
}

// pathWalk goes back along the critical path.
type pathWalk struct {
	s     *Store
	w     *shown
	facts map[int32]*fact
	seen  map[int32]bool
	path  []int32 // the last step first
	more  bool
}

// back walks from the end to a node that nobody released in the root.
func (p *pathWalk) back(ctx context.Context) error {
	node, err := p.last(ctx)
	if err != nil {
		return err
	}
	for node != 0 && !p.more {
		if p.seen[node] {
			// Its batch, from whose end the walk came in: on to what released that.
			if node, err = p.before(ctx, node); err != nil {
				return err
			}
			continue
		}
		chain, err := p.s.rdb.ReleaseChain(ctx, db.ReleaseChainParams{WorkflowID: p.w.id, Node: node, MaxSteps: pathSteps})
		if err != nil {
			return err
		}
		if err := p.know(ctx, chain); err != nil {
			return err
		}
		for _, n := range chain {
			if p.facts[n] == nil || p.seen[n] {
				return nil // pruned, or retried meanwhile
			}
			if len(p.path) == pathSteps {
				p.more = true
				return nil
			}
			p.seen[n] = true
			p.path = append(p.path, n)
			node = n
		}
		f := p.facts[node]
		if f.IsBatch && f.outcome() != 0 {
			// It ended with its last member.
			member, err := p.lastMember(ctx, node)
			if err != nil {
				return err
			}
			if member != 0 {
				node = member
				continue
			}
		}
		if node, err = p.before(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

// before is what a node waited for that is on the path: its releaser, else the
// batch around it, 0 being the root.
func (p *pathWalk) before(ctx context.Context, node int32) (int32, error) {
	f := p.facts[node]
	if f.ReleasedBy != 0 {
		if p.seen[f.ReleasedBy] {
			return 0, nil
		}
		return f.ReleasedBy, nil
	}
	if f.Batch == 0 {
		return 0, nil
	}
	return f.Batch, p.know(ctx, []int32{f.Batch})
}

// know reads the facts of nodes.
func (p *pathWalk) know(ctx context.Context, nodes []int32) error {
	missing := slices.DeleteFunc(slices.Clone(nodes), func(n int32) bool { return p.facts[n] != nil })
	facts, err := p.s.facts(ctx, p.w.id, missing, p.w.now)
	for n, f := range facts {
		p.facts[n] = f
	}
	return err
}

// last is where the path ends.
func (p *pathWalk) last(ctx context.Context) (int32, error) {
	if p.w.picture.lone {
		return 1, nil
	}
	open, err := p.s.rdb.LastReleased(ctx, db.LastReleasedParams{WorkflowID: p.w.id, Now: timestampOf(p.w.now)})
	if err != nil {
		return 0, err
	}
	if len(open) > 0 {
		return open[0], nil
	}
	return p.member(ctx, 0, 1, p.w.nodes)
}

// lastMember is the direct member of a batch that ended last, 0 if there is none.
func (p *pathWalk) lastMember(ctx context.Context, batch int32) (int32, error) {
	rows, err := p.s.rdb.GetBatch(ctx, db.GetBatchParams{WorkflowID: p.w.id, Node: batch})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	return p.member(ctx, batch, rows[0].Lo, rows[0].Hi)
}

func (p *pathWalk) member(ctx context.Context, batch, lo, hi int32) (int32, error) {
	nodes, err := p.s.rdb.LastEndedMember(ctx, db.LastEndedMemberParams{WorkflowID: p.w.id, Lo: lo, Hi: hi, Batch: batch})
	if err != nil || len(nodes) == 0 {
		return 0, err
	}
	return nodes[0], p.know(ctx, nodes)
}

// released is when the last thing that a node waited for was over.
func (p *pathWalk) released(f *fact) *timestamppb.Timestamp {
	if f.state == heddlev1.State_STATE_BLOCKED {
		return nil
	}
	var at pgtype.Timestamptz
	switch {
	case f.ReleasedBy != 0:
		if by := p.facts[f.ReleasedBy]; by != nil {
			at = by.FinishedAt
		}
	case f.Batch != 0:
		if around := p.facts[f.Batch]; around != nil {
			at = around.StartedAt
		}
	default:
		return timestamppb.New(later(idTime(p.w.id), time.Unix(0, 0)))
	}
	return stamp(at)
}
