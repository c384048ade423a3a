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
	found, more, err := s.nodesBetween(ctx, id, batch, f, after, math.MaxInt32, int(size), now)
	if err != nil || len(found) == 0 {
		return &heddlev1.NodesResponse{}, err
	}
	resp := &heddlev1.NodesResponse{}
	if more {
		resp.NextPageToken = pageToken(key{id, found[len(found)-1].number})
	}
	numbers := make([]int32, len(found))
	for i, n := range found {
		numbers[i] = n.number
		if n.batch != nil {
			resp.Batches = append(resp.Batches, viewBatch(n.batch))
			continue
		}
		view, err := s.viewJob(ctx, n.job, now)
		if err != nil {
			return nil, err
		}
		resp.Jobs = append(resp.Jobs, view)
	}
	edges, err := s.rdb.EdgesAmong(ctx, db.EdgesAmongParams{WorkflowID: id, Children: numbers, MaxRows: edgesShown})
	if err != nil {
		return nil, err
	}
	for _, e := range edges {
		resp.Edges = append(resp.Edges, &heddlev1.Edge{Parent: e.Parent, Child: e.Child, On: uint32(e.OnSet)})
	}
	return resp, nil
}

// oneNode is a job or a batch.
type oneNode struct {
	number int32
	job    *viewRow
	batch  *db.Batch
}

// nodesBetween reads nodes behind a number, up to another, by number, the direct
// members of a batch or all. more says that there are others.
func (s *Store) nodesBetween(ctx context.Context, id fsm.WorkflowID, batch dag.ID, f stateSet, after, until int32, size int, now time.Time) (found []oneNode, more bool, err error) {
	jobs, err := s.rdb.NodeJobs(ctx, db.NodeJobsParams{
		WorkflowID: id, After: after, Until: until, Batch: int32(batch), MaxRows: int32(size) + 1, Now: timestampOf(now), Leased: s.leasedNodes(id),
		Blocked: f.blocked, Running: f.running, Available: f.available, Scheduled: f.scheduled, Retryable: f.retryable, Outcomes: f.outcomes,
	})
	if err != nil {
		return nil, false, err
	}
	batches, err := s.rdb.NodeBatches(ctx, db.NodeBatchesParams{
		WorkflowID: id, After: after, Until: until, Parent: int32(batch), MaxRows: int32(size) + 1, Blocked: f.blocked, Running: f.running, Outcomes: f.outcomes,
	})
	if err != nil {
		return nil, false, err
	}
	for i, j := 0, 0; i < len(jobs) || j < len(batches); {
		if len(found) == size {
			return found, true, nil
		}
		if i == len(jobs) || j < len(batches) && batches[j].Node < jobs[i].Node {
			found = append(found, oneNode{number: batches[j].Node, batch: &batches[j]})
			j++
			continue
		}
		row := viewRow(jobs[i])
		found = append(found, oneNode{number: row.Node, job: &row})
		i++
	}
	return found, false, nil
}
