package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// unary runs one call and gives its answer in short.
func unary[Req, Res any](call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req) func() (*Res, error) {
	return func() (*Res, error) {
		res, err := call(context.Background(), connect.NewRequest(req))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
}

// check fails unless a call answers what want accepts.
func check[Res any](t *testing.T, name string, call func() (*Res, error), want func(*Res) bool) {
	t.Helper()
	res, err := call()
	if err != nil {
		t.Errorf("%s: %v", name, err)
	} else if !want(res) {
		t.Errorf("%s: got %v", name, res)
	}
}

// Every call works in every protocol on the one port.
func TestEveryCallInEveryProtocol(t *testing.T) {
	for name, opts := range map[string][]connect.ClientOption{
		"connect":      nil,
		"connect json": {connect.WithProtoJSON()},
		"connect get":  {connect.WithHTTPGet()},
		"grpc":         {connect.WithGRPC()},
		"grpc json":    {connect.WithGRPC(), connect.WithProtoJSON()},
		"grpc-web":     {connect.WithGRPCWeb()},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{
				grants: []Grant{grant(3)}, workflow: ended, graph: &heddlev1.GraphResponse{Groups: 3},
				explain: &heddlev1.JobServiceExplainResponse{State: heddlev1.State_STATE_BLOCKED},
				queues:  []*heddlev1.Queue{{Name: "bulk", Available: 5}},
				results: [][]*heddlev1.Result{{{Node: 3, Result: []byte("1")}}, {{Node: 4}}}, isBatch: true,
				commands: Commands{Epoch: 5, Number: 8, Drain: true, Lost: []HeldLease{{Job: fsm.JobID{Workflow: theID, Node: 3}, ID: 77}}},
			}
			c := dial(t, serve(t, f, nil).URL, opts...)
			callWorkflows(t, c)
			callOthers(t, c)
			callStreams(t, c)
		})
	}
}

func callWorkflows(t *testing.T, c clients) {
	w := c.workflows
	check(t, "Submit", unary(w.Submit, &heddlev1.SubmitRequest{Submissions: []*heddlev1.Submission{
		{Id: textID, Work: &heddlev1.Submission_Job{Job: &heddlev1.JobSpec{Kind: "k"}}}}}),
		func(r *heddlev1.SubmitResponse) bool {
			return r.GetResults()[0].GetId() == textID && r.GetResults()[0].GetCreated()
		})
	check(t, "Append", unary(w.Append, &heddlev1.AppendRequest{WorkflowId: textID, Batch: "all", Graph: oneJob()}),
		func(r *heddlev1.AppendResponse) bool {
			return r.GetFirstNode() == 40 && r.GetNodes() == 1 && r.GetCreated()
		})
	check(t, "Get", unary(w.Get, &heddlev1.GetRequest{WorkflowId: textID}),
		func(r *heddlev1.GetResponse) bool { return r.GetWorkflow().GetId() == textID })
	check(t, "List", unary(w.List, &heddlev1.ListRequest{}),
		func(r *heddlev1.ListResponse) bool {
			return len(r.GetWorkflows()) == 1 && r.GetNextPageToken() == "next"
		})
	check(t, "Graph", unary(w.Graph, &heddlev1.GraphRequest{WorkflowId: textID}),
		func(r *heddlev1.GraphResponse) bool { return r.GetGroups() == 3 })
	check(t, "Nodes", unary(w.Nodes, &heddlev1.NodesRequest{WorkflowId: textID}),
		func(r *heddlev1.NodesResponse) bool { return len(r.GetJobs()) == 2 })
	check(t, "Wait", unary(w.Wait, &heddlev1.WaitRequest{WorkflowId: textID, Timeout: durationpb.New(time.Minute)}),
		func(r *heddlev1.WaitResponse) bool { return r.GetEnded() && string(r.GetResult()) == "7" })
	check(t, "Cancel", unary(w.Cancel, &heddlev1.CancelRequest{WorkflowId: textID}), func(*heddlev1.CancelResponse) bool { return true })
	check(t, "Retry", unary(w.Retry, &heddlev1.RetryRequest{WorkflowId: textID}),
		func(r *heddlev1.RetryResponse) bool { return r.GetJobs() == 6 })
	check(t, "Dismiss", unary(w.Dismiss, &heddlev1.DismissRequest{WorkflowId: textID, Node: 3}), func(*heddlev1.DismissResponse) bool { return true })
	check(t, "GiveUp", unary(w.GiveUp, &heddlev1.GiveUpRequest{WorkflowId: textID, Node: 3}), func(*heddlev1.GiveUpResponse) bool { return true })
	check(t, "Seal", unary(w.Seal, &heddlev1.SealRequest{WorkflowId: textID}), func(*heddlev1.SealResponse) bool { return true })
	check(t, "Pause", unary(w.Pause, &heddlev1.PauseRequest{WorkflowId: textID}), func(*heddlev1.PauseResponse) bool { return true })
	check(t, "Resume", unary(w.Resume, &heddlev1.ResumeRequest{WorkflowId: textID}), func(*heddlev1.ResumeResponse) bool { return true })
	check(t, "Delete", unary(w.Delete, &heddlev1.DeleteRequest{WorkflowId: textID}), func(*heddlev1.DeleteResponse) bool { return true })
}

func callOthers(t *testing.T, c clients) {
	check(t, "queues List", unary(c.queues.List, &heddlev1.QueueServiceListRequest{}),
		func(r *heddlev1.QueueServiceListResponse) bool {
			q := r.GetQueues()[0]
			return q.GetName() == "bulk" && q.GetRunning() == 2 && q.GetAvailable() == 3
		})
	check(t, "queues Pause", unary(c.queues.Pause, &heddlev1.QueueServicePauseRequest{Queue: "bulk"}), func(*heddlev1.QueueServicePauseResponse) bool { return true })
	check(t, "queues Resume", unary(c.queues.Resume, &heddlev1.QueueServiceResumeRequest{Queue: "bulk"}), func(*heddlev1.QueueServiceResumeResponse) bool { return true })
	check(t, "jobs Get", unary(c.jobs.Get, &heddlev1.JobServiceGetRequest{Id: textID + "/3"}),
		func(r *heddlev1.JobServiceGetResponse) bool { return r.GetJob().GetId() == textID+"/3" })
	check(t, "jobs List", unary(c.jobs.List, &heddlev1.JobServiceListRequest{}),
		func(r *heddlev1.JobServiceListResponse) bool { return len(r.GetJobs()) == 2 })
	check(t, "jobs Explain", unary(c.jobs.Explain, &heddlev1.JobServiceExplainRequest{Id: textID}),
		func(r *heddlev1.JobServiceExplainResponse) bool { return r.GetState() == heddlev1.State_STATE_BLOCKED })
	w := c.workers
	check(t, "OpenSession", unary(w.OpenSession, &heddlev1.OpenSessionRequest{Worker: "w", Slots: 1}),
		func(r *heddlev1.OpenSessionResponse) bool {
			return r.GetSession() == 11 && r.GetEpoch() == 5 && r.GetTtl().AsDuration() == 15*time.Second
		})
	check(t, "Poll", unary(w.Poll, &heddlev1.PollRequest{Session: 11, Poll: 1, MaxJobs: 2, Kinds: []string{"send"}, Queues: []*heddlev1.QueueWeight{{Queue: "bulk"}}}),
		func(r *heddlev1.PollResponse) bool { return r.GetEpoch() == 5 && r.GetLeases()[0].GetLease() == 77 })
	check(t, "Report", unary(w.Report, &heddlev1.ReportRequest{Session: 11, Reports: []*heddlev1.AttemptReport{
		{WorkflowId: theID[:], Node: 3, Lease: 77, Ending: heddlev1.Ending_ENDING_SUCCEEDED}}}),
		func(r *heddlev1.ReportResponse) bool {
			return r.GetResults()[0].GetStatus() == heddlev1.ReportStatus_REPORT_STATUS_DONE
		})
	check(t, "Heartbeat", unary(w.Heartbeat, &heddlev1.HeartbeatRequest{Session: 11}),
		func(r *heddlev1.HeartbeatResponse) bool {
			return r.GetCommands() == 8 && r.GetDrain() && r.GetLost()[0].GetLease() == 77
		})
	check(t, "CloseSession", unary(w.CloseSession, &heddlev1.CloseSessionRequest{Session: 11}), func(*heddlev1.CloseSessionResponse) bool { return true })
}

func callStreams(t *testing.T, c clients) {
	ctx := context.Background()
	up := c.workflows.SubmitStream(ctx)
	for _, m := range []*heddlev1.SubmitStreamRequest{
		{Part: &heddlev1.SubmitStreamRequest_Header{Header: &heddlev1.Submission{Id: textID, Name: "n"}}},
		{Part: &heddlev1.SubmitStreamRequest_Chunk{Chunk: oneJob()}},
		{Part: &heddlev1.SubmitStreamRequest_Chunk{Chunk: oneJob()}, Last: true},
	} {
		if err := up.Send(m); err != nil {
			t.Errorf("SubmitStream: %v", err)
		}
	}
	if res, err := up.CloseAndReceive(); err != nil || res.Msg.GetId() != textID || res.Msg.GetNodes() != 2 || !res.Msg.GetCreated() {
		t.Errorf("SubmitStream: got %v, %v", res, err)
	}
	watch, err := c.workflows.Watch(ctx, connect.NewRequest(&heddlev1.WatchRequest{WorkflowId: textID}))
	if err != nil {
		t.Fatalf("Watch: %v", err)
	}
	defer watch.Close()
	if !watch.Receive() || watch.Msg().GetWorkflow().GetState() != heddlev1.State_STATE_SUCCEEDED || watch.Receive() || watch.Err() != nil {
		t.Errorf("Watch: got %v, %v; want one state and the end", watch.Msg(), watch.Err())
	}
	results, err := c.workflows.Results(ctx, connect.NewRequest(&heddlev1.ResultsRequest{WorkflowId: textID, Path: "all"}))
	if err != nil {
		t.Fatalf("Results: %v", err)
	}
	defer results.Close()
	var nodes []int32
	for results.Receive() {
		for _, r := range results.Msg().GetResults() {
			nodes = append(nodes, r.GetNode())
		}
		if !results.Msg().GetBatch() {
			t.Error("Results: a page of a batch does not say so")
		}
	}
	if err := results.Err(); err != nil || fmt.Sprint(nodes) != "[3 4]" {
		t.Errorf("Results: got %v, %v", nodes, err)
	}
}

func oneJob() *heddlev1.Graph {
	return &heddlev1.Graph{Nodes: []*heddlev1.NodeSpec{{Node: &heddlev1.NodeSpec_Job{Job: &heddlev1.JobSpec{Kind: "k"}}}}}
}

// post sends JSON as curl does.
func post(t *testing.T, url, body string) (int, string, http.Header) {
	t.Helper()
	res, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, strings.ReplaceAll(string(text), " ", ""), res.Header
}

func TestPlainJSON(t *testing.T) {
	f := &fake{grants: []Grant{grant(3)}, queues: []*heddlev1.Queue{{Name: "bulk"}}}
	url := serve(t, f, nil).URL + "/heddle.v1."
	for _, c := range []struct {
		call, body string
		status     int
		want       string
	}{
		{"WorkflowService/Submit", `{"submissions":[{"id":"` + textID + `","job":{"kind":"k","argsJson":"{\"a\":1}"}},{"job":{"kind":"k","priority":7}}]}`, 200,
			`{"results":[{"id":"` + textID + `","created":true},{"code":"invalid_argument","message":"submissions[1].job.priority:7isnotin0..4"}]}`},
		{"WorkflowService/Cancel", `{"workflow_id":"` + textID + `","path":"all/emails"}`, 200, `{}`},
		{"WorkflowService/Wait", `{"workflowId":"` + textID + `","timeout":"5s"}`, 200, `{"ended":true,"state":"STATE_SUCCEEDED","result":"Nw==","resultJson":"7"}`},
		{"QueueService/List", `{}`, 200, `{"queues":[{"name":"bulk","running":"2"}]}`},
		{"JobService/Get", `{"id":"x"}`, 400, `{"code":"invalid_argument","message":"id:\"x\"isnojobid(\u003cworkflowid\u003e/\u003cnode\u003e)"}`},
		{"WorkerService/OpenSession", `{"worker":"w"}`, 400, `{"code":"invalid_argument","message":"slots:0isnotin1..100000"}`},
	} {
		status, got, _ := post(t, url+c.call, c.body)
		if status != c.status || got != c.want {
			t.Errorf("%s: got %d %s\nwant %d %s", c.call, status, got, c.status, c.want)
		}
	}
}

// A misspelt field is an error, not a condition that is not there.
func TestPlainJSONRefusesUnknownFields(t *testing.T) {
	url := serve(t, &fake{}, nil).URL
	status, got, _ := post(t, url+"/heddle.v1.WorkflowService/Submit", `{"submissions":[{"job":{"kind":"k","priorty":1}}]}`)
	if status != 400 || !strings.Contains(got, "priorty") {
		t.Errorf("got %d %s", status, got)
	}
	if status, got, _ := post(t, url+"/heddle.v1.QueueService/List", ``); status != 400 || !strings.Contains(got, "empty") {
		t.Errorf("got %d %s", status, got)
	}
}

func TestPrefix(t *testing.T) {
	s := serve(t, &fake{}, func(c *Config, _ *Deps) { c.Prefix = "/heddle" })
	if _, err := dial(t, s.URL+"/heddle", connect.WithGRPC()).workflows.Get(t.Context(), connect.NewRequest(&heddlev1.GetRequest{WorkflowId: textID})); err != nil {
		t.Error(err)
	}
	if status, _, _ := post(t, s.URL+"/heddle.v1.QueueService/List", `{}`); status != 404 {
		t.Errorf("outside the prefix: got %d", status)
	}
}

func TestHealth(t *testing.T) {
	for _, c := range []struct {
		path   string
		err    error
		away   bool
		status int
		want   string
	}{
		{"/healthz", errors.New("down"), true, 200, "ok\n"},
		{"/readyz", nil, false, 200, "ready\n"},
		{"/readyz", errors.New("dial tcp 10.0.0.1: refused"), true, 503, "postgres cannot be reached\nno leader dispatches\n"},
		{"/readyz", nil, true, 503, "no leader dispatches\n"},
	} {
		s := serve(t, &fake{err: c.err, notReady: c.away}, nil)
		res, err := s.Client().Get(s.URL + c.path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || string(text) != c.want {
			t.Errorf("%s: got %d %q (%v), want %d %q", c.path, res.StatusCode, text, err, c.status, c.want)
		}
	}
}

func TestReflection(t *testing.T) {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	client := grpcreflect.NewClient(&http.Client{Transport: transport}, serve(t, &fake{}, nil).URL, connect.WithGRPC())
	stream := client.NewStream(t.Context())
	defer stream.Close()
	names, err := stream.ListServices()
	if err != nil {
		t.Fatal(err)
	}
	eachMethod(func(path string, m protoreflect.MethodDescriptor) {
		service := m.Parent().FullName()
		if public := service != heddlev1connect.PeerServiceName; slices.Contains(names, service) != public {
			t.Errorf("%s: listed is %v", path, names)
		}
	})
	files, err := stream.FileContainingSymbol("heddle.v1.WorkflowService")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v", files, err)
	}
}

func TestLargeRequestsAreRefused(t *testing.T) {
	c := dial(t, serve(t, &fake{}, nil).URL)
	submit := func(size int) (*heddlev1.SubmitResult, error) {
		res, err := c.workflows.Submit(t.Context(), connect.NewRequest(&heddlev1.SubmitRequest{Submissions: []*heddlev1.Submission{
			{Work: &heddlev1.Submission_Job{Job: &heddlev1.JobSpec{Kind: "k", Args: make([]byte, size)}}}}}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetResults()[0], nil
	}
	if r, err := submit(1 << 20); err != nil || !r.GetCreated() {
		t.Errorf("1 MiB: got %v, %v", r, err)
	}
	want := `submissions[0].job.args: 2097152 bytes are over the limit of 1048576`
	if r, err := submit(2 << 20); err != nil || r.GetCode() != "invalid_argument" || r.GetMessage() != want {
		t.Errorf("2 MiB: got %v, %v", r, err)
	}
	if _, err := submit(5 << 20); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("5 MiB: got %v", err)
	}
}

// The answers of workers are not compressed, those of people are.
func TestCompression(t *testing.T) {
	g := grant(3)
	g.Row.Args = []byte(strings.Repeat("x", 10_000))
	f := &fake{grants: []Grant{g}, job: func(id fsm.JobID) *heddlev1.Job { return &heddlev1.Job{Args: g.Row.Args} }}
	c := dial(t, serve(t, f, nil).URL)
	poll, err := c.workers.Poll(t.Context(), connect.NewRequest(&heddlev1.PollRequest{
		Session: 1, Poll: 1, MaxJobs: 1, Kinds: []string{"k"}, Queues: []*heddlev1.QueueWeight{{Queue: "q"}}}))
	if err != nil || poll.Header().Get("Content-Encoding") != "" {
		t.Errorf("Poll: %v, encoding %q", err, poll.Header().Get("Content-Encoding"))
	}
	job, err := c.jobs.Get(t.Context(), connect.NewRequest(&heddlev1.JobServiceGetRequest{Id: textID}))
	if err != nil || job.Header().Get("Content-Encoding") != "gzip" {
		t.Errorf("Get: %v, encoding %q", err, job.Header().Get("Content-Encoding"))
	}
}

func TestInterceptorsGuardEveryCall(t *testing.T) {
	deny := connect.UnaryInterceptorFunc(func(connect.UnaryFunc) connect.UnaryFunc {
		return func(context.Context, connect.AnyRequest) (connect.AnyResponse, error) {
			return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("no token"))
		}
	})
	s := serve(t, &fake{}, func(c *Config, _ *Deps) { c.Interceptors = []connect.Interceptor{deny} })
	_, err := dial(t, s.URL).workers.OpenSession(t.Context(), connect.NewRequest(&heddlev1.OpenSessionRequest{Worker: "w", Slots: 1}))
	if connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("got %v", err)
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	err := Config{Prefix: "x/", MaxRequest: 1}.Validate()
	for _, want := range []string{"prefix", "max request", "max body", "max nodes", "session ttl"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if _, err := New(Config{}, Deps{}); err == nil {
		t.Error("New takes a configuration that is not valid")
	}
}

// What cannot be written now fails the call only when that is all of it.
func TestSubmitAnswersEach(t *testing.T) {
	f := &fake{}
	s := f.service()
	call := func(n int) (*heddlev1.SubmitResponse, error) {
		req := &heddlev1.SubmitRequest{}
		for range n {
			req.Submissions = append(req.Submissions, &heddlev1.Submission{Work: &heddlev1.Submission_Job{Job: &heddlev1.JobSpec{Kind: "k"}}})
		}
		res, err := s.Submit(t.Context(), connect.NewRequest(req))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	f.submit = func(subs []model.Submission) []model.Submitted {
		out := make([]model.Submitted, len(subs))
		for i, e := range []error{nil, fmt.Errorf("%w: another graph", model.ErrAlreadyExists), model.ErrDoubt, errors.New("select 1")} {
			out[i].ID, out[i].Err = subs[i].ID, e
		}
		return out
	}
	res, err := call(4)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "already_exists: already exists: another graph", "unavailable: commit in doubt", "internal: internal error; the engine's log says more"} {
		got := res.GetResults()[i].GetCode()
		if got != "" {
			got += ": " + res.GetResults()[i].GetMessage()
		}
		if got != want {
			t.Errorf("submission %d: got %q, want %q", i, got, want)
		}
	}
	f.submit, f.err = nil, ErrUnavailable
	if _, err := call(2); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("got %v", err)
	}
	if _, err := call(0); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}
