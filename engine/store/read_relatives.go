package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// relativesShown bounds the relatives of each kind.
const relativesShown = 100

// Relatives gives what stands directly before and behind a node, job or batch,
// and the batches around it, the workflow first.
func (s *Store) Relatives(ctx context.Context, id fsm.JobID) (*heddlev1.JobServiceRelativesResponse, error) {
	resp, err := s.relatives(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("relatives of %s: %w", id, err)
	}
	return resp, nil
}

func (s *Store) relatives(ctx context.Context, id fsm.JobID) (*heddlev1.JobServiceRelativesResponse, error) {
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	up, err := s.rdb.EdgesUp(ctx, db.EdgesUpParams{WorkflowID: id.Workflow, Nodes: []int32{id.Node}, MaxRows: relativesShown})
	if err != nil {
		return nil, err
	}
	down, err := s.rdb.EdgesDown(ctx, db.EdgesDownParams{WorkflowID: id.Workflow, Nodes: []int32{id.Node}, MaxRows: relativesShown})
	if err != nil {
		return nil, err
	}
	nodes := []int32{id.Node}
	for _, e := range up {
		nodes = append(nodes, e.Parent)
	}
	for _, e := range down {
		nodes = append(nodes, e.Child)
	}
	slices.Sort(nodes)
	facts, err := s.facts(ctx, id.Workflow, slices.Compact(nodes), now)
	if err != nil {
		return nil, err
	}
	self := facts[id.Node]
	if self == nil {
		return nil, notFoundJob(id)
	}
	resp := &heddlev1.JobServiceRelativesResponse{BeforeTotal: int32(len(up)), AfterTotal: int32(len(down))}
	for _, e := range up {
		if f := facts[e.Parent]; f != nil {
			resp.Before = append(resp.Before, relative(f, f, int32(e.OnSet)))
		}
	}
	for _, e := range down {
		if f := facts[e.Child]; f != nil {
			resp.After = append(resp.After, relative(f, self, int32(e.OnSet)))
		}
	}
	if len(up) == relativesShown || len(down) == relativesShown {
		total, err := s.rdb.CountEdges(ctx, db.CountEdgesParams{WorkflowID: id.Workflow, Node: id.Node})
		if err != nil {
			return nil, err
		}
		resp.BeforeTotal, resp.AfterTotal = int32(total.Up), int32(total.Down)
	}
	root, err := s.rdb.FindWorkflow(ctx, id.Workflow)
	if err != nil {
		return nil, err
	}
	for _, w := range root { // a lone job has none: that tells it from others
		resp.Around = append(resp.Around, &heddlev1.BatchName{Name: text(w.Name), State: batchState(w.State, w.Outcome)})
	}
	if self.Batch == 0 {
		return resp, nil
	}
	around, err := s.rdb.BatchAncestry(ctx, db.BatchAncestryParams{WorkflowID: id.Workflow, Node: self.Batch})
	if err != nil {
		return nil, err
	}
	slices.Reverse(around)
	for _, b := range around {
		resp.Around = append(resp.Around, &heddlev1.BatchName{Node: b.Node, Name: text(b.Name), State: batchState(b.State, b.Outcome)})
	}
	return resp, nil
}

// relative shows one end of an edge whose parent decides what became of it. A
// failed parent that holds keeps its other edges open.
func relative(f, parent *fact, on int32) *heddlev1.Relative {
	r := &heddlev1.Relative{Node: f.Node, Name: f.Name, Kind: f.kind, State: f.state, On: uint32(on)}
	if outcome := parent.outcome(); outcome != 0 {
		r.Fired = outcome&on != 0
		r.Died = !r.Fired && !(parent.state == heddlev1.State_STATE_FAILED && parent.Flags&FlagHold != 0)
	}
	return r
}
