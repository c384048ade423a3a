package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

func (f *fake) workerService() *worker {
	return &worker{limits: wire.Limits{MaxBody: 10, MaxNodes: 10}, ttl: 15 * time.Second, scheduler: f, completer: f}
}

func TestPoll(t *testing.T) {
	f := &fake{}
	if err := failure(f.workerService().Poll, &heddlev1.PollRequest{
		Session: 11, Poll: 4, MaxJobs: 5, Kinds: []string{"a", "b"},
		Queues: []*heddlev1.QueueWeight{{Queue: "q", Weight: 3}, {Queue: "r", Weight: 1}}, Wait: durationpb.New(time.Second)}); err != nil {
		t.Fatal(err)
	}
	want := PollRequest{Session: 11, Poll: 4, Max: 5, Kinds: []string{"a", "b"}, Queues: []Queue{{"q", 3}, {"r", 1}}, Wait: time.Second}
	if got := f.last(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	f.err = ErrUnknownSession
	if err := failure(f.workerService().Poll, &heddlev1.PollRequest{
		Session: 11, Poll: 5, MaxJobs: 5, Kinds: []string{"a"}, Queues: []*heddlev1.QueueWeight{{Queue: "q"}}}); !errors.Is(err, ErrUnknownSession) {
		t.Errorf("got %v", err)
	}
	if got := f.last(t).(PollRequest); got.Wait != 30*time.Second {
		t.Errorf("waits %v by default", got.Wait)
	}
}

func TestLeases(t *testing.T) {
	opts, err := proto.Marshal(&heddlev1.JobOptions{Timeout: durationpb.New(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	now := int64(1_700_000_000_000_000)
	plain, optioned, late, lone := grant(3), grant(4), grant(5), grant(1)
	optioned.Row.Opts, optioned.Row.DeadlineAt = opts, now+1_500_000
	late.Row.Opts, late.Row.DeadlineAt = opts, now-1
	lone.Row.Batch = -1
	got, err := leasesOf([]Grant{plain, optioned, late, lone}, now)
	if err != nil {
		t.Fatal(err)
	}
	l := got[0]
	if fsm.WorkflowID(l.GetWorkflowId()) != theID || l.GetNode() != 3 || l.GetLease() != 77 || l.GetKind() != "send" || l.GetQueue() != "bulk" ||
		l.GetName() != "render" || l.GetAttempt() != 2 || l.GetMaxAttempts() != 10 || string(l.GetArgs()) != "{}" || l.GetOptions() != nil ||
		l.GetBatch() != 2 || l.GetLone() || l.GetPriority() != 2 || l.GetDeadlineIn() != nil ||
		l.GetCreatedAt().AsTime().UnixMilli() != 0x01890a5dac96 || l.GetRunAt().AsTime().UnixMicro() != now {
		t.Errorf("got %v", l)
	}
	if got[1].GetOptions().GetTimeout().AsDuration() != time.Minute || got[1].GetDeadlineIn().AsDuration() != 1500*time.Millisecond {
		t.Errorf("got %v", got[1])
	}
	if got[2].GetOptions().GetTimeout().AsDuration() != time.Minute || got[2].GetDeadlineIn() == nil || got[2].GetDeadlineIn().AsDuration() != 0 {
		t.Errorf("got %v", got[2])
	}
	if !got[3].GetLone() || got[3].GetBatch() != 0 {
		t.Errorf("got %v", got[3])
	}
	bad := grant(1)
	bad.Row.Opts = []byte{0xff}
	if _, err := leasesOf([]Grant{bad}, now); err == nil || !strings.Contains(err.Error(), bad.Row.Job.String()) {
		t.Errorf("got %v", err)
	}
}

// Reports at fault do not keep the others from being written, and answers stand
// in the order of the reports.
func TestReportAnswersEach(t *testing.T) {
	f := &fake{report: func(in []*heddlev1.AttemptReport) []ReportResult {
		out := make([]ReportResult, len(in))
		for i, r := range in {
			out[i] = ReportResult{heddlev1.ReportStatus(r.GetNode()), fmt.Sprint("node ", r.GetNode())}
		}
		return out
	}}
	report := func(node int32, size int) *heddlev1.AttemptReport {
		return &heddlev1.AttemptReport{WorkflowId: theID[:], Node: node, Lease: 7, Ending: heddlev1.Ending_ENDING_SUCCEEDED, Result: make([]byte, size)}
	}
	res, err := f.workerService().Report(t.Context(), connect.NewRequest(&heddlev1.ReportRequest{Session: 11, Reports: []*heddlev1.AttemptReport{
		report(1, 3), report(2, 11), report(0, 0), report(3, 0), report(2, 10)}}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"1 node 1", "4 reports[1].result: 11 bytes are over the limit of 10", "4 reports[2].node: 0 is no job", "3 node 3", "2 node 2"}
	for i, r := range res.Msg.GetResults() {
		if got := fmt.Sprintf("%d %s", r.GetStatus(), r.GetMessage()); got != want[i] {
			t.Errorf("report %d: got %q, want %q", i, got, want[i])
		}
	}
	if len(res.Msg.GetResults()) != 5 || res.Msg.GetEpoch() != 5 || f.last(t) != any(uint64(11)) {
		t.Errorf("got %v", res.Msg)
	}
}

func TestHeartbeat(t *testing.T) {
	held := HeldLease{Job: fsm.JobID{Workflow: theID, Node: 3}, ID: 77}
	f := &fake{commands: Commands{Epoch: 6, Number: 9, Cancel: []HeldLease{held}}}
	res, err := f.workerService().Heartbeat(t.Context(), connect.NewRequest(&heddlev1.HeartbeatRequest{
		Session: 11, PollsClosed: 4, CommandsSeen: 8, Wait: durationpb.New(5 * time.Second),
		Held: []*heddlev1.HeldLease{{WorkflowId: theID[:], Node: 3, Lease: 77}}}))
	if err != nil {
		t.Fatal(err)
	}
	want := Heartbeat{Session: 11, PollsClosed: 4, CommandsSeen: 8, Wait: 5 * time.Second, Held: []HeldLease{held}}
	if got := f.last(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	m := res.Msg
	if m.GetEpoch() != 6 || m.GetCommands() != 9 || len(m.GetCancel()) != 1 || fsm.WorkflowID(m.GetCancel()[0].GetWorkflowId()) != theID ||
		m.GetCancel()[0].GetLease() != 77 || m.GetReopen() || m.GetDrain() || m.GetTtl().AsDuration() != 15*time.Second {
		t.Errorf("got %v", m)
	}
	f.err = fmt.Errorf("%w: 11", ErrUnknownSession)
	if res, err := f.workerService().Heartbeat(t.Context(), connect.NewRequest(&heddlev1.HeartbeatRequest{Session: 11})); err != nil || !res.Msg.GetReopen() {
		t.Errorf("got %v, %v", res, err)
	}
	if err := failure(f.workerService().CloseSession, &heddlev1.CloseSessionRequest{Session: 11}); err != nil {
		t.Errorf("closing a session that is gone: %v", err)
	}
	f.err = ErrNotLeader
	if err := failure(f.workerService().Heartbeat, &heddlev1.HeartbeatRequest{Session: 11}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("got %v", err)
	}
	if err := failure(f.workerService().CloseSession, &heddlev1.CloseSessionRequest{Session: 11}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkLeases(b *testing.B) {
	grants := make([]Grant, 1000)
	for i := range grants {
		grants[i] = grant(int32(i + 1))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := leasesOf(grants, 0); err != nil {
			b.Fatal(err)
		}
	}
}
