package api

import (
	"context"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// Sessions shows the workers.
type Sessions interface {
	// Sessions lists the open sessions by id with some of the jobs they run; or
	// one, with all of them.
	Sessions(ctx context.Context, only uint64) ([]*heddlev1.Session, error)
}

// sessions is the SessionService.
type sessions struct {
	sessions  Sessions
	commander Commander
}

var _ heddlev1connect.SessionServiceHandler = (*sessions)(nil)

// List shows the sessions.
func (s *sessions) List(ctx context.Context, req *connect.Request[heddlev1.SessionServiceListRequest]) (*connect.Response[heddlev1.SessionServiceListResponse], error) {
	all, err := s.sessions.Sessions(ctx, req.Msg.GetSession())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.SessionServiceListResponse{Sessions: all}), nil
}

// Drain has a worker stop when its jobs have ended.
func (s *sessions) Drain(ctx context.Context, req *connect.Request[heddlev1.SessionServiceDrainRequest]) (*connect.Response[heddlev1.SessionServiceDrainResponse], error) {
	if err := s.commander.Drain(ctx, req.Msg.GetSession()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.SessionServiceDrainResponse{}), nil
}
