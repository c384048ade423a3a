package api

import (
	"cmp"
	"context"
	"slices"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// queues is the QueueService.
type queues struct {
	reader    Reader
	scheduler Scheduler
	commander Commander
}

var _ heddlev1connect.QueueServiceHandler = (*queues)(nil)

// List shows all queues by name. The database counts running jobs as
// available.
func (s *queues) List(ctx context.Context, _ *connect.Request[heddlev1.QueueServiceListRequest]) (*connect.Response[heddlev1.QueueServiceListResponse], error) {
	all, err := s.reader.Queues(ctx)
	if err != nil {
		return nil, err
	}
	running := s.scheduler.Running()
	for _, q := range all {
		q.Running = int64(running[q.GetName()])
		if !q.GetMore() {
			q.Available = max(q.GetAvailable()-q.GetRunning(), 0)
		}
	}
	slices.SortFunc(all, func(a, b *heddlev1.Queue) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return connect.NewResponse(&heddlev1.QueueServiceListResponse{Queues: all}), nil
}

// Pause stops the dispatch of a queue.
func (s *queues) Pause(ctx context.Context, req *connect.Request[heddlev1.QueueServicePauseRequest]) (*connect.Response[heddlev1.QueueServicePauseResponse], error) {
	if err := s.setPaused(ctx, req.Msg.GetQueue(), true); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.QueueServicePauseResponse{}), nil
}

// Resume starts it again.
func (s *queues) Resume(ctx context.Context, req *connect.Request[heddlev1.QueueServiceResumeRequest]) (*connect.Response[heddlev1.QueueServiceResumeResponse], error) {
	if err := s.setPaused(ctx, req.Msg.GetQueue(), false); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.QueueServiceResumeResponse{}), nil
}

func (s *queues) setPaused(ctx context.Context, queue string, paused bool) error {
	if err := wire.Text("queue", queue); err != nil {
		return err
	}
	return s.commander.SetQueuePaused(ctx, queue, paused)
}
