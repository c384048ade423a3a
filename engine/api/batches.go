package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// batches is the BatchService.
type batches struct{ pages Pages }

var _ heddlev1connect.BatchServiceHandler = (*batches)(nil)

// List pages through batches.
func (s *batches) List(ctx context.Context, req *connect.Request[heddlev1.BatchServiceListRequest]) (*connect.Response[heddlev1.BatchServiceListResponse], error) {
	if err := filter(req.Msg.GetStates()); err != nil {
		return nil, err
	}
	return answer(ctx, req, s.pages.Batches)
}

// Get shows one batch, 0 being the root.
func (s *batches) Get(ctx context.Context, req *connect.Request[heddlev1.BatchServiceGetRequest]) (*connect.Response[heddlev1.BatchServiceGetResponse], error) {
	id, err := wire.WorkflowID("workflow_id", req.Msg.GetWorkflowId())
	if err != nil {
		return nil, err
	}
	node, err := wire.Node("node", req.Msg.GetNode())
	if err != nil {
		return nil, err
	}
	res, err := s.pages.Batch(ctx, id, int32(node))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}
