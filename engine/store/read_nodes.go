package store

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// edgesShown bounds the edges of one page of nodes.
const edgesShown = 5000

// AllNodes, given to Nodes as the batch, asks for the nodes of all batches.
const AllNodes dag.ID = -1

// Nodes pages through the nodes of a workflow by number: the direct members of
// a batch, or all. The edges are those into the nodes of the page, at most
// 5,000.
func (s *Store) Nodes(ctx context.Context, id fsm.WorkflowID, batch dag.ID, req *heddlev1.NodesRequest) (*heddlev1.NodesResponse, error) {
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
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := s.nodes(ctx, id, batch, newStateSet(req.GetStates()), after.node, size, now)
	if err != nil {
		return nil, fmt.Errorf("nodes of workflow %s: %w", id, err)
	}
	if len(resp.Jobs)+len(resp.Batches) == 0 && after.node == 0 {
		if _, err := s.Workflow(ctx, id); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func (s *Store) nodes(ctx context.Context, id fsm.WorkflowID, batch dag.ID, f stateSet, after, size int32, now time.Time) (*heddlev1.NodesResponse, error) {
	more := size + 1
	jobs, err := s.db.NodeJobs(ctx, db.NodeJobsParams{
		WorkflowID: id, After: after, Batch: int32(batch), MaxRows: more, Now: timestampOf(now),
		Blocked: f.blocked, Available: f.available, Scheduled: f.scheduled, Retryable: f.retryable, Outcomes: f.outcomes,
	})
	if err != nil {
		return nil, err
	}
	batches, err := s.db.NodeBatches(ctx, db.NodeBatchesParams{
		WorkflowID: id, After: after, Parent: int32(batch), MaxRows: more, Blocked: f.blocked, Running: f.running, Outcomes: f.outcomes,
	})
	if err != nil {
		return nil, err
	}
	resp := &heddlev1.NodesResponse{}
	var numbers []int32
	for i, j := 0, 0; i < len(jobs) || j < len(batches); {
		if int32(len(numbers)) == size {
			resp.NextPageToken = pageToken(key{id, numbers[size-1]})
			break
		}
		job, inner := int32(math.MaxInt32), int32(math.MaxInt32)
		if i < len(jobs) {
			job = jobs[i].Node
		}
		if j < len(batches) {
			inner = batches[j].Node
		}
		if inner < job {
			resp.Batches = append(resp.Batches, viewBatch(&batches[j]))
			numbers = append(numbers, inner)
			j++
			continue
		}
		row := viewRow(jobs[i])
		view, err := s.viewJob(ctx, &row, now)
		if err != nil {
			return nil, err
		}
		resp.Jobs = append(resp.Jobs, view)
		numbers = append(numbers, job)
		i++
	}
	if len(numbers) == 0 {
		return resp, nil
	}
	edges, err := s.db.EdgesAmong(ctx, db.EdgesAmongParams{WorkflowID: id, Children: numbers, MaxRows: edgesShown})
	if err != nil {
		return nil, err
	}
	for _, e := range edges {
		resp.Edges = append(resp.Edges, &heddlev1.Edge{Parent: e.Parent, Child: e.Child, On: uint32(e.OnSet)})
	}
	return resp, nil
}
