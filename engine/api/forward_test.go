package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/internal/signpost"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// leads is a Leadership of which the test says who leads.
type leads struct {
	mu      sync.Mutex
	place   *Place
	changed chan struct{}
	end     context.CancelFunc
	asked   chan struct{} // nil, or receives at each look
}

func newLeads(p Place) *leads {
	l := &leads{changed: make(chan struct{})}
	l.set(p)
	return l
}

// set names another leader, or another state of this node.
func (l *leads) set(p Place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.place == nil || p.API != "" && p.API != l.place.API || p.Leads {
		if l.end != nil {
			l.end()
		}
		p.Term, l.end = context.WithCancel(context.Background())
	} else {
		p.Term = l.place.Term
	}
	l.place = &p
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *leads) Leader() (*Place, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked != nil {
		l.asked <- struct{}{}
	}
	return l.place, l.changed
}

// node is an engine of a cluster.
type node struct {
	*fake
	*leads
	*httptest.Server
	poll func(context.Context) error // instead of the fake's
	hold func(*http.Request)         // before a call is answered

	mu   sync.Mutex
	seen map[string]http.Header // of the calls, by path
}

// Poll implements Scheduler.
func (n *node) Poll(ctx context.Context, req PollRequest) ([]Grant, uint64, error) {
	if n.poll != nil {
		return nil, 5, n.poll(ctx)
	}
	return n.fake.Poll(ctx, req)
}

// Leader is that of the Scheduler.
func (n *node) Leader() (uint64, bool) { return n.fake.Leader() }

func h2c() *http.Transport {
	t := &http.Transport{Protocols: new(http.Protocols), DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// newNode runs a node with this place.
func newNode(t testing.TB, id string, p Place, change func(*node, *http.Server)) *node {
	t.Helper()
	n := &node{fake: &fake{
		grants: []Grant{grant(3)}, workflow: ended, graph: &heddlev1.GraphResponse{Groups: 3},
		explain: &heddlev1.JobServiceExplainResponse{State: heddlev1.State_STATE_BLOCKED},
		queues:  []*heddlev1.Queue{{Name: "bulk", Available: 5}},
		results: [][]*heddlev1.Result{{{Node: 3, Result: []byte("1")}}, {{Node: 4}}}, isBatch: true,
		commands: Commands{Epoch: 5, Number: 8, Drain: true, Lost: []HeldLease{{Job: fsm.JobID{Workflow: theID, Node: 3}, ID: 77}}},
	}, leads: newLeads(p), seen: make(map[string]http.Header)}
	transport := h2c()
	deps := n.deps()
	deps.Scheduler = n
	deps.Routing = Routing{Node: id, Leadership: n.leads, Transport: transport}
	config := DefaultConfig()
	config.Logger = slog.New(slog.DiscardHandler)
	h, err := New(config, deps)
	if err != nil {
		t.Fatal(err)
	}
	n.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		n.seen[r.URL.Path] = r.Header.Clone()
		n.mu.Unlock()
		if n.hold != nil {
			n.hold(r)
		}
		h.ServeHTTP(w, r)
	}))
	n.Config.Protocols = new(http.Protocols)
	n.Config.Protocols.SetHTTP1(true)
	n.Config.Protocols.SetUnencryptedHTTP2(true)
	if change != nil {
		change(n, n.Config)
	}
	n.Start()
	t.Cleanup(func() {
		n.CloseClientConnections()
		n.Close()
		transport.CloseIdleConnections()
	})
	return n
}

// pair is a leader and another node.
func pair(t testing.TB, change func(leader *node, s *http.Server)) (follower, leader *node) {
	t.Helper()
	leader = newNode(t, "b", Place{Leads: true, Ready: true}, change)
	members := "http://a,http://b"
	leader.set(Place{Leads: true, Ready: true, Self: leader.URL, Members: members})
	return newNode(t, "a", Place{API: leader.URL, Members: members}, nil), leader
}

var protocols = map[string][]connect.ClientOption{
	"connect": nil, "connect json": {connect.WithProtoJSON()}, "connect get": {connect.WithHTTPGet()},
	"grpc": {connect.WithGRPC()}, "grpc json": {connect.WithGRPC(), connect.WithProtoJSON()}, "grpc-web": {connect.WithGRPCWeb()},
}

// Any node takes any call: those that need the leader are answered there, all
// others where they arrive.
func TestAnyNodeTakesAnyCall(t *testing.T) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			follower, leader := pair(t, nil)
			c := dial(t, follower.URL, opts...)
			callWorkflows(t, c)
			callOthers(t, c)
			callStreams(t, c)
			got := slices.Sorted(maps.Keys(leader.seen))
			want := slices.DeleteFunc(slices.Sorted(maps.Keys(follower.seen)), func(path string) bool { return manners[path] == 0 })
			if !slices.Equal(got, want) || len(want) < 18 {
				t.Errorf("at the leader:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			for path, h := range leader.seen {
				if h.Get(signpost.Forwarded) != "a" || h.Get("X-Forwarded-For") != "127.0.0.1" {
					t.Errorf("%s came with %v", path, h)
				}
			}
		})
	}
}

func TestAnswersSayWhereTheLeaderIs(t *testing.T) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			follower, leader := pair(t, nil)
			open := func(n *node) *connect.Response[heddlev1.OpenSessionResponse] {
				res, err := dial(t, n.URL, opts...).workers.OpenSession(t.Context(), connect.NewRequest(&heddlev1.OpenSessionRequest{Worker: "w", Slots: 1}))
				if err != nil {
					t.Fatal(err)
				}
				return res
			}
			res := open(follower)
			if res.Msg.GetLeader() != leader.URL || res.Header().Get(signpost.Leader) != leader.URL || res.Header().Get(signpost.Members) != "http://a,http://b" {
				t.Errorf("by another node: %v, %v", res.Msg, res.Header())
			}
			res = open(leader)
			if res.Msg.GetLeader() != "" || res.Header().Get(signpost.Leader) != "" || res.Header().Get(signpost.Members) != "http://a,http://b" {
				t.Errorf("by the leader: %v, %v", res.Msg, res.Header())
			}
		})
	}
}

func poll() *connect.Request[heddlev1.PollRequest] {
	return connect.NewRequest(&heddlev1.PollRequest{Session: 11, Poll: 1, MaxJobs: 2, Kinds: []string{"send"}, Queues: []*heddlev1.QueueWeight{{Queue: "bulk"}}, Wait: durationpb.New(time.Minute)})
}

// parked is a poll that tells when it has begun and how it ended.
func parked() (poll func(context.Context) error, begun chan struct{}, ended chan error) {
	begun, ended = make(chan struct{}, 100), make(chan error, 100)
	return func(ctx context.Context) error {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return ctx.Err()
	}, begun, ended
}

func TestCancellationAndDeadlinesTravel(t *testing.T) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			follower, leader := pair(t, nil)
			var begun chan struct{}
			var ended chan error
			leader.poll, begun, ended = parked()
			c := dial(t, follower.URL, opts...)
			ctx, cancel := context.WithCancel(t.Context())
			answer := make(chan error, 1)
			go func() { _, err := c.workers.Poll(ctx, poll()); answer <- err }()
			<-begun
			cancel()
			if err := <-answer; connect.CodeOf(err) != connect.CodeCanceled {
				t.Errorf("answer: %v", err)
			}
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("at the leader: %v", err)
			}
			// The leader keeps the time itself: it would hear of the caller's
			// hanging up as of a cancellation.
			ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			leader.poll = func(ctx context.Context) error {
				if _, limited := ctx.Deadline(); !limited {
					ended <- errors.New("no deadline")
					return nil
				}
				ended <- nil
				return nil
			}
			if _, err := c.workers.Poll(ctx, poll()); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// A leader that goes away leaves its callers with an answer in their own
// protocol, whether theirs had begun or not.
func TestLeaderDiesInTheMiddle(t *testing.T) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			follower, leader := pair(t, nil)
			var begun chan struct{}
			leader.poll, begun, _ = parked()
			leader.workflow = func() *heddlev1.Workflow { return &heddlev1.Workflow{Id: textID} } // never ends
			c := dial(t, follower.URL, opts...)
			answer := make(chan error, 1)
			go func() { _, err := c.workers.Poll(t.Context(), poll()); answer <- err }()
			<-begun
			watch, err := c.workflows.Watch(t.Context(), connect.NewRequest(&heddlev1.WatchRequest{WorkflowId: textID}))
			if err != nil {
				t.Fatal(err)
			}
			defer watch.Close()
			if !watch.Receive() {
				t.Fatal(watch.Err())
			}
			leader.CloseClientConnections()
			var e *connect.Error
			if err := <-answer; !errors.As(err, &e) || e.Code() != connect.CodeUnavailable || !connect.IsWireError(err) || e.Meta().Get(signpost.Doubt) == "" {
				t.Errorf("poll: %v", err)
			}
			if watch.Receive() {
				t.Errorf("watch: goes on with %v", watch.Msg())
			}
			if err := watch.Err(); connect.CodeOf(err) != connect.CodeUnavailable || !connect.IsWireError(err) {
				t.Errorf("watch: %v", err)
			}
		})
	}
}

// What was passed on is not passed on again.
func TestNoLoops(t *testing.T) {
	follower, leader := pair(t, nil)
	follower.fake.workflow = nil
	leader.set(Place{API: follower.URL}) // each takes the other for the leader
	c := dial(t, follower.URL)
	_, err := c.workers.Poll(t.Context(), poll())
	var e *connect.Error
	if !errors.As(err, &e) || e.Code() != connect.CodeUnavailable || e.Meta().Get(signpost.Doubt) != "" || e.Message() != errElsewhere.Error() {
		t.Errorf("poll: %v", err)
	}
	if len(follower.seen) != 1 || len(leader.seen) != 1 {
		t.Errorf("%d calls here, %d there", len(follower.seen), len(leader.seen))
	}
	// What the other node can answer, it does.
	if _, err := c.jobs.Explain(t.Context(), connect.NewRequest(&heddlev1.JobServiceExplainRequest{Id: textID})); err != nil {
		t.Errorf("explain: %v", err)
	}
}

// direct answers requests by a handler, without a network.
type direct struct {
	http.Handler
	fail error // instead
}

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.fail != nil {
		return nil, d.fail
	}
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	d.ServeHTTP(w, r)
	res := w.Result()
	res.Request = r
	return res, nil
}

// lonely is the API of one node in a bubble, with a client of it.
func lonely(t *testing.T, l *leads, transport http.RoundTripper, opts ...connect.ClientOption) (*fake, clients) {
	t.Helper()
	f := &fake{workflow: ended, explain: &heddlev1.JobServiceExplainResponse{}, queues: []*heddlev1.Queue{{Name: "q"}}}
	deps := f.deps()
	deps.Routing = Routing{Node: "a", Leadership: l, Transport: transport}
	h, err := New(DefaultConfig(), deps)
	if err != nil {
		t.Fatal(err)
	}
	hc := &http.Client{Transport: direct{Handler: h}}
	return f, clients{
		workflows: heddlev1connect.NewWorkflowServiceClient(hc, "http://a", opts...),
		jobs:      heddlev1connect.NewJobServiceClient(hc, "http://a", opts...),
		queues:    heddlev1connect.NewQueueServiceClient(hc, "http://a", opts...),
		workers:   heddlev1connect.NewWorkerServiceClient(hc, "http://a", opts...),
	}
}

// Without a leader calls wait a bounded time, which is not the same for all,
// and are told when to come again. What needs none is answered at once.
func TestWithoutALeader(t *testing.T) {
	for name, opts := range protocols {
		if name == "grpc" || name == "grpc json" {
			continue // not without a network; TestLeaderDiesInTheMiddle has them
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, c := lonely(t, newLeads(Place{}), nil, opts...)
				began := time.Now()
				var wg sync.WaitGroup
				took := make([]time.Duration, 20)
				for i := range took {
					wg.Go(func() {
						_, err := c.workers.Poll(t.Context(), poll())
						took[i] = time.Since(began)
						var e *connect.Error
						if !errors.As(err, &e) || e.Code() != connect.CodeUnavailable || e.Meta().Get("Retry-After") != "1" || e.Meta().Get(signpost.Doubt) != "" {
							t.Errorf("poll: %v", err)
						}
					})
				}
				wg.Wait()
				slices.Sort(took)
				if took[0] < leaderWait*3/4 || took[19] > leaderWait*5/4 || took[19]-took[0] < leaderWait/10 {
					t.Errorf("waited %v", took)
				}
				began = time.Now()
				check(t, "explain", unary(c.jobs.Explain, &heddlev1.JobServiceExplainRequest{Id: textID}), func(*heddlev1.JobServiceExplainResponse) bool { return true })
				check(t, "queues", unary(c.queues.List, &heddlev1.QueueServiceListRequest{}), func(*heddlev1.QueueServiceListResponse) bool { return true })
				check(t, "wait", unary(c.workflows.Wait, &heddlev1.WaitRequest{WorkflowId: textID}), func(r *heddlev1.WaitResponse) bool { return r.GetEnded() })
				check(t, "get", unary(c.workflows.Get, &heddlev1.GetRequest{WorkflowId: textID}), func(*heddlev1.GetResponse) bool { return true })
				check(t, "submit", unary(c.workflows.Submit, &heddlev1.SubmitRequest{Submissions: []*heddlev1.Submission{
					{Id: textID, Work: &heddlev1.Submission_Job{Job: &heddlev1.JobSpec{Kind: "k"}}}}}), func(*heddlev1.SubmitResponse) bool { return true })
				if d := time.Since(began); d != 0 {
					t.Errorf("waited %v for a leader that was not needed", d)
				}
			})
		})
	}
}

// Calls that wait go on when this node has come to lead: heartbeats at once,
// the others when it dispatches. A crowd does not come all at once.
func TestWaitingCallsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeads(Place{})
		_, c := lonely(t, l, nil)
		began := time.Now()
		var wg sync.WaitGroup
		var beat time.Duration
		wg.Go(func() {
			if _, err := c.workers.Heartbeat(t.Context(), connect.NewRequest(&heddlev1.HeartbeatRequest{Session: 11})); err != nil {
				t.Error(err)
			}
			beat = time.Since(began)
		})
		took := make([]time.Duration, 1000)
		for i := range took {
			wg.Go(func() {
				if _, err := c.workers.Poll(t.Context(), poll()); err != nil {
					t.Error(err)
				}
				took[i] = time.Since(began)
			})
		}
		time.Sleep(300 * time.Millisecond)
		l.set(Place{Leads: true})
		time.Sleep(400 * time.Millisecond)
		l.set(Place{Leads: true, Ready: true})
		wg.Wait()
		if beat < 300*time.Millisecond || beat > 350*time.Millisecond {
			t.Errorf("heartbeat after %v", beat)
		}
		slices.Sort(took)
		if took[0] < 700*time.Millisecond || took[999] > 700*time.Millisecond+2*herdMost || took[999]-took[0] < 5*time.Millisecond {
			t.Errorf("polls from %v to %v", took[0], took[999])
		}
	})
}

// A leader that refuses the connection got nothing: the call waits for the
// next one.
func TestNextLeaderGetsWhatTheDeadOneDidNot(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	follower, leader := pair(t, nil)
	follower.set(Place{API: "http://" + gone.Addr().String()})
	follower.leads.mu.Lock()
	follower.leads.asked = make(chan struct{}, 10)
	follower.leads.mu.Unlock()
	answer := make(chan error, 1)
	go func() {
		_, err := dial(t, follower.URL).workflows.Cancel(t.Context(), connect.NewRequest(&heddlev1.CancelRequest{WorkflowId: textID}))
		answer <- err
	}()
	<-follower.leads.asked
	follower.set(Place{API: leader.URL})
	if err := <-answer; err != nil {
		t.Error(err)
	}
	if got := leader.last(t); got != (command{"cancel", dag.Root, false, ""}) {
		t.Errorf("got %v", got)
	}
}

// A leader that has become mute keeps only calls that must not be made twice.
func TestDeposedLeaderIsLeft(t *testing.T) {
	release := make(chan struct{})
	old := newNode(t, "c", Place{Leads: true, Ready: true}, nil)
	arrived := make(chan string, 10)
	old.hold = func(r *http.Request) {
		arrived <- r.URL.Path
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	follower, leader := pair(t, nil)
	follower.set(Place{API: old.URL})
	c := dial(t, follower.URL)
	polled, cancelled := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.workers.Poll(t.Context(), poll()); polled <- err }()
	go func() {
		_, err := c.workflows.Cancel(t.Context(), connect.NewRequest(&heddlev1.CancelRequest{WorkflowId: textID}))
		cancelled <- err
	}()
	<-arrived
	<-arrived
	follower.set(Place{}) // it may be the same again
	select {
	case err := <-polled:
		t.Fatalf("cut although nobody else leads: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	follower.set(Place{API: leader.URL})
	if err := <-polled; connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("poll: %v", err)
	}
	close(release)
	if err := <-cancelled; err != nil {
		t.Errorf("cancel: %v", err)
	}
	if len(leader.seen) != 0 {
		t.Errorf("at the new leader: %v", leader.seen)
	}
}

// One connection carries only so many calls: there are as many as it takes. (A
// server must allow a hundred at least: so many are sent before it is heard.)
func TestThousandsOfPolls(t *testing.T) {
	const n = 300
	begun := make(chan struct{}, n)
	follower, leader := pair(t, func(_ *node, s *http.Server) { s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 100} })
	leader.poll = func(ctx context.Context) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	c := dial(t, follower.URL)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { _, _ = c.workers.Poll(ctx, poll()) })
	}
	for i := range n {
		select {
		case <-begun:
		case <-time.After(20 * time.Second):
			t.Fatalf("only %d polls arrived", i)
		}
	}
	cancel()
	wg.Wait()
}

// A transaction whose fate is unknown is told apart from one that did not
// happen.
func TestDoubtIsSaid(t *testing.T) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			f := &fake{err: fmt.Errorf("%w: %w", ErrUnavailable, model.ErrDoubt)}
			_, err := dial(t, serve(t, f, nil).URL, opts...).workflows.Cancel(t.Context(), connect.NewRequest(&heddlev1.CancelRequest{WorkflowId: textID}))
			var e *connect.Error
			if !errors.As(err, &e) || e.Code() != connect.CodeUnavailable || e.Meta().Get(signpost.Doubt) != "1" {
				t.Errorf("got %v, %v", err, e.Meta())
			}
		})
	}
}
