package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/api/wire"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const textID = "01890a5d-ac96-774b-bcce-b302099a8057"

// theID is textID as a value.
var theID = func() fsm.WorkflowID {
	id, err := wire.WorkflowID("", textID)
	if err != nil {
		panic(err)
	}
	return id
}()

// fake stands for everything behind the handlers. Its workflow has the job 3
// "render" in the batch 2 "emails" in the batch 1 "all".
type fake struct {
	mu     sync.Mutex
	err    error // of every call
	asked  []any // requests, in order
	leases []fsm.Lease
	subs   chan struct{} // receives at each Subscribe
	touch  chan struct{}
	end    chan struct{}

	submit    func([]model.Submission) []model.Submitted
	report    func([]*heddlev1.AttemptReport) []ReportResult
	nodeState func(dag.ID) (heddlev1.State, []byte, string, bool)
	workflow  func() *heddlev1.Workflow
	job       func(fsm.JobID) *heddlev1.Job
	explain   *heddlev1.JobServiceExplainResponse
	queues    []*heddlev1.Queue
	results   [][]*heddlev1.Result
	isBatch   bool
	graph     *heddlev1.GraphResponse
	grants    []Grant
	commands  Commands
	notReady  bool
	serving   Serving
	reads     atomic.Int32
}

func (f *fake) ask(v any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, v)
	return f.err
}

// last gives the newest request.
func (f *fake) last(t *testing.T) any {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) == 0 {
		t.Fatal("nothing was asked")
	}
	return f.asked[len(f.asked)-1]
}

func (f *fake) Workflow(context.Context, fsm.WorkflowID) (*heddlev1.Workflow, error) {
	f.reads.Add(1)
	if f.workflow != nil {
		return f.workflow(), f.err
	}
	return &heddlev1.Workflow{
		Id: textID, Name: "campaign", State: heddlev1.State_STATE_RUNNING,
		Jobs:    &heddlev1.Counts{Total: 4, Available: 3, Succeeded: 1},
		Members: &heddlev1.Counts{Total: 2, Available: 1, Running: 1},
		Batches: []*heddlev1.Batch{
			{Node: 1, Name: "all", Members: &heddlev1.Counts{Total: 1, Running: 1}},
			{Node: 2, Parent: 1, Name: "emails", Members: &heddlev1.Counts{Total: 2, Available: 2}},
		},
	}, f.err
}

func (f *fake) Workflows(_ context.Context, req *heddlev1.ListRequest) (*heddlev1.ListResponse, error) {
	return &heddlev1.ListResponse{NextPageToken: "next", Workflows: []*heddlev1.Workflow{
		{Id: textID, Jobs: &heddlev1.Counts{Total: 3, Available: 3}}}}, f.ask(req)
}

func (f *fake) Graph(_ context.Context, _ fsm.WorkflowID, maxCards int) (*heddlev1.GraphResponse, error) {
	return f.graph, f.ask(maxCards)
}

type nodesAsked struct {
	batch dag.ID
	req   *heddlev1.NodesRequest
}

func (f *fake) Nodes(_ context.Context, _ fsm.WorkflowID, batch dag.ID, req *heddlev1.NodesRequest) (*heddlev1.NodesResponse, error) {
	return &heddlev1.NodesResponse{Jobs: []*heddlev1.Job{
		{WorkflowId: textID, Node: 3, State: heddlev1.State_STATE_AVAILABLE},
		{WorkflowId: textID, Node: 4, State: heddlev1.State_STATE_AVAILABLE}}}, f.ask(nodesAsked{batch, req})
}

func (f *fake) Job(_ context.Context, id fsm.JobID) (*heddlev1.Job, error) {
	if f.job != nil {
		return f.job(id), f.err
	}
	return &heddlev1.Job{Id: id.String(), WorkflowId: id.Workflow.String(), Node: id.Node, Batch: 2, Kind: "send", Queue: "bulk",
		State: heddlev1.State_STATE_AVAILABLE}, f.err
}

func (f *fake) Jobs(_ context.Context, req *heddlev1.JobServiceListRequest) (*heddlev1.JobServiceListResponse, error) {
	return &heddlev1.JobServiceListResponse{NextPageToken: "next", Jobs: []*heddlev1.Job{
		{WorkflowId: textID, Node: 3, State: heddlev1.State_STATE_AVAILABLE},
		{WorkflowId: textID, Node: 4, State: heddlev1.State_STATE_AVAILABLE}}}, f.ask(req)
}

func (f *fake) Results(_ context.Context, _ fsm.WorkflowID, _ dag.ID, path string, send func([]*heddlev1.Result) error) (bool, error) {
	if err := f.ask(path); err != nil {
		return false, err
	}
	for _, page := range f.results {
		if err := send(page); err != nil {
			return false, err
		}
	}
	return f.isBatch, nil
}

func (f *fake) Resolve(_ context.Context, _ fsm.WorkflowID, _ dag.ID, path string) (dag.ID, bool, error) {
	switch path {
	case "all":
		return 1, true, nil
	case "all/emails":
		return 2, true, nil
	case "all/emails/render":
		return 3, false, nil
	case "other":
		return 9, true, nil
	}
	return 0, false, errors.Join(model.ErrNotFound, errors.New(path))
}

func (f *fake) NodeState(_ context.Context, _ fsm.WorkflowID, node dag.ID) (heddlev1.State, []byte, string, bool, error) {
	f.reads.Add(1)
	if f.nodeState == nil {
		return heddlev1.State_STATE_SUCCEEDED, []byte(`7`), "", true, f.err
	}
	state, result, text, ended := f.nodeState(node)
	return state, result, text, ended, f.err
}

func (f *fake) Explain(context.Context, fsm.JobID) (*heddlev1.JobServiceExplainResponse, error) {
	return f.explain, f.err
}

func (f *fake) Queues(context.Context) ([]*heddlev1.Queue, error) { return f.queues, f.err }

func (f *fake) Submit(_ context.Context, subs []model.Submission) []model.Submitted {
	_ = f.ask(subs)
	if f.submit != nil {
		return f.submit(subs)
	}
	out := make([]model.Submitted, len(subs))
	for i := range subs {
		out[i] = model.Submitted{ID: subs[i].ID, Created: !subs[i].Repeat, Nodes: int32(len(subs[i].Nodes)), Err: f.err}
	}
	return out
}

func (f *fake) SubmitStream(_ context.Context, header model.Submission, next func() (*model.Chunk, error)) (model.Submitted, error) {
	for {
		chunk, err := next()
		if errors.Is(err, io.EOF) {
			return model.Submitted{ID: header.ID, Created: true, Nodes: int32(len(header.Nodes))}, f.ask(header)
		}
		if err != nil {
			return model.Submitted{}, errors.New("rolled back")
		}
		header.Nodes = append(header.Nodes, chunk.Nodes...)
		header.Edges = append(header.Edges, chunk.Edges...)
	}
}

func (f *fake) OpenSession(_ context.Context, w Worker) (uint64, uint64, error) {
	return 11, 5, f.ask(w.Name + " " + w.Process)
}

func (f *fake) CloseSession(_ context.Context, session, closed uint64) error {
	return f.ask([2]uint64{session, closed})
}

func (f *fake) Poll(_ context.Context, req PollRequest) ([]Grant, uint64, error) {
	return f.grants, 5, f.ask(req)
}

func (f *fake) Heartbeat(_ context.Context, hb Heartbeat) (Commands, error) {
	return f.commands, f.ask(hb)
}

func (f *fake) Leader() (uint64, bool) { return 5, true }
func (f *fake) Ready() bool            { return !f.notReady }
func (f *fake) Now() int64             { return 1_700_000_000_000_000 }

func (f *fake) Leased(fsm.WorkflowID) []fsm.Lease {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leases
}

func (f *fake) LeaseOf(job fsm.JobID) (fsm.Lease, string, bool) {
	for _, l := range f.Leased(job.Workflow) {
		if l.Job == job {
			return l, "w1", true
		}
	}
	return fsm.Lease{}, "", false
}

func (f *fake) Running() map[string]int        { return map[string]int{"bulk": 2} }
func (f *fake) Serving(string, string) Serving { return f.serving }

func (f *fake) Report(_ context.Context, session uint64, reports []*heddlev1.AttemptReport) []ReportResult {
	_ = f.ask(session)
	if f.report != nil {
		return f.report(reports)
	}
	out := make([]ReportResult, len(reports))
	for i := range out {
		out[i].Status = heddlev1.ReportStatus_REPORT_STATUS_DONE
	}
	return out
}

// command is what a Commander was asked.
type command struct {
	what string
	node dag.ID
	flag bool
	text string
}

func (f *fake) Append(_ context.Context, req Append) (dag.ID, int32, bool, error) {
	return 40, int32(len(req.Chunk.Nodes)), true, f.ask(req)
}

func (f *fake) Cancel(_ context.Context, _ fsm.WorkflowID, node dag.ID, force bool) error {
	return f.ask(command{"cancel", node, force, ""})
}

func (f *fake) Retry(_ context.Context, _ fsm.WorkflowID, node dag.ID, downstream bool) (int, error) {
	return 6, f.ask(command{"retry", node, downstream, ""})
}

func (f *fake) Dismiss(_ context.Context, _ fsm.WorkflowID, node dag.ID, result []byte, note string) error {
	return f.ask(command{"dismiss", node, false, string(result) + " " + note})
}

func (f *fake) GiveUp(_ context.Context, _ fsm.WorkflowID, node dag.ID) error {
	return f.ask(command{"give up", node, false, ""})
}

func (f *fake) Seal(_ context.Context, _ fsm.WorkflowID, node dag.ID) error {
	return f.ask(command{"seal", node, false, ""})
}

func (f *fake) SetPaused(_ context.Context, id fsm.WorkflowID, paused bool) error {
	return f.ask(command{"pause", 0, paused, id.String()})
}

func (f *fake) SetQueuePaused(_ context.Context, queue string, paused bool) error {
	return f.ask(command{"pause queue", 0, paused, queue})
}

func (f *fake) Delete(_ context.Context, id fsm.WorkflowID) error {
	return f.ask(command{"delete", 0, false, id.String()})
}

func (f *fake) RunNow(_ context.Context, job fsm.JobID) error {
	return f.ask(command{"run now", dag.ID(job.Node), false, job.Workflow.String()})
}

func (f *fake) Drain(_ context.Context, session uint64) error {
	return f.ask(command{"drain", dag.ID(session), false, ""})
}

func (f *fake) Subscribe(fsm.WorkflowID) Subscription {
	if f.subs != nil {
		f.subs <- struct{}{}
	}
	return Subscription{Touched: f.touch, Ended: f.end, Stop: func() {}}
}

func (f *fake) deps() Deps {
	return Deps{Reader: f, Submitter: f, Scheduler: f, Completer: f, Commander: f, Watcher: f, Pages: fakePages{f: f}, Live: fakePages{f: f}, Sessions: fakePages{f: f},
		Ping: func(context.Context) error { return f.err }}
}

// service gives the workflow service over the fake, without HTTP.
func (f *fake) service() *workflows {
	return &workflows{limits: wire.DefaultLimits(), scheduler: f, reader: f, pages: fakePages{f: f}, submitter: f, commander: f, watcher: f}
}

// grant gives the grant of a job of the workflow.
func grant(node int32) Grant {
	job := fsm.JobID{Workflow: theID, Node: node}
	return Grant{
		Lease: fsm.Lease{Job: job, ID: 77, Session: 11},
		Row:   dispatch.Row{Job: job, Priority: 2, Attempt: 1, MaxAttempts: 10, Batch: 2, Name: "render", Args: []byte(`{}`), RunAt: 1_700_000_000_000_000},
		Route: dispatch.Route{ID: 1, Queue: "bulk", Kind: "send"},
	}
}

// serve runs the API over a fake.
func serve(t testing.TB, f *fake, change func(*Config, *Deps)) *httptest.Server {
	t.Helper()
	config, deps := DefaultConfig(), f.deps()
	config.Logger = slog.New(slog.DiscardHandler)
	if change != nil {
		change(&config, &deps)
	}
	h, err := New(config, deps)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// clients are the clients of all services under one protocol.
type clients struct {
	workflows heddlev1connect.WorkflowServiceClient
	jobs      heddlev1connect.JobServiceClient
	queues    heddlev1connect.QueueServiceClient
	workers   heddlev1connect.WorkerServiceClient
}

func dial(t testing.TB, url string, opts ...connect.ClientOption) clients {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	c := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	return clients{
		workflows: heddlev1connect.NewWorkflowServiceClient(c, url, opts...),
		jobs:      heddlev1connect.NewJobServiceClient(c, url, opts...),
		queues:    heddlev1connect.NewQueueServiceClient(c, url, opts...),
		workers:   heddlev1connect.NewWorkerServiceClient(c, url, opts...),
	}
}

// ended is a workflow that is over.
func ended() *heddlev1.Workflow {
	return &heddlev1.Workflow{Id: textID, State: heddlev1.State_STATE_SUCCEEDED, FinishedAt: timestamppb.Now()}
}
