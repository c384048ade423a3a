package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/internal/signpost"
)

// Bounds of the worker protocol.
const (
	maxSlots    = 100_000
	maxPoll     = 10_000
	maxQueues   = 100
	maxKinds    = 10_000
	maxWeight   = 1_000_000
	maxReports  = 10_000
	maxHeld     = 1_000_000
	maxLongPoll = 60 * time.Second
)

// worker is the WorkerService.
type worker struct {
	limits    wire.Limits
	ttl       time.Duration
	scheduler Scheduler
	completer Completer
	// leadership tells workers that came by another node where this one is; nil:
	// there are no others.
	leadership Leadership
}

var _ heddlev1connect.WorkerServiceHandler = (*worker)(nil)

// OpenSession begins a worker's stay.
func (s *worker) OpenSession(ctx context.Context, req *connect.Request[heddlev1.OpenSessionRequest]) (*connect.Response[heddlev1.OpenSessionResponse], error) {
	m := req.Msg
	if err := wire.Text("worker", m.GetWorker()); err != nil {
		return nil, err
	}
	if err := wire.Key("version", m.GetVersion()); err != nil {
		return nil, err
	}
	if err := wire.Key("process", m.GetProcess()); err != nil {
		return nil, err
	}
	if err := wire.Between("slots", m.GetSlots(), 1, maxSlots); err != nil {
		return nil, err
	}
	session, epoch, err := s.scheduler.OpenSession(ctx, Worker{
		Name: m.GetWorker(), Process: m.GetProcess(), Version: m.GetVersion(), Slots: int(m.GetSlots()),
	})
	if err != nil {
		return nil, err
	}
	res := &heddlev1.OpenSessionResponse{Session: session, Ttl: durationpb.New(s.ttl), Epoch: epoch}
	if s.leadership != nil && req.Header().Get(signpost.Forwarded) != "" {
		place, _ := s.leadership.Leader()
		res.Leader = place.Self
	}
	return connect.NewResponse(res), nil
}

// Poll waits for jobs.
func (s *worker) Poll(ctx context.Context, req *connect.Request[heddlev1.PollRequest]) (*connect.Response[heddlev1.PollResponse], error) {
	poll, err := pollRequest(req.Msg)
	if err != nil {
		return nil, err
	}
	grants, epoch, err := s.scheduler.Poll(ctx, poll)
	if err != nil {
		return nil, err
	}
	leases, err := leasesOf(grants, s.scheduler.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.PollResponse{Epoch: epoch, Leases: leases}), nil
}

// pollRequest checks and converts a poll.
func pollRequest(m *heddlev1.PollRequest) (PollRequest, error) {
	if err := session(m.GetSession()); err != nil {
		return PollRequest{}, err
	}
	if m.GetPoll() == 0 {
		return PollRequest{}, wire.Invalid("poll", "is 0; polls are numbered from 1")
	}
	if err := wire.Between("max_jobs", m.GetMaxJobs(), 1, maxPoll); err != nil {
		return PollRequest{}, err
	}
	wait, err := patience("wait", m.GetWait(), defaultWait, maxLongPoll)
	if err != nil {
		return PollRequest{}, err
	}
	served, err := servedQueues(m.GetQueues())
	if err != nil {
		return PollRequest{}, err
	}
	if n := len(m.GetKinds()); n == 0 || n > maxKinds {
		return PollRequest{}, wire.Invalid("kinds", "%d kinds are not in 1..%d", n, maxKinds)
	}
	for i, kind := range m.GetKinds() {
		if err := wire.Text("", kind); err != nil {
			return PollRequest{}, wire.Within(fmt.Sprintf("kinds[%d]", i), err)
		}
	}
	return PollRequest{
		Session: m.GetSession(), Poll: m.GetPoll(), Max: int(m.GetMaxJobs()),
		Queues: served, Kinds: m.GetKinds(), Wait: wait,
	}, nil
}

// session checks the number of a session.
func session(n uint64) error {
	if n == 0 {
		return wire.Invalid("session", "is 0; open a session first")
	}
	return nil
}

// servedQueues checks and converts the queues of a poll: all with a weight, or
// none.
func servedQueues(in []*heddlev1.QueueWeight) ([]Queue, error) {
	if len(in) == 0 || len(in) > maxQueues {
		return nil, wire.Invalid("queues", "%d queues are not in 1..%d", len(in), maxQueues)
	}
	out := make([]Queue, len(in))
	for i, q := range in {
		if err := servedQueue(q, in[:i]); err != nil {
			return nil, wire.Within(fmt.Sprintf("queues[%d]", i), err)
		}
		out[i] = Queue{Name: q.GetQueue(), Weight: int(q.GetWeight())}
	}
	return out, nil
}

// servedQueue checks one queue of a poll beside those before it.
func servedQueue(q *heddlev1.QueueWeight, before []*heddlev1.QueueWeight) error {
	if err := wire.Text("queue", q.GetQueue()); err != nil {
		return err
	}
	if err := wire.Between("weight", q.GetWeight(), 0, maxWeight); err != nil {
		return err
	}
	for _, p := range before {
		if p.GetQueue() == q.GetQueue() {
			return wire.Invalid("queue", "%q is named twice", q.GetQueue())
		}
	}
	if len(before) > 0 && (before[0].GetWeight() == 0) != (q.GetWeight() == 0) {
		return wire.Invalid("weight", "%d: give all queues a weight, or none", q.GetWeight())
	}
	return nil
}

// Report makes ends of attempts durable. A report at fault does not keep the
// others from it.
func (s *worker) Report(ctx context.Context, req *connect.Request[heddlev1.ReportRequest]) (*connect.Response[heddlev1.ReportResponse], error) {
	m := req.Msg
	if err := session(m.GetSession()); err != nil {
		return nil, err
	}
	reports := m.GetReports()
	if len(reports) > maxReports {
		return nil, wire.Invalid("reports", "%d reports are over the limit of %d", len(reports), maxReports)
	}
	faults := s.faults(reports)
	sound := reports
	if len(faults) > 0 {
		sound = make([]*heddlev1.AttemptReport, 0, len(reports))
		for i, r := range reports {
			if faults[i] == nil {
				sound = append(sound, r)
			}
		}
	}
	var ends []ReportResult
	if len(sound) > 0 {
		ends = s.completer.Report(ctx, m.GetSession(), sound)
	}
	results := make([]heddlev1.ReportResult, len(reports))
	answer := make([]*heddlev1.ReportResult, len(reports))
	next := 0
	for i := range results {
		answer[i] = &results[i]
		if fault := faults[i]; fault != nil {
			results[i].Status, results[i].Message = heddlev1.ReportStatus_REPORT_STATUS_INVALID, fault.Error()
			continue
		}
		results[i].Status, results[i].Message = ends[next].Status, ends[next].Message
		next++
	}
	epoch, _ := s.scheduler.Leader()
	return connect.NewResponse(&heddlev1.ReportResponse{Results: answer, Epoch: epoch}), nil
}

// faults names the reports that cannot be taken, by their place.
func (s *worker) faults(reports []*heddlev1.AttemptReport) map[int]error {
	var faults map[int]error
	for i, r := range reports {
		if err := s.limits.Report(r); err != nil {
			if faults == nil {
				faults = make(map[int]error)
			}
			faults[i] = wire.Within(fmt.Sprintf("reports[%d]", i), err)
		}
	}
	return faults
}

// Heartbeat takes a snapshot of what a worker holds and waits for commands.
func (s *worker) Heartbeat(ctx context.Context, req *connect.Request[heddlev1.HeartbeatRequest]) (*connect.Response[heddlev1.HeartbeatResponse], error) {
	m := req.Msg
	if err := session(m.GetSession()); err != nil {
		return nil, err
	}
	wait, err := wire.Duration("wait", m.GetWait(), maxLongPoll)
	if err != nil {
		return nil, err
	}
	held, err := heldLeases(m.GetHeld())
	if err != nil {
		return nil, err
	}
	c, err := s.scheduler.Heartbeat(ctx, Heartbeat{
		Session: m.GetSession(), PollsClosed: m.GetPollsClosed(), Held: held,
		CommandsSeen: m.GetCommandsSeen(), Wait: wait,
	})
	if errors.Is(err, ErrUnknownSession) {
		epoch, _ := s.scheduler.Leader()
		return connect.NewResponse(&heddlev1.HeartbeatResponse{Reopen: true, Epoch: epoch, Ttl: durationpb.New(s.ttl)}), nil
	}
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.HeartbeatResponse{
		Epoch: c.Epoch, Cancel: namedLeases(c.Cancel), Lost: namedLeases(c.Lost),
		Drain: c.Drain, Commands: c.Number, Ttl: durationpb.New(s.ttl),
	}), nil
}

// CloseSession ends a worker's stay.
func (s *worker) CloseSession(ctx context.Context, req *connect.Request[heddlev1.CloseSessionRequest]) (*connect.Response[heddlev1.CloseSessionResponse], error) {
	if err := session(req.Msg.GetSession()); err != nil {
		return nil, err
	}
	err := s.scheduler.CloseSession(ctx, req.Msg.GetSession(), req.Msg.GetPollsClosed())
	if err != nil && !errors.Is(err, ErrUnknownSession) {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.CloseSessionResponse{}), nil
}
