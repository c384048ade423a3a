package heddle

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// yard has queues.
type yard struct{ calls []string }

func (y *yard) List(context.Context, *connect.Request[heddlev1.QueueServiceListRequest]) (*connect.Response[heddlev1.QueueServiceListResponse], error) {
	return respond(&heddlev1.QueueServiceListResponse{Queues: []*heddlev1.Queue{
		{Name: "bulk", Paused: true, Available: 10_000, More: true, Running: 3, Oldest: timestamppb.New(time.Unix(7, 0))}, {Name: "default"},
	}}, nil)
}

func (y *yard) Pause(_ context.Context, r *connect.Request[heddlev1.QueueServicePauseRequest]) (*connect.Response[heddlev1.QueueServicePauseResponse], error) {
	y.calls = append(y.calls, "pause "+r.Msg.GetQueue())
	return respond(&heddlev1.QueueServicePauseResponse{}, nil)
}

func (y *yard) Resume(_ context.Context, r *connect.Request[heddlev1.QueueServiceResumeRequest]) (*connect.Response[heddlev1.QueueServiceResumeResponse], error) {
	y.calls = append(y.calls, "resume "+r.Msg.GetQueue())
	return respond(&heddlev1.QueueServiceResumeResponse{}, connect.NewError(connect.CodeNotFound, errors.New("no queue of that name")))
}

func TestQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := &yard{}
		p := newPeer()
		p.queues = y
		c, _, done := serve(t, ClientConfig{}, p)
		defer done()
		all, err := c.Queues(t.Context())
		if err != nil || len(all) != 2 {
			t.Fatalf("%v, %v", all, err)
		}
		if want := (QueueStatus{Name: "bulk", Paused: true, Available: 10_000, More: true, Running: 3, Oldest: time.Unix(7, 0).UTC()}); all[0] != want || !all[1].Oldest.IsZero() {
			t.Errorf("queues: %+v", all)
		}
		if err := c.PauseQueue(t.Context(), "bulk"); err != nil {
			t.Error(err)
		}
		if err := c.ResumeQueue(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if got := strings.Join(y.calls, ","); got != "pause bulk,resume x" {
			t.Errorf("calls: %s", got)
		}
	})
}
