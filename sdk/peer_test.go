package heddle

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer plays the engine's side of the wire, in memory. It hands out the jobs it is
// given and records what it is told; the hooks bend single answers.
type peer struct {
	heddlev1connect.UnimplementedWorkerServiceHandler
	heddlev1connect.UnimplementedWorkflowServiceHandler

	// Hooks; nil: the default.
	onOpen   func(ctx context.Context, m *heddlev1.OpenSessionRequest) (*heddlev1.OpenSessionResponse, error)
	onPoll   func(ctx context.Context, m *heddlev1.PollRequest, answer func() (*heddlev1.PollResponse, error)) (*heddlev1.PollResponse, error)
	onReport func(ctx context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error)
	onBeat   func(ctx context.Context, m *heddlev1.HeartbeatRequest, answer func() (*heddlev1.HeartbeatResponse, error)) (*heddlev1.HeartbeatResponse, error)
	onSubmit func(ctx context.Context, m *heddlev1.SubmitRequest) (*heddlev1.SubmitResponse, error)

	queues heddlev1connect.QueueServiceHandler // nil: none

	mu       sync.Mutex
	says     map[string]string // headers of all answers
	strict   bool              // polls end with the epoch
	ttl      time.Duration
	epoch    uint64
	sessions uint64
	jobs     []*heddlev1.Lease // available
	changed  chan struct{}     // closed and replaced when something happened
	lease    uint64
	polls    []*heddlev1.PollRequest
	beats    []*heddlev1.HeartbeatRequest
	reports  []*heddlev1.AttemptReport
	groups   []int // sizes of Report calls
	closed   []*heddlev1.CloseSessionRequest
	cancel   []*heddlev1.HeldLease
	lost     []*heddlev1.HeldLease
	commands uint64
	drain    bool
	reopen   map[uint64]bool
	submits  []*heddlev1.SubmitRequest
	streams  [][]*heddlev1.SubmitStreamRequest
	known    map[string]bool
	appends  []*heddlev1.AppendRequest
	results  map[string]*heddlev1.ResultsResponse
	asked    []*heddlev1.ResultsRequest
}

func newPeer() *peer {
	return &peer{
		ttl: 15 * time.Second, epoch: 1, changed: make(chan struct{}), reopen: make(map[uint64]bool),
		known: make(map[string]bool), results: make(map[string]*heddlev1.ResultsResponse),
	}
}

// happened wakes whoever waits (mu is held).
func (p *peer) happened() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// do changes the peer's state.
func (p *peer) do(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.happened()
}

// add makes jobs available.
func (p *peer) add(n int, kind string, edit ...func(*heddlev1.Lease)) {
	p.do(func() {
		for range n {
			id := uuid.New()
			l := &heddlev1.Lease{WorkflowId: id[:], Node: 1, Kind: kind, Queue: "default", Attempt: 1, MaxAttempts: 10, Lone: true}
			for _, f := range edit {
				f(l)
			}
			p.jobs = append(p.jobs, l)
		}
	})
}

// until waits for a condition on the peer's state.
func (p *peer) until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		p.mu.Lock()
		ok, changed := cond(), p.changed
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

func (p *peer) OpenSession(ctx context.Context, req *connect.Request[heddlev1.OpenSessionRequest]) (*connect.Response[heddlev1.OpenSessionResponse], error) {
	if p.onOpen != nil {
		return respond(p.onOpen(ctx, req.Msg))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions++
	p.happened()
	return connect.NewResponse(&heddlev1.OpenSessionResponse{Session: p.sessions, Ttl: durationpb.New(p.ttl), Epoch: p.epoch}), nil
}

func (p *peer) Poll(ctx context.Context, req *connect.Request[heddlev1.PollRequest]) (*connect.Response[heddlev1.PollResponse], error) {
	p.do(func() { p.polls = append(p.polls, req.Msg) })
	answer := func() (*heddlev1.PollResponse, error) { return p.grant(ctx, req.Msg) }
	if p.onPoll != nil {
		return respond(p.onPoll(ctx, req.Msg, answer))
	}
	return respond(answer())
}

func (p *peer) grant(ctx context.Context, m *heddlev1.PollRequest) (*heddlev1.PollResponse, error) {
	timeout := time.NewTimer(m.GetWait().AsDuration())
	defer timeout.Stop()
	p.mu.Lock()
	begun := p.epoch
	p.mu.Unlock()
	for {
		p.mu.Lock()
		if p.strict && p.epoch != begun {
			p.mu.Unlock()
			return nil, connect.NewError(connect.CodeUnavailable, errors.New("not the leader"))
		}
		n := min(len(p.jobs), int(m.GetMaxJobs()))
		if n > 0 {
			res := &heddlev1.PollResponse{Epoch: p.epoch, Leases: p.jobs[:n:n]}
			p.jobs = p.jobs[n:]
			p.lease++
			for _, l := range res.Leases {
				l.Lease = p.lease
			}
			p.mu.Unlock()
			return res, nil
		}
		changed, epoch := p.changed, p.epoch
		p.mu.Unlock()
		select {
		case <-changed:
		case <-timeout.C:
			return &heddlev1.PollResponse{Epoch: epoch}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *peer) Report(ctx context.Context, req *connect.Request[heddlev1.ReportRequest]) (*connect.Response[heddlev1.ReportResponse], error) {
	if p.onReport != nil {
		return respond(p.onReport(ctx, req.Msg))
	}
	return respond(p.accept(req.Msg))
}

// accept records reports as durable.
func (p *peer) accept(m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	res := &heddlev1.ReportResponse{Epoch: p.epoch}
	p.groups = append(p.groups, len(m.GetReports()))
	p.reports = append(p.reports, m.GetReports()...)
	for range m.GetReports() {
		res.Results = append(res.Results, &heddlev1.ReportResult{Status: heddlev1.ReportStatus_REPORT_STATUS_DONE})
	}
	p.happened()
	return res, nil
}

func (p *peer) Heartbeat(ctx context.Context, req *connect.Request[heddlev1.HeartbeatRequest]) (*connect.Response[heddlev1.HeartbeatResponse], error) {
	p.do(func() { p.beats = append(p.beats, req.Msg) })
	answer := func() (*heddlev1.HeartbeatResponse, error) { return p.command(ctx, req.Msg) }
	if p.onBeat != nil {
		return respond(p.onBeat(ctx, req.Msg, answer))
	}
	return respond(answer())
}

func (p *peer) command(ctx context.Context, m *heddlev1.HeartbeatRequest) (*heddlev1.HeartbeatResponse, error) {
	timeout := time.NewTimer(m.GetWait().AsDuration())
	defer timeout.Stop()
	for over := false; ; {
		p.mu.Lock()
		res := &heddlev1.HeartbeatResponse{Epoch: p.epoch, Ttl: durationpb.New(p.ttl), Commands: p.commands, Drain: p.drain, Reopen: p.reopen[m.GetSession()]}
		if m.GetCommandsSeen() < p.commands {
			res.Cancel, res.Lost = p.cancel, p.lost
		}
		changed := p.changed
		p.mu.Unlock()
		if over || len(res.Cancel)+len(res.Lost) > 0 || res.Drain || res.Reopen {
			return res, nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			over = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *peer) CloseSession(_ context.Context, req *connect.Request[heddlev1.CloseSessionRequest]) (*connect.Response[heddlev1.CloseSessionResponse], error) {
	p.do(func() { p.closed = append(p.closed, req.Msg) })
	return connect.NewResponse(&heddlev1.CloseSessionResponse{}), nil
}

func (p *peer) Submit(ctx context.Context, req *connect.Request[heddlev1.SubmitRequest]) (*connect.Response[heddlev1.SubmitResponse], error) {
	if p.onSubmit != nil {
		return respond(p.onSubmit(ctx, req.Msg))
	}
	return respond(p.persist(req.Msg))
}

func (p *peer) persist(m *heddlev1.SubmitRequest) (*heddlev1.SubmitResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.submits = append(p.submits, m)
	res := &heddlev1.SubmitResponse{}
	for _, s := range m.GetSubmissions() {
		res.Results = append(res.Results, &heddlev1.SubmitResult{Id: s.GetId(), Created: !p.known[s.GetId()]})
		p.known[s.GetId()] = true
	}
	p.happened()
	return res, nil
}

func (p *peer) SubmitStream(_ context.Context, stream *connect.ClientStream[heddlev1.SubmitStreamRequest]) (*connect.Response[heddlev1.SubmitStreamResponse], error) {
	var parts []*heddlev1.SubmitStreamRequest
	for stream.Receive() {
		parts = append(parts, stream.Msg())
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	p.do(func() { p.streams = append(p.streams, parts) })
	return connect.NewResponse(&heddlev1.SubmitStreamResponse{Id: parts[0].GetHeader().GetId(), Created: true}), nil
}

func (p *peer) Append(_ context.Context, req *connect.Request[heddlev1.AppendRequest]) (*connect.Response[heddlev1.AppendResponse], error) {
	p.do(func() { p.appends = append(p.appends, req.Msg) })
	return connect.NewResponse(&heddlev1.AppendResponse{FirstNode: 2, Nodes: int32(len(req.Msg.GetGraph().GetNodes())), Created: true}), nil
}

func (p *peer) Results(_ context.Context, req *connect.Request[heddlev1.ResultsRequest], stream *connect.ServerStream[heddlev1.ResultsResponse]) error {
	p.mu.Lock()
	p.asked = append(p.asked, req.Msg)
	res := p.results[req.Msg.GetPath()]
	p.mu.Unlock()
	if res == nil {
		return connect.NewError(connect.CodeNotFound, errors.New("path "+req.Msg.GetPath()))
	}
	return stream.Send(res)
}

func respond[T any](m *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(m), nil
}

// pipes is a network in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu     sync.Mutex
	all    []net.Conn
	hole   bool          // connections are neither made nor refused
	frozen chan struct{} // nil, or closed when it goes on
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func (l *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	l.mu.Lock()
	hole := l.hole
	l.mu.Unlock()
	if hole {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: ctx.Err()}
	}
	client, server := net.Pipe()
	select {
	case l.conns <- hanging{server, l}:
		l.mu.Lock()
		l.all = append(l.all, client)
		l.mu.Unlock()
		return swallowing{client, l}, nil
	case <-l.done:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("refused")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// freeze has the engine's side hang until thaw, with all connections open.
func (l *pipes) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = make(chan struct{})
}

func (l *pipes) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != nil {
		close(l.frozen)
		l.frozen = nil
	}
}

// hang waits while the engine's side hangs.
func (l *pipes) hang() {
	l.mu.Lock()
	frozen := l.frozen
	l.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

// hanging is a connection of an engine that may hang.
type hanging struct {
	net.Conn
	l *pipes
}

func (c hanging) Read(p []byte) (int, error) {
	c.l.hang()
	n, err := c.Conn.Read(p)
	c.l.hang()
	return n, err
}

func (c hanging) Write(p []byte) (int, error) {
	c.l.hang()
	return c.Conn.Write(p)
}

// swallowing is the other side of it: the network takes what nobody reads.
type swallowing struct {
	net.Conn
	l *pipes
}

func (c swallowing) Write(p []byte) (int, error) {
	c.l.mu.Lock()
	frozen := c.l.frozen != nil
	c.l.mu.Unlock()
	if frozen {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// cut breaks all connections.
func (l *pipes) cut() {
	l.thaw()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.all {
		_ = c.Close()
	}
	l.all = nil
}

// saying adds what its peer says by the time it answers.
type saying struct {
	http.ResponseWriter
	p    *peer
	said bool
}

func (w *saying) WriteHeader(code int) {
	if !w.said {
		w.said = true
		w.p.mu.Lock()
		for k, v := range w.p.says {
			w.Header().Set(k, v)
		}
		w.p.mu.Unlock()
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *saying) Write(b []byte) (int, error) {
	if !w.said {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

func (w *saying) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

// services is what an engine serves.
type services interface {
	heddlev1connect.WorkerServiceHandler
	heddlev1connect.WorkflowServiceHandler
}

// serve is serveAll for plain peers.
func serve(t testing.TB, cfg ClientConfig, peers ...*peer) (*Client, []*pipes, func()) {
	t.Helper()
	all := make([]services, len(peers))
	for i, p := range peers {
		all[i] = p
	}
	return serveAll(t, cfg, all...)
}

// serveAll runs the peers, one per address, and gives a client of them. Everything
// is gone when the returned function was called.
func serveAll(t testing.TB, cfg ClientConfig, peers ...services) (*Client, []*pipes, func()) {
	t.Helper()
	var (
		nets    = make(map[string]*pipes)
		list    []*pipes
		servers []*http.Server
		wg      sync.WaitGroup
	)
	for i, p := range peers {
		mux := http.NewServeMux()
		mux.Handle(heddlev1connect.NewWorkerServiceHandler(p))
		mux.Handle(heddlev1connect.NewWorkflowServiceHandler(p))
		if plain, ok := p.(*peer); ok && plain.queues != nil {
			mux.Handle(heddlev1connect.NewQueueServiceHandler(plain.queues))
		}
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		srv := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if plain, ok := p.(*peer); ok {
				w = &saying{ResponseWriter: w, p: plain}
			}
			mux.ServeHTTP(w, r)
		})}
		l := newPipes()
		host := string(rune('a'+i)) + ":1"
		nets[host], list, servers = l, append(list, l), append(servers, srv)
		cfg.Addrs = append(cfg.Addrs, "http://"+host)
		wg.Go(func() { _ = srv.Serve(l) })
	}
	transport := newTransport(nil)
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if nets[addr] == nil {
			return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("nobody is at " + addr)}
		}
		return nets[addr].dial(ctx, network, addr)
	}
	cfg.HTTPClient = &http.Client{Transport: transport}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, list, func() {
		for _, s := range servers {
			_ = s.Close()
		}
		for _, l := range list {
			l.cut()
		}
		transport.CloseIdleConnections()
		wg.Wait()
	}
}
