package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// Live shows what changes. The views it is asked for are checked.
type Live interface {
	// Look gives a view as it is now, or was a moment ago.
	Look(ctx context.Context, view *heddlev1.View) (*heddlev1.Sight, error)
	// Watch sends a view at once and after changes, until ctx or send ends it.
	Watch(ctx context.Context, view *heddlev1.View, send func(*heddlev1.Sight) error) error
}

// live is the LiveService.
type live struct{ live Live }

var _ heddlev1connect.LiveServiceHandler = (*live)(nil)

// checkView checks a view; none is that of the frame alone.
func checkView(v *heddlev1.View) (*heddlev1.View, error) {
	if v == nil {
		return &heddlev1.View{}, nil
	}
	if v.GetWorkflowId() != "" {
		if _, err := wire.WorkflowID("view.workflow_id", v.GetWorkflowId()); err != nil {
			return nil, err
		}
	}
	if v.GetMaxCards() == 0 {
		v.MaxCards = defaultCard
	}
	return v, wire.Between("view.max_cards", v.GetMaxCards(), 1, maxCards)
}

// Look shows a view once.
func (s *live) Look(ctx context.Context, req *connect.Request[heddlev1.LiveServiceLookRequest]) (*connect.Response[heddlev1.LiveServiceLookResponse], error) {
	view, err := checkView(req.Msg.GetView())
	if err != nil {
		return nil, err
	}
	sight, err := s.live.Look(ctx, view)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.LiveServiceLookResponse{Sight: sight}), nil
}

// Watch shows a view and its changes.
func (s *live) Watch(ctx context.Context, req *connect.Request[heddlev1.LiveServiceWatchRequest], stream *connect.ServerStream[heddlev1.LiveServiceWatchResponse]) error {
	view, err := checkView(req.Msg.GetView())
	if err != nil {
		return err
	}
	return s.live.Watch(ctx, view, func(sight *heddlev1.Sight) error {
		return stream.Send(&heddlev1.LiveServiceWatchResponse{Sight: sight})
	})
}
