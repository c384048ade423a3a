package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Pages reads what only people look at; like Reader it shows leased jobs as
// running, and it checks what the requests ask for. *store.Store is one.
type Pages interface {
	Mosaic(ctx context.Context, id fsm.WorkflowID, req *heddlev1.MosaicRequest) (*heddlev1.MosaicResponse, error)
	Members(ctx context.Context, id fsm.WorkflowID, req *heddlev1.MembersRequest) (*heddlev1.MembersResponse, error)
	Lineage(ctx context.Context, id fsm.WorkflowID, req *heddlev1.LineageRequest) (*heddlev1.LineageResponse, error)
	CriticalPath(ctx context.Context, id fsm.WorkflowID, req *heddlev1.CriticalPathRequest) (*heddlev1.CriticalPathResponse, error)
	TimelineOf(ctx context.Context, id fsm.WorkflowID, req *heddlev1.TimelineRequest) (*heddlev1.TimelineResponse, error)
	Events(ctx context.Context, id fsm.WorkflowID, req *heddlev1.EventsRequest) (*heddlev1.EventsResponse, error)

	JobGroups(ctx context.Context, req *heddlev1.JobServiceGroupsRequest) (*heddlev1.JobServiceGroupsResponse, error)
	Relatives(ctx context.Context, id fsm.JobID) (*heddlev1.JobServiceRelativesResponse, error)

	Batches(ctx context.Context, req *heddlev1.BatchServiceListRequest) (*heddlev1.BatchServiceListResponse, error)
	// Batch 0 is the root.
	Batch(ctx context.Context, id fsm.WorkflowID, node int32) (*heddlev1.BatchServiceGetResponse, error)

	History(ctx context.Context, req *heddlev1.StatsServiceHistoryRequest) (*heddlev1.StatsServiceHistoryResponse, error)
	Database(ctx context.Context, req *heddlev1.StatsServiceDatabaseRequest) (*heddlev1.StatsServiceDatabaseResponse, error)
	Failures(ctx context.Context, req *heddlev1.StatsServiceFailuresRequest) (*heddlev1.StatsServiceFailuresResponse, error)
}

// ofWorkflow answers a request about one workflow.
func ofWorkflow[Q, A any](ctx context.Context, workflow string, req *Q, read func(context.Context, fsm.WorkflowID, *Q) (*A, error)) (*connect.Response[A], error) {
	id, err := wire.WorkflowID("workflow_id", workflow)
	if err != nil {
		return nil, err
	}
	res, err := read(ctx, id, req)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// Mosaic shows the states of a card's members.
func (s *workflows) Mosaic(ctx context.Context, req *connect.Request[heddlev1.MosaicRequest]) (*connect.Response[heddlev1.MosaicResponse], error) {
	return ofWorkflow(ctx, req.Msg.GetWorkflowId(), req.Msg, s.pages.Mosaic)
}

// Members pages through a card's members.
func (s *workflows) Members(ctx context.Context, req *connect.Request[heddlev1.MembersRequest]) (*connect.Response[heddlev1.MembersResponse], error) {
	if err := filter(req.Msg.GetStates()); err != nil {
		return nil, err
	}
	return ofWorkflow(ctx, req.Msg.GetWorkflowId(), req.Msg, s.pages.Members)
}

// Lineage shows what a node stands on and what stands on it.
func (s *workflows) Lineage(ctx context.Context, req *connect.Request[heddlev1.LineageRequest]) (*connect.Response[heddlev1.LineageResponse], error) {
	return ofWorkflow(ctx, req.Msg.GetWorkflowId(), req.Msg, s.pages.Lineage)
}

// CriticalPath shows what the workflow's end waited for.
func (s *workflows) CriticalPath(ctx context.Context, req *connect.Request[heddlev1.CriticalPathRequest]) (*connect.Response[heddlev1.CriticalPathResponse], error) {
	return ofWorkflow(ctx, req.Msg.GetWorkflowId(), req.Msg, s.pages.CriticalPath)
}

// Timeline shows when the nodes ran.
func (s *workflows) Timeline(ctx context.Context, req *connect.Request[heddlev1.TimelineRequest]) (*connect.Response[heddlev1.TimelineResponse], error) {
	return ofWorkflow(ctx, req.Msg.GetWorkflowId(), req.Msg, s.pages.TimelineOf)
}

// Events pages through what happened.
func (s *workflows) Events(ctx context.Context, req *connect.Request[heddlev1.EventsRequest]) (*connect.Response[heddlev1.EventsResponse], error) {
	return ofWorkflow(ctx, req.Msg.GetWorkflowId(), req.Msg, s.pages.Events)
}

// Groups counts jobs by what they have in common.
func (s *jobs) Groups(ctx context.Context, req *connect.Request[heddlev1.JobServiceGroupsRequest]) (*connect.Response[heddlev1.JobServiceGroupsResponse], error) {
	if err := filter(req.Msg.GetFilter().GetStates()); err != nil {
		return nil, err
	}
	return answer(ctx, req, s.pages.JobGroups)
}

// Relatives shows what stands directly before and after a node.
func (s *jobs) Relatives(ctx context.Context, req *connect.Request[heddlev1.JobServiceRelativesRequest]) (*connect.Response[heddlev1.JobServiceRelativesResponse], error) {
	id, err := wire.JobID("id", req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	res, err := s.pages.Relatives(ctx, id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// answer answers a request that the read checks itself.
func answer[Q, A any](ctx context.Context, req *connect.Request[Q], read func(context.Context, *Q) (*A, error)) (*connect.Response[A], error) {
	res, err := read(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}
