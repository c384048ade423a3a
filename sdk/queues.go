package heddle

import (
	"context"
	"time"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// QueueStatus is what is known of a queue at one moment.
type QueueStatus struct {
	Name   string
	Paused bool
	// Available jobs are due and wait; they are counted up to a limit, beyond
	// which More is set.
	Available int64
	More      bool
	Running   int64
	// Oldest is when the job that has waited longest was due; zero: none waits.
	Oldest time.Time
}

// Queues lists the queues the engine knows.
func (c *Client) Queues(ctx context.Context) ([]QueueStatus, error) {
	return call(ctx, c, "list queues", repeatable, func(ctx context.Context, e *endpoint, _ int) ([]QueueStatus, error) {
		res, err := e.queues.List(ctx, connect.NewRequest(&heddlev1.QueueServiceListRequest{}))
		if err != nil {
			return nil, err
		}
		all := make([]QueueStatus, len(res.Msg.GetQueues()))
		for i, q := range res.Msg.GetQueues() {
			all[i] = QueueStatus{
				Name: q.GetName(), Paused: q.GetPaused(), Available: q.GetAvailable(), More: q.GetMore(), Running: q.GetRunning(), Oldest: timeOf(q.GetOldest()),
			}
		}
		return all, nil
	})
}

// PauseQueue holds back what has not started in the queue; running jobs finish.
func (c *Client) PauseQueue(ctx context.Context, queue string) error {
	_, err := call(ctx, c, "pause queue "+queue, repeatable, func(ctx context.Context, e *endpoint, _ int) (struct{}, error) {
		_, err := e.queues.Pause(ctx, connect.NewRequest(&heddlev1.QueueServicePauseRequest{Queue: queue}))
		return struct{}{}, err
	})
	return err
}

// ResumeQueue ends the pause of a queue.
func (c *Client) ResumeQueue(ctx context.Context, queue string) error {
	_, err := call(ctx, c, "resume queue "+queue, repeatable, func(ctx context.Context, e *endpoint, _ int) (struct{}, error) {
		_, err := e.queues.Resume(ctx, connect.NewRequest(&heddlev1.QueueServiceResumeRequest{Queue: queue}))
		return struct{}{}, err
	})
	return err
}
