package api

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/api/wire"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// failure runs a handler and gives its error.
func failure[Req, Res any](call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req) error {
	_, err := call(context.Background(), connect.NewRequest(req))
	return err
}

func TestRequestsAreChecked(t *testing.T) {
	f := &fake{}
	w := f.service()
	j := &jobs{reader: f, scheduler: f}
	q := &queues{reader: f, scheduler: f, commander: f}
	s := &worker{limits: wire.DefaultLimits(), ttl: time.Second, scheduler: f, completer: f}
	long := strings.Repeat("x", 201)
	poll := func(change func(*heddlev1.PollRequest)) *heddlev1.PollRequest {
		m := &heddlev1.PollRequest{Session: 1, Poll: 1, MaxJobs: 1, Kinds: []string{"k"}, Queues: []*heddlev1.QueueWeight{{Queue: "q"}}}
		change(m)
		return m
	}
	lease := &heddlev1.LeaseRef{WorkflowId: make([]byte, 16), Node: 3, Lease: 7, Session: 1}
	own := &heddlev1.LeaseRef{WorkflowId: theID[:], Node: 3, Lease: 7, Session: 1}
	for _, c := range []struct {
		err  error
		want string
	}{
		{failure(w.Get, &heddlev1.GetRequest{}), `workflow_id: is empty`},
		{failure(w.Get, &heddlev1.GetRequest{WorkflowId: "7"}), `workflow_id: "7" is no workflow id (a UUID)`},
		{failure(w.List, &heddlev1.ListRequest{PageSize: 501}), `page_size: 501 is not in 1..500`},
		{failure(w.List, &heddlev1.ListRequest{PageSize: -1}), `page_size: -1 is not in 1..500`},
		{failure(w.List, &heddlev1.ListRequest{States: []heddlev1.State{99}}), `states: 99 is no state`},
		{failure(w.List, &heddlev1.ListRequest{States: []heddlev1.State{0}}), `states: 0 is no state`},
		{failure(w.List, &heddlev1.ListRequest{Name: long}), `name: 201 bytes are over the limit of 200`},
		{failure(w.Graph, &heddlev1.GraphRequest{WorkflowId: textID, MaxCards: 2001}), `max_cards: 2001 is not in 1..2000`},
		{failure(w.Nodes, &heddlev1.NodesRequest{WorkflowId: textID, Batch: "all/emails/render"}), `batch: "all/emails/render" is no batch`},
		{failure(w.Append, &heddlev1.AppendRequest{WorkflowId: textID}), `graph.nodes: is empty`},
		{failure(w.Append, &heddlev1.AppendRequest{WorkflowId: textID, Key: long, Graph: oneJob()}), `key: 201 bytes are over the limit of 200`},
		{failure(w.Append, &heddlev1.AppendRequest{WorkflowId: textID, Batch: "all/emails/render", Graph: oneJob()}), `batch: "all/emails/render" is no batch`},
		{failure(w.Append, &heddlev1.AppendRequest{WorkflowId: textID, Key: "k", Lease: lease, Graph: oneJob()}), `lease.workflow_id: 00000000-0000-0000-0000-000000000000 is another workflow than workflow_id`},
		{failure(w.Append, &heddlev1.AppendRequest{WorkflowId: textID, Key: "k", Lease: &heddlev1.LeaseRef{}, Graph: oneJob()}), `lease.workflow_id: 0 bytes are not 16`},
		{failure(w.Append, &heddlev1.AppendRequest{WorkflowId: textID, Lease: own, Graph: oneJob()}), `key: is empty; a running job adds nodes under a key, or its next attempt adds them again`},
		{failure(w.Wait, &heddlev1.WaitRequest{WorkflowId: textID, Timeout: durationpb.New(time.Hour)}), `timeout: 1h0m0s is longer than 10m0s`},
		{failure(w.Cancel, &heddlev1.CancelRequest{WorkflowId: textID, Path: "all", Node: 1}), `node: 1 is set beside path, "all"; give one of them`},
		{failure(w.Cancel, &heddlev1.CancelRequest{WorkflowId: textID, Node: -1}), `node: -1 is negative`},
		{failure(w.Dismiss, &heddlev1.DismissRequest{WorkflowId: textID}), `path: is empty, and node is 0: one of them must name a node`},
		{failure(w.Dismiss, &heddlev1.DismissRequest{WorkflowId: textID, Node: 1, Result: make([]byte, 1<<20+1)}), `result: 1048577 bytes are over the limit of 1048576`},
		{failure(w.Dismiss, &heddlev1.DismissRequest{WorkflowId: textID, Node: 1, ResultJson: "{"}), `result_json: "{" is not JSON`},
		{failure(w.Dismiss, &heddlev1.DismissRequest{WorkflowId: textID, Node: 1, Result: []byte("1"), ResultJson: "1"}), `result_json: is set beside result; give one of them`},
		{failure(w.Dismiss, &heddlev1.DismissRequest{WorkflowId: textID, Node: 1, ResultJson: strings.Repeat("1", 1<<20+1)}), `result_json: 1048577 bytes are over the limit of 1048576`},
		{failure(w.GiveUp, &heddlev1.GiveUpRequest{WorkflowId: textID}), `path: is empty, and node is 0: one of them must name a node`},
		{failure(w.Delete, &heddlev1.DeleteRequest{}), `workflow_id: is empty`},
		{failure(q.Pause, &heddlev1.QueueServicePauseRequest{}), `queue: is empty`},
		{failure(j.Get, &heddlev1.JobServiceGetRequest{Id: textID + "/x"}), `id: "` + textID + `/x" is no job id (<workflow id>/<node>)`},
		{failure(j.List, &heddlev1.JobServiceListRequest{WorkflowId: "x"}), `workflow_id: "x" is no workflow id (a UUID)`},
		{failure(j.List, &heddlev1.JobServiceListRequest{Kind: long}), `kind: 201 bytes are over the limit of 200`},
		{failure(s.OpenSession, &heddlev1.OpenSessionRequest{Slots: 1}), `worker: is empty`},
		{failure(s.OpenSession, &heddlev1.OpenSessionRequest{Worker: "w"}), `slots: 0 is not in 1..100000`},
		{failure(s.Poll, poll(func(m *heddlev1.PollRequest) { m.Session = 0 })), `session: is 0; open a session first`},
		{failure(s.Poll, poll(func(m *heddlev1.PollRequest) { m.Poll = 0 })), `poll: is 0; polls are numbered from 1`},
		{failure(s.Poll, poll(func(m *heddlev1.PollRequest) { m.MaxJobs = 10_001 })), `max_jobs: 10001 is not in 1..10000`},
		{failure(s.Poll, poll(func(m *heddlev1.PollRequest) { m.Kinds = nil })), `kinds: 0 kinds are not in 1..10000`},
		{failure(s.Poll, poll(func(m *heddlev1.PollRequest) { m.Kinds = []string{"k", ""} })), `kinds[1]: is empty`},
		{failure(s.Poll, poll(func(m *heddlev1.PollRequest) { m.Queues = nil })), `queues: 0 queues are not in 1..100`},
		{failure(s.Poll, poll(func(m *heddlev1.PollRequest) { m.Queues = append(m.Queues, &heddlev1.QueueWeight{}) })), `queues[1].queue: is empty`},
		{failure(s.Poll, poll(func(m *heddlev1.PollRequest) { m.Queues = append(m.Queues, &heddlev1.QueueWeight{Queue: "q"}) })), `queues[1].queue: "q" is named twice`},
		{failure(s.Poll, poll(func(m *heddlev1.PollRequest) {
			m.Queues = append(m.Queues, &heddlev1.QueueWeight{Queue: "r", Weight: 2})
		})), `queues[1].weight: 2: give all queues a weight, or none`},
		{failure(s.Poll, poll(func(m *heddlev1.PollRequest) { m.Queues[0].Weight = -1 })), `queues[0].weight: -1 is not in 0..1000000`},
		{failure(s.Poll, poll(func(m *heddlev1.PollRequest) { m.Wait = durationpb.New(2 * time.Minute) })), `wait: 2m0s is longer than 1m0s`},
		{failure(s.Report, &heddlev1.ReportRequest{}), `session: is 0; open a session first`},
		{failure(s.Heartbeat, &heddlev1.HeartbeatRequest{Session: 1, Held: []*heddlev1.HeldLease{{Node: 1}}}), `held[0].workflow_id: 0 bytes are not 16`},
		{failure(s.CloseSession, &heddlev1.CloseSessionRequest{}), `session: is 0; open a session first`},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", c.err, c.want)
		}
		if !errors.Is(c.err, model.ErrInvalid) {
			t.Errorf("%v does not wrap model.ErrInvalid", c.err)
		}
	}
	if len(f.asked) != 0 {
		t.Errorf("a request at fault went through: %v", f.asked)
	}
}

// A stream at fault says what is wrong with it, not that it was rolled back.
func TestSubmitStreamIsChecked(t *testing.T) {
	header := func(s *heddlev1.Submission) *heddlev1.SubmitStreamRequest {
		return &heddlev1.SubmitStreamRequest{Part: &heddlev1.SubmitStreamRequest_Header{Header: s}}
	}
	chunk := func(g *heddlev1.Graph) *heddlev1.SubmitStreamRequest {
		return &heddlev1.SubmitStreamRequest{Part: &heddlev1.SubmitStreamRequest_Chunk{Chunk: g}}
	}
	bad := oneJob()
	bad.Nodes[0].GetJob().Priority = 9
	c := dial(t, serve(t, &fake{}, nil).URL)
	for _, x := range []struct {
		send []*heddlev1.SubmitStreamRequest
		want string
	}{
		{nil, `header: is missing: the stream is empty`},
		{[]*heddlev1.SubmitStreamRequest{chunk(oneJob())}, `header: is missing: it must be the first message`},
		{[]*heddlev1.SubmitStreamRequest{header(&heddlev1.Submission{Name: "a/b"})}, `header.name: "a/b" contains a slash, which separates the names of a path`},
		{[]*heddlev1.SubmitStreamRequest{header(&heddlev1.Submission{}), header(&heddlev1.Submission{})}, `chunk: is missing: only the first message is a header`},
		{[]*heddlev1.SubmitStreamRequest{header(&heddlev1.Submission{}), chunk(oneJob()), chunk(bad)}, `graph.nodes[1].job.priority: 9 is not in 0..4`},
		{[]*heddlev1.SubmitStreamRequest{header(&heddlev1.Submission{}), chunk(oneJob())}, `last: is missing: the stream ended before its last chunk`},
		{[]*heddlev1.SubmitStreamRequest{header(&heddlev1.Submission{})}, `last: is missing: the stream ended before its last chunk`},
	} {
		stream := c.workflows.SubmitStream(t.Context())
		for _, m := range x.send {
			if stream.Send(m) != nil {
				break // answered already
			}
		}
		_, err := stream.CloseAndReceive()
		var e *connect.Error
		if !errors.As(err, &e) || e.Code() != connect.CodeInvalidArgument || e.Message() != x.want {
			t.Errorf("got  %v\nwant %s", err, x.want)
		}
	}
}

func TestCommandsReachTheirNode(t *testing.T) {
	f := &fake{}
	w := f.service()
	q := &queues{reader: f, scheduler: f, commander: f}
	for _, c := range []struct {
		err  error
		want command
	}{
		{failure(w.Cancel, &heddlev1.CancelRequest{WorkflowId: textID, Path: "all/emails", Force: true}), command{"cancel", 2, true, ""}},
		{failure(w.Cancel, &heddlev1.CancelRequest{WorkflowId: textID}), command{"cancel", 0, false, ""}},
		{failure(w.Retry, &heddlev1.RetryRequest{WorkflowId: textID, Node: 3, Downstream: true}), command{"retry", 3, true, ""}},
		{failure(w.Dismiss, &heddlev1.DismissRequest{WorkflowId: textID, Path: "all/emails/render", Result: []byte("1"), Note: "by hand"}), command{"dismiss", 3, false, "1 by hand"}},
		{failure(w.GiveUp, &heddlev1.GiveUpRequest{WorkflowId: textID, Node: 2}), command{"give up", 2, false, ""}},
		{failure(w.Seal, &heddlev1.SealRequest{WorkflowId: textID, Path: "all"}), command{"seal", 1, false, ""}},
		{failure(w.Pause, &heddlev1.PauseRequest{WorkflowId: textID}), command{"pause", 0, true, textID}},
		{failure(w.Resume, &heddlev1.ResumeRequest{WorkflowId: textID}), command{"pause", 0, false, textID}},
		{failure(w.Delete, &heddlev1.DeleteRequest{WorkflowId: textID}), command{"delete", 0, false, textID}},
		{failure(q.Pause, &heddlev1.QueueServicePauseRequest{Queue: "bulk"}), command{"pause queue", 0, true, "bulk"}},
		{failure(q.Resume, &heddlev1.QueueServiceResumeRequest{Queue: "bulk"}), command{"pause queue", 0, false, "bulk"}},
	} {
		if c.err != nil {
			t.Errorf("%v: %v", c.want, c.err)
		}
		if f.asked[0] != any(c.want) {
			t.Errorf("got %v, want %v", f.asked[0], c.want)
		}
		f.asked = f.asked[1:]
	}
	if err := failure(w.Cancel, &heddlev1.CancelRequest{WorkflowId: textID, Path: "nowhere"}); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestAppend(t *testing.T) {
	f := &fake{}
	w := f.service()
	g := oneJob()
	g.Nodes[0].After = []*heddlev1.ParentRef{{Path: "all/emails/render"}}
	own := &heddlev1.LeaseRef{WorkflowId: theID[:], Node: 3, Lease: 7, Session: 11}
	if err := failure(w.Append, &heddlev1.AppendRequest{WorkflowId: textID, Key: "k", Lease: own, Graph: g}); err != nil {
		t.Fatal(err)
	}
	got := f.last(t).(Append)
	if got.ID != theID || got.Batch != 2 || got.Key != "k" || got.Lease == nil || got.Lease.ID != 7 || got.Lease.Session != 11 || got.Lease.Job.Node != 3 {
		t.Errorf("got %+v", got)
	}
	if len(got.Chunk.Edges) != 1 || got.Chunk.Edges[0] != (dag.Edge{Parent: 3, Child: -1, On: dag.Succeeded}) {
		t.Errorf("got edges %v", got.Chunk.Edges)
	}
	if err := failure(w.Append, &heddlev1.AppendRequest{WorkflowId: textID, Graph: oneJob()}); err != nil {
		t.Fatal(err)
	}
	if got := f.last(t).(Append); got.Batch != dag.Root || got.Lease != nil {
		t.Errorf("got %+v", got)
	}
}
