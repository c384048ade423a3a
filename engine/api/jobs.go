package api

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// jobs is the JobService.
type jobs struct {
	reader    Reader
	pages     Pages
	scheduler Scheduler
	commander Commander
}

var _ heddlev1connect.JobServiceHandler = (*jobs)(nil)

// Get shows one job.
func (s *jobs) Get(ctx context.Context, req *connect.Request[heddlev1.JobServiceGetRequest]) (*connect.Response[heddlev1.JobServiceGetResponse], error) {
	id, err := wire.JobID("id", req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	j, err := s.reader.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.JobServiceGetResponse{Job: j}), nil
}

// RunNow makes a scheduled or retryable job due.
func (s *jobs) RunNow(ctx context.Context, req *connect.Request[heddlev1.JobServiceRunNowRequest]) (*connect.Response[heddlev1.JobServiceRunNowResponse], error) {
	id, err := wire.JobID("id", req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	if err := s.commander.RunNow(ctx, id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.JobServiceRunNowResponse{}), nil
}

// List pages through jobs.
func (s *jobs) List(ctx context.Context, req *connect.Request[heddlev1.JobServiceListRequest]) (*connect.Response[heddlev1.JobServiceListResponse], error) {
	m := req.Msg
	var err error
	if m.PageSize, err = page(m.GetPageSize()); err != nil {
		return nil, err
	}
	if err := filter(m.GetStates()); err != nil {
		return nil, err
	}
	if err := wire.Key("kind", m.GetKind()); err != nil {
		return nil, err
	}
	if err := wire.Key("queue", m.GetQueue()); err != nil {
		return nil, err
	}
	if m.GetWorkflowId() != "" {
		if _, err := wire.WorkflowID("workflow_id", m.GetWorkflowId()); err != nil {
			return nil, err
		}
	}
	if err := filter(m.GetFilter().GetStates()); err != nil {
		return nil, err
	}
	return answer(ctx, req, s.reader.Jobs)
}

// Explain says why a job is not running: what the database knows, and for a
// job that is due what the dispatcher knows.
func (s *jobs) Explain(ctx context.Context, req *connect.Request[heddlev1.JobServiceExplainRequest]) (*connect.Response[heddlev1.JobServiceExplainResponse], error) {
	id, err := wire.JobID("id", req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	res, err := s.reader.Explain(ctx, id)
	if err != nil {
		return nil, err
	}
	if !waits(res.GetState()) {
		return connect.NewResponse(res), nil
	}
	if _, worker, leased := s.scheduler.LeaseOf(id); leased {
		res.State = heddlev1.State_STATE_RUNNING
		res.Reasons = []*heddlev1.Reason{{Code: "running", Text: fmt.Sprintf("it runs on worker %q", worker)}}
		return connect.NewResponse(res), nil
	}
	if res.GetState() == heddlev1.State_STATE_AVAILABLE {
		if err := s.explainWaiting(ctx, id, res); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(res), nil
}

// explainWaiting adds what keeps a due job from being dispatched. Where nothing
// does, it is about to be.
func (s *jobs) explainWaiting(ctx context.Context, id fsm.JobID, res *heddlev1.JobServiceExplainResponse) error {
	add := func(code, format string, args ...any) {
		res.Reasons = append(res.Reasons, &heddlev1.Reason{Code: code, Text: fmt.Sprintf(format, args...)})
	}
	if !s.scheduler.Ready() {
		add("no leader", "no engine node leads and dispatches at this moment")
		return nil
	}
	j, err := s.reader.Job(ctx, id)
	if err != nil {
		return err
	}
	switch served := s.scheduler.Serving(j.GetQueue(), j.GetKind()); {
	case !served.Queue:
		add("no worker for this queue", "no worker polls queue %q", j.GetQueue())
	case !served.Kind:
		add("no worker for this kind", "no worker that polls queue %q handles kind %q", j.GetQueue(), j.GetKind())
	case len(res.GetReasons()) > 0: // paused; workers are there
	case !served.Free:
		add("no free slot", "all workers that handle kind %q in queue %q are busy", j.GetKind(), j.GetQueue())
	default:
		add("dispatching", "it is due, and a worker waits for it: it starts in its order")
	}
	return nil
}
