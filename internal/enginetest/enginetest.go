// Package enginetest is a client and a tiny worker for the tests of the engine
// and of its command. They speak the generated API and nothing else, so that
// the tests see what any client sees.
package enginetest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// Client speaks to an engine over one connection.
type Client struct {
	heddlev1connect.WorkflowServiceClient
	heddlev1connect.WorkerServiceClient
	Queues   heddlev1connect.QueueServiceClient
	Jobs     heddlev1connect.JobServiceClient
	Live     heddlev1connect.LiveServiceClient
	Stats    heddlev1connect.StatsServiceClient
	Batches  heddlev1connect.BatchServiceClient
	Sessions heddlev1connect.SessionServiceClient
	Cluster  heddlev1connect.ClusterServiceClient
	t        testing.TB
}

// Dial gives a client of the API at addr (host:port).
func Dial(t testing.TB, addr string) *Client {
	t.Helper()
	return dial(t, "http://"+addr, nil)
}

// DialTLS gives a client of the API of an engine that speaks TLS.
func DialTLS(t testing.TB, addr string, config *tls.Config) *Client {
	t.Helper()
	return dial(t, "https://"+addr, config.Clone())
}

func dial(t testing.TB, url string, config *tls.Config) *Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(config == nil)
	protocols.SetHTTP2(config != nil)
	transport := &http.Transport{Protocols: &protocols, TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	h := &http.Client{Transport: transport}
	return &Client{
		WorkflowServiceClient: heddlev1connect.NewWorkflowServiceClient(h, url),
		WorkerServiceClient:   heddlev1connect.NewWorkerServiceClient(h, url),
		Queues:                heddlev1connect.NewQueueServiceClient(h, url),
		Jobs:                  heddlev1connect.NewJobServiceClient(h, url),
		Live:                  heddlev1connect.NewLiveServiceClient(h, url),
		Stats:                 heddlev1connect.NewStatsServiceClient(h, url),
		Batches:               heddlev1connect.NewBatchServiceClient(h, url),
		Sessions:              heddlev1connect.NewSessionServiceClient(h, url),
		Cluster:               heddlev1connect.NewClusterServiceClient(h, url),
		t:                     t,
	}
}

// NewID makes the id of a workflow.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// Lone is a submission of one job.
func Lone(kind string, args string, opts *heddlev1.JobOptions) *heddlev1.Submission {
	return &heddlev1.Submission{Id: NewID(), Work: &heddlev1.Submission_Job{Job: &heddlev1.JobSpec{Kind: kind, Args: []byte(args), Options: opts}}}
}

// Graph is a submission of a graph.
func Graph(nodes ...*heddlev1.NodeSpec) *heddlev1.Submission {
	return &heddlev1.Submission{Id: NewID(), Name: "test", Work: &heddlev1.Submission_Graph{Graph: &heddlev1.Graph{Nodes: nodes}}}
}

// Job is a node of a graph that starts after others, by path.
func Job(name, kind string, after ...*heddlev1.ParentRef) *heddlev1.NodeSpec {
	return &heddlev1.NodeSpec{Name: name, Node: &heddlev1.NodeSpec_Job{Job: &heddlev1.JobSpec{Kind: kind}}, After: after}
}

// Batch is a batch of a graph; its members name it in In.
func Batch(name string, after ...*heddlev1.ParentRef) *heddlev1.NodeSpec {
	return &heddlev1.NodeSpec{Name: name, Node: &heddlev1.NodeSpec_Batch{Batch: &heddlev1.BatchSpec{}}, After: after}
}

// After names a parent and the outcomes that count; none: success.
func After(path string, on ...heddlev1.Outcome) *heddlev1.ParentRef {
	return &heddlev1.ParentRef{Path: path, On: on}
}

// Put submits and fails the test unless everything was taken. It gives the
// ids.
func (c *Client) Put(subs ...*heddlev1.Submission) []string {
	c.t.Helper()
	res, err := c.Submit(c.t.Context(), connect.NewRequest(&heddlev1.SubmitRequest{Submissions: subs}))
	if err != nil {
		c.t.Fatalf("submit: %v", err)
	}
	ids := make([]string, len(subs))
	for i, r := range res.Msg.GetResults() {
		if r.GetCode() != "" {
			c.t.Fatalf("submission %d: %s: %s", i, r.GetCode(), r.GetMessage())
		}
		ids[i] = r.GetId()
	}
	return ids
}

// Await waits until a node has ended; path "" is the workflow.
func (c *Client) Await(id, path string) *heddlev1.WaitResponse {
	c.t.Helper()
	res, err := c.Wait(c.t.Context(), connect.NewRequest(&heddlev1.WaitRequest{WorkflowId: id, Path: path, Timeout: durationpb.New(time.Minute)}))
	if err != nil {
		c.t.Fatalf("wait for %s %q: %v", id, path, err)
	}
	if !res.Msg.GetEnded() {
		c.t.Fatalf("%s %q has not ended within a minute: %s", id, path, res.Msg.GetState())
	}
	return res.Msg
}

// Want waits until a node has ended and fails the test unless so.
func (c *Client) Want(id, path string, state heddlev1.State) *heddlev1.WaitResponse {
	c.t.Helper()
	res := c.Await(id, path)
	if res.GetState() != state {
		c.t.Fatalf("%s %q ended %s, want %s; error %q", id, path, res.GetState(), state, res.GetError())
	}
	return res
}

// WantThrough is Want while the engine may be away for some time.
func (c *Client) WantThrough(id string, state heddlev1.State) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for {
		res, err := c.Wait(ctx, connect.NewRequest(&heddlev1.WaitRequest{WorkflowId: id, Timeout: durationpb.New(10 * time.Second)}))
		switch {
		case err == nil && res.Msg.GetEnded():
			if res.Msg.GetState() != state {
				c.t.Fatalf("%s ended %s, want %s; error %q", id, res.Msg.GetState(), state, res.Msg.GetError())
			}
			return
		case ctx.Err() != nil:
			c.t.Fatalf("%s has not ended within a minute: %v, %v", id, res, err)
		case err != nil:
			t := time.NewTimer(50 * time.Millisecond)
			<-t.C
		}
	}
}

// JobOf reads one job.
func (c *Client) JobOf(id string, node int32) *heddlev1.Job {
	c.t.Helper()
	res, err := c.Jobs.Get(c.t.Context(), connect.NewRequest(&heddlev1.JobServiceGetRequest{Id: fmt.Sprintf("%s/%d", id, node)}))
	if err != nil {
		c.t.Fatalf("get job %s/%d: %v", id, node, err)
	}
	return res.Msg.GetJob()
}

// Handler runs one job. Its report needs no names: the worker fills them in.
type Handler func(ctx context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport

// Succeed reports a success with a result.
func Succeed(result string) *heddlev1.AttemptReport {
	return &heddlev1.AttemptReport{Ending: heddlev1.Ending_ENDING_SUCCEEDED, Result: []byte(result)}
}

// Fail reports a failure.
func Fail(text string) *heddlev1.AttemptReport {
	return &heddlev1.AttemptReport{Ending: heddlev1.Ending_ENDING_FAILED, Error: text}
}

// Worker polls, runs handlers and reports, until Stop or Die.
type Worker struct {
	// Starts counts the runs begun; Acked the reports that were acknowledged.
	Starts, Acked atomic.Int64
	// OnAck is called after an acknowledged report. Set it before Start.
	OnAck func(*heddlev1.Lease)
	// Session is the newest one.
	Session atomic.Uint64

	c       *Client
	slots   int
	kinds   map[string]Handler
	queues  []*heddlev1.QueueWeight
	process string
	ctx     context.Context // of everything
	cancel  context.CancelFunc
	polls   context.Context // of polling
	endPoll context.CancelFunc
	wg      sync.WaitGroup
	poll    atomic.Uint64 // newest poll begun
	closed  atomic.Uint64 // newest poll ended

	mu   sync.Mutex
	held map[string]*running
	free chan struct{}
}

type running struct {
	lease  *heddlev1.Lease
	cancel context.CancelFunc
}

// NewWorker makes a worker of the default queue.
func (c *Client) NewWorker(slots int, kinds map[string]Handler) *Worker {
	w := &Worker{c: c, slots: slots, kinds: kinds, held: make(map[string]*running), process: rand.Text(),
		queues: []*heddlev1.QueueWeight{{Queue: "default"}}, free: make(chan struct{}, 1)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.polls, w.endPoll = context.WithCancel(w.ctx)
	return w
}

// Work makes a worker and starts it; it is stopped at the test's end.
func (c *Client) Work(slots int, kinds map[string]Handler) *Worker {
	w := c.NewWorker(slots, kinds)
	w.Start()
	c.t.Cleanup(w.Die)
	return w
}

// Start opens a session and begins to poll.
func (w *Worker) Start() {
	w.open()
	w.wg.Go(w.heartbeats)
	w.wg.Go(w.pollLoop)
}

// Stop takes no more jobs, waits for the running ones, and closes the session.
func (w *Worker) Stop() {
	w.endPoll()
	for w.ctx.Err() == nil && w.running() > 0 {
		select {
		case <-w.free:
		case <-w.ctx.Done():
		}
	}
	_, _ = w.c.CloseSession(w.ctx, connect.NewRequest(&heddlev1.CloseSessionRequest{Session: w.Session.Load(), PollsClosed: w.poll.Load()}))
	w.Die()
}

// Die ends the worker as a crash would: nothing more is sent.
func (w *Worker) Die() {
	w.cancel()
	w.wg.Wait()
}

func (w *Worker) running() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.held)
}

func (w *Worker) open() {
	for w.ctx.Err() == nil {
		res, err := w.c.OpenSession(w.ctx, connect.NewRequest(&heddlev1.OpenSessionRequest{Worker: "test worker", Slots: int32(w.slots), Process: w.process}))
		if err == nil {
			w.poll.Store(0)
			w.closed.Store(0)
			w.Session.Store(res.Msg.GetSession())
			return
		}
		w.pause()
	}
}

// pause between tries of a call that failed: the engine may be away.
func (w *Worker) pause() {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.ctx.Done():
	}
}

func key(l *heddlev1.Lease) string {
	return fmt.Sprintf("%x/%d/%d", l.GetWorkflowId(), l.GetNode(), l.GetLease())
}

func (w *Worker) pollLoop() {
	kinds := make([]string, 0, len(w.kinds))
	for k := range w.kinds {
		kinds = append(kinds, k)
	}
	for w.polls.Err() == nil {
		room := w.slots - w.running()
		if room <= 0 {
			select {
			case <-w.free:
			case <-w.polls.Done():
			}
			continue
		}
		session, poll := w.Session.Load(), w.poll.Add(1)
		res, err := w.c.Poll(w.polls, connect.NewRequest(&heddlev1.PollRequest{
			Session: session, Poll: poll, MaxJobs: int32(room), Queues: w.queues, Kinds: kinds, Wait: durationpb.New(5 * time.Second),
		}))
		if err != nil {
			w.closed.Store(poll)
			if connect.CodeOf(err) == connect.CodeNotFound {
				w.open()
			}
			w.pause()
			continue
		}
		for _, l := range res.Msg.GetLeases() {
			w.begin(session, l)
		}
		w.closed.Store(poll)
	}
}

func (w *Worker) begin(session uint64, l *heddlev1.Lease) {
	ctx, cancel := context.WithCancel(w.ctx)
	w.mu.Lock()
	w.held[key(l)] = &running{l, cancel}
	w.mu.Unlock()
	w.Starts.Add(1)
	w.wg.Go(func() {
		defer cancel()
		r := w.kinds[l.GetKind()](ctx, l)
		if r == nil {
			return // never reported
		}
		w.Report(session, l, r)
		w.mu.Lock()
		delete(w.held, key(l))
		w.mu.Unlock()
		select {
		case w.free <- struct{}{}:
		default:
		}
	})
}

// Report sends a report until it is answered for good, and gives the answer.
func (w *Worker) Report(session uint64, l *heddlev1.Lease, r *heddlev1.AttemptReport) *heddlev1.ReportResult {
	r.WorkflowId, r.Node, r.Lease = l.GetWorkflowId(), l.GetNode(), l.GetLease()
	for w.ctx.Err() == nil {
		res, err := w.c.Report(w.ctx, connect.NewRequest(&heddlev1.ReportRequest{Session: session, Reports: []*heddlev1.AttemptReport{r}}))
		if err == nil && res.Msg.GetResults()[0].GetStatus() != heddlev1.ReportStatus_REPORT_STATUS_RETRY {
			result := res.Msg.GetResults()[0]
			if result.GetStatus() == heddlev1.ReportStatus_REPORT_STATUS_DONE {
				w.Acked.Add(1)
				if w.OnAck != nil {
					w.OnAck(l)
				}
			}
			return result
		}
		if err != nil && connect.CodeOf(err) == connect.CodeNotFound {
			return nil // the session is gone
		}
		w.pause()
	}
	return nil
}

func (w *Worker) heartbeats() {
	var seen uint64
	for w.ctx.Err() == nil {
		// In this order: closed polls of an older session never name a newer
		// one, and what the closed polls granted is among the leases.
		session := w.Session.Load()
		closed := w.closed.Load()
		w.mu.Lock()
		held := make([]*heddlev1.HeldLease, 0, len(w.held))
		for _, r := range w.held {
			held = append(held, &heddlev1.HeldLease{WorkflowId: r.lease.GetWorkflowId(), Node: r.lease.GetNode(), Lease: r.lease.GetLease()})
		}
		w.mu.Unlock()
		res, err := w.c.Heartbeat(w.ctx, connect.NewRequest(&heddlev1.HeartbeatRequest{
			Session: session, PollsClosed: closed, Held: held, Wait: durationpb.New(200 * time.Millisecond), CommandsSeen: seen,
		}))
		if err != nil {
			w.pause()
			continue
		}
		seen = res.Msg.GetCommands()
		w.mu.Lock()
		for _, h := range append(res.Msg.GetCancel(), res.Msg.GetLost()...) {
			k := key(&heddlev1.Lease{WorkflowId: h.GetWorkflowId(), Node: h.GetNode(), Lease: h.GetLease()})
			if r := w.held[k]; r != nil {
				r.cancel()
			}
		}
		w.mu.Unlock()
	}
}
