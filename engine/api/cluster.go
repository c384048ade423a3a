package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/raftsched/dispatch"
)

// Cluster is the cluster of engine nodes as this one knows it.
type Cluster interface {
	// Here is what this node knows of itself and the others.
	Here() *heddlev1.ClusterServiceStatusResponse
	// Status is the same, with what the other members say of themselves.
	Status(ctx context.Context) *heddlev1.ClusterServiceStatusResponse
	// Remove takes a member out for good; Transfer hands the leadership on and
	// tells to whom. Both answer ErrNotLeader on a node that does not lead.
	Remove(ctx context.Context, id string) error
	Transfer(ctx context.Context, to string) (leader string, err error)
	// Adopt takes the database from the cluster that owned it.
	Adopt(ctx context.Context, owner string) error

	// Meet and Join answer other nodes.
	Meet(req *heddlev1.PeerServiceMeetRequest) (*heddlev1.PeerServiceMeetResponse, error)
	Join(ctx context.Context, req *heddlev1.PeerServiceJoinRequest) (cluster string, err error)
	// Hint tells what another node has committed.
	Hint(hint Hint)
}

// Hint is what a node tells the leader of rows it has committed: a wake-up,
// never a row (C4).
type Hint struct {
	Lanes []dispatch.LanePriority
	// Cascades: batches wait for their members to be moved.
	Cascades bool
	// Expires is the earliest time at which one of the rows does, in microseconds
	// since the Unix epoch; 0: none.
	Expires int64
}

// cluster is the ClusterService.
type cluster struct{ cluster Cluster }

var _ heddlev1connect.ClusterServiceHandler = (*cluster)(nil)

// Status shows the cluster.
func (s *cluster) Status(ctx context.Context, req *connect.Request[heddlev1.ClusterServiceStatusRequest]) (*connect.Response[heddlev1.ClusterServiceStatusResponse], error) {
	if req.Msg.GetHere() {
		return connect.NewResponse(s.cluster.Here()), nil
	}
	return connect.NewResponse(s.cluster.Status(ctx)), nil
}

// Remove takes a member out.
func (s *cluster) Remove(ctx context.Context, req *connect.Request[heddlev1.ClusterServiceRemoveRequest]) (*connect.Response[heddlev1.ClusterServiceRemoveResponse], error) {
	if err := wire.Text("id", req.Msg.GetId()); err != nil {
		return nil, err
	}
	if err := s.cluster.Remove(ctx, req.Msg.GetId()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.ClusterServiceRemoveResponse{}), nil
}

// Transfer hands the leadership on.
func (s *cluster) Transfer(ctx context.Context, req *connect.Request[heddlev1.ClusterServiceTransferRequest]) (*connect.Response[heddlev1.ClusterServiceTransferResponse], error) {
	leader, err := s.cluster.Transfer(ctx, req.Msg.GetTo())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.ClusterServiceTransferResponse{Leader: leader}), nil
}

// Adopt takes the database over.
func (s *cluster) Adopt(ctx context.Context, req *connect.Request[heddlev1.ClusterServiceAdoptRequest]) (*connect.Response[heddlev1.ClusterServiceAdoptResponse], error) {
	if err := wire.Text("owner", req.Msg.GetOwner()); err != nil {
		return nil, err
	}
	if err := s.cluster.Adopt(ctx, req.Msg.GetOwner()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.ClusterServiceAdoptResponse{}), nil
}

// peers is the PeerService.
type peers struct{ cluster Cluster }

var _ heddlev1connect.PeerServiceHandler = (*peers)(nil)

// Meet tells another node who this one is.
func (s *peers) Meet(ctx context.Context, req *connect.Request[heddlev1.PeerServiceMeetRequest]) (*connect.Response[heddlev1.PeerServiceMeetResponse], error) {
	if err := certified(ctx, req.Msg.GetFrom().GetId()); err != nil {
		return nil, err
	}
	res, err := s.cluster.Meet(req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// Join takes a node in.
func (s *peers) Join(ctx context.Context, req *connect.Request[heddlev1.PeerServiceJoinRequest]) (*connect.Response[heddlev1.PeerServiceJoinResponse], error) {
	m := req.Msg.GetMember()
	for _, f := range []struct{ field, value string }{{"member.id", m.GetId()}, {"member.address", m.GetAddress()}, {"member.api", m.GetApi()}} {
		if err := wire.Text(f.field, f.value); err != nil {
			return nil, err
		}
	}
	speaks := m.GetId()
	if by := req.Msg.GetPassedOnBy(); by != "" {
		speaks = by
	}
	if err := certified(ctx, speaks); err != nil {
		return nil, err
	}
	id, err := s.cluster.Join(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.PeerServiceJoinResponse{ClusterId: id}), nil
}

// Hint wakes the dispatcher.
func (s *peers) Hint(ctx context.Context, req *connect.Request[heddlev1.PeerServiceHintRequest]) (*connect.Response[heddlev1.PeerServiceHintResponse], error) {
	if err := certified(ctx, ""); err != nil {
		return nil, err
	}
	lanes := make([]dispatch.LanePriority, len(req.Msg.GetLanes()))
	for i, l := range req.Msg.GetLanes() {
		lanes[i] = dispatch.LanePriority{Lane: dispatch.Lane{Route: l.GetRoute(), Key: l.GetKey()}, Priority: int16(l.GetPriority())}
	}
	s.cluster.Hint(Hint{Lanes: lanes, Cascades: req.Msg.GetCascades(), Expires: req.Msg.GetExpiresUs()})
	return connect.NewResponse(&heddlev1.PeerServiceHintResponse{}), nil
}

// Describe tells what this node knows.
func (s *peers) Describe(ctx context.Context, _ *connect.Request[heddlev1.PeerServiceDescribeRequest]) (*connect.Response[heddlev1.PeerServiceDescribeResponse], error) {
	if err := certified(ctx, ""); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.PeerServiceDescribeResponse{Status: s.cluster.Here()}), nil
}
