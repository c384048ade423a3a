package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Operations does one thing to many jobs. The caller in a context is their
// author.
type Operations interface {
	Count(ctx context.Context, action heddlev1.Action, sel *heddlev1.Selection) (jobs int64, more bool, err error)
	Start(ctx context.Context, req *heddlev1.OperationServiceStartRequest) (*heddlev1.Operation, error)
	Get(ctx context.Context, id fsm.WorkflowID) (*heddlev1.Operation, error)
	List(ctx context.Context, req *heddlev1.OperationServiceListRequest) (*heddlev1.OperationServiceListResponse, error)
	Stop(ctx context.Context, id fsm.WorkflowID) error
}

// operations is the OperationService.
type operations struct{ operations Operations }

var _ heddlev1connect.OperationServiceHandler = (*operations)(nil)

// Count tells how many jobs an operation would take on.
func (s *operations) Count(ctx context.Context, req *connect.Request[heddlev1.OperationServiceCountRequest]) (*connect.Response[heddlev1.OperationServiceCountResponse], error) {
	if err := filter(req.Msg.GetSelection().GetFilter().GetStates()); err != nil {
		return nil, err
	}
	jobs, more, err := s.operations.Count(ctx, req.Msg.GetAction(), req.Msg.GetSelection())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.OperationServiceCountResponse{Jobs: jobs, More: more}), nil
}

// Start begins an operation; the leader works it off.
func (s *operations) Start(ctx context.Context, req *connect.Request[heddlev1.OperationServiceStartRequest]) (*connect.Response[heddlev1.OperationServiceStartResponse], error) {
	if err := filter(req.Msg.GetSelection().GetFilter().GetStates()); err != nil {
		return nil, err
	}
	if err := wire.Note("note", req.Msg.GetNote()); err != nil {
		return nil, err
	}
	if _, err := wire.WorkflowID("id", req.Msg.GetId()); err != nil {
		return nil, err
	}
	op, err := s.operations.Start(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.OperationServiceStartResponse{Operation: op}), nil
}

// Get shows one operation.
func (s *operations) Get(ctx context.Context, req *connect.Request[heddlev1.OperationServiceGetRequest]) (*connect.Response[heddlev1.OperationServiceGetResponse], error) {
	id, err := wire.WorkflowID("id", req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	op, err := s.operations.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.OperationServiceGetResponse{Operation: op}), nil
}

// List pages through operations.
func (s *operations) List(ctx context.Context, req *connect.Request[heddlev1.OperationServiceListRequest]) (*connect.Response[heddlev1.OperationServiceListResponse], error) {
	var err error
	if req.Msg.PageSize, err = page(req.Msg.GetPageSize()); err != nil {
		return nil, err
	}
	res, err := s.operations.List(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// Stop ends an operation after its present part.
func (s *operations) Stop(ctx context.Context, req *connect.Request[heddlev1.OperationServiceStopRequest]) (*connect.Response[heddlev1.OperationServiceStopResponse], error) {
	id, err := wire.WorkflowID("id", req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	if err := s.operations.Stop(ctx, id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.OperationServiceStopResponse{}), nil
}
