package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// workflows is the WorkflowService.
type workflows struct {
	limits    wire.Limits
	scheduler Scheduler
	reader    Reader
	pages     Pages
	submitter Submitter
	commander Commander
	watcher   Watcher
}

var _ heddlev1connect.WorkflowServiceHandler = (*workflows)(nil)

// Bounds of what one answer holds.
const (
	maxPage     = 500
	defaultPage = 50
	maxCards    = 2000
	defaultCard = 400
	maxStates   = 16
)

// page checks the size of a page and gives the default for 0.
func page(size int32) (int32, error) {
	if size == 0 {
		return defaultPage, nil
	}
	return size, wire.Between("page_size", size, 1, maxPage)
}

// filter checks a filter of states.
func filter(states []heddlev1.State) error {
	if len(states) > maxStates {
		return wire.Invalid("states", "%d states are over the limit of %d", len(states), maxStates)
	}
	for _, s := range states {
		if _, known := heddlev1.State_name[int32(s)]; !known || s == heddlev1.State_STATE_UNSPECIFIED {
			return wire.Invalid("states", "%d is no state", int32(s))
		}
	}
	return nil
}

// Get shows one workflow.
func (s *workflows) Get(ctx context.Context, req *connect.Request[heddlev1.GetRequest]) (*connect.Response[heddlev1.GetResponse], error) {
	id, err := wire.WorkflowID("workflow_id", req.Msg.GetWorkflowId())
	if err != nil {
		return nil, err
	}
	w, err := s.reader.Workflow(ctx, id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.GetResponse{Workflow: w}), nil
}

// List pages through workflows.
func (s *workflows) List(ctx context.Context, req *connect.Request[heddlev1.ListRequest]) (*connect.Response[heddlev1.ListResponse], error) {
	m := req.Msg
	var err error
	if m.PageSize, err = page(m.GetPageSize()); err != nil {
		return nil, err
	}
	if err := filter(m.GetStates()); err != nil {
		return nil, err
	}
	if err := wire.Key("name", m.GetName()); err != nil {
		return nil, err
	}
	res, err := s.reader.Workflows(ctx, m)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// Graph shows the cards of the graph view.
func (s *workflows) Graph(ctx context.Context, req *connect.Request[heddlev1.GraphRequest]) (*connect.Response[heddlev1.GraphResponse], error) {
	id, err := wire.WorkflowID("workflow_id", req.Msg.GetWorkflowId())
	if err != nil {
		return nil, err
	}
	cards := req.Msg.GetMaxCards()
	if cards == 0 {
		cards = defaultCard
	}
	if err := wire.Between("max_cards", cards, 1, maxCards); err != nil {
		return nil, err
	}
	res, err := s.reader.Graph(ctx, id, int(cards))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// Nodes pages through the nodes of a workflow.
func (s *workflows) Nodes(ctx context.Context, req *connect.Request[heddlev1.NodesRequest]) (*connect.Response[heddlev1.NodesResponse], error) {
	m := req.Msg
	id, err := wire.WorkflowID("workflow_id", m.GetWorkflowId())
	if err != nil {
		return nil, err
	}
	if m.PageSize, err = page(m.GetPageSize()); err != nil {
		return nil, err
	}
	if err := filter(m.GetStates()); err != nil {
		return nil, err
	}
	batch := dag.NoBatch
	if m.GetBatch() != "" {
		if batch, err = s.batch(ctx, id, "batch", m.GetBatch()); err != nil {
			return nil, err
		}
	}
	res, err := s.reader.Nodes(ctx, id, batch, m)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// Results streams the results of a job or of the jobs in a batch. A page is
// held back until the next one comes: only then, or at the end, is it known
// whether the path names a batch.
func (s *workflows) Results(ctx context.Context, req *connect.Request[heddlev1.ResultsRequest], stream *connect.ServerStream[heddlev1.ResultsResponse]) error {
	m := req.Msg
	id, err := wire.WorkflowID("workflow_id", m.GetWorkflowId())
	if err != nil {
		return err
	}
	from, err := wire.Node("from_node", m.GetFromNode())
	if err != nil {
		return err
	}
	if err := wire.Path("path", m.GetPath()); err != nil {
		return err
	}
	var held []*heddlev1.Result
	isBatch, err := s.reader.Results(ctx, id, from, m.GetPath(), func(next []*heddlev1.Result) error {
		if len(held) > 0 {
			if err := stream.Send(&heddlev1.ResultsResponse{Results: held, Batch: true}); err != nil {
				return err
			}
		}
		held = append([]*heddlev1.Result(nil), next...)
		return nil
	})
	if err != nil {
		return err
	}
	return stream.Send(&heddlev1.ResultsResponse{Results: held, Batch: isBatch})
}

// batch finds a batch by its path.
func (s *workflows) batch(ctx context.Context, id fsm.WorkflowID, field, path string) (dag.ID, error) {
	if err := wire.Path(field, path); err != nil {
		return 0, err
	}
	node, isBatch, err := s.reader.Resolve(ctx, id, dag.Root, path)
	if err != nil {
		return 0, err
	}
	if !isBatch {
		return 0, wire.Invalid(field, "%q is no batch", path)
	}
	return node, nil
}
