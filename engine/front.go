package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/internal/port"
)

const (
	// drainTime bounds how long a stop waits for calls under way.
	drainTime = 5 * time.Second
	// lateTime bounds how long a stop waits for connections that have just been
	// made.
	lateTime = 250 * time.Millisecond
	// maxStreams is how many calls one HTTP/2 connection may have open.
	maxStreams = 4096
)

// front is where calls come in: the engine's handler, and its own servers if
// it has any. It counts the calls under way, so that a stop can end the long
// ones and wait for the others, whoever's server they came through.
type front struct {
	e        *Engine
	api      atomic.Pointer[http.Handler]
	refuse   *connect.ErrorWriter
	port     *port.Port // nil: none of its own
	profiles net.Listener
	servers  []*http.Server
	wg       sync.WaitGroup

	long    context.Context // of polls and watches; ends when the engine drains
	endLong context.CancelCauseFunc

	mu       sync.Mutex
	active   int
	draining bool
	idle     chan struct{} // closed when draining and no call is left
}

func (f *front) init(e *Engine) {
	f.e, f.refuse, f.idle = e, connect.NewErrorWriter(), make(chan struct{})
	f.long, f.endLong = context.WithCancelCause(context.Background())
}

// listen takes the addresses and serves them; calls are refused until open.
func (f *front) listen() error {
	var err error
	if a := f.e.cfg.Listen; a != "" {
		l, err := net.Listen("tcp", a)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		f.port = port.New(l, port.Config{Node: f.e.cfg.NodeID, Identity: f.e.cluster.identity, Logger: f.e.log})
		f.e.cluster.listens(f.port)
		f.run(f.port.API(), f)
	}
	if a := f.e.cfg.Pprof; a != "" {
		if f.profiles, err = net.Listen("tcp", a); err != nil {
			return fmt.Errorf("listen for pprof: %w", err)
		}
		mux := http.NewServeMux()
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		f.run(f.profiles, mux)
	}
	return nil
}

// open lets calls in.
func (f *front) open() error {
	e := f.e
	config := api.DefaultConfig()
	config.Limits, config.SessionTTL, config.Logger = e.cfg.limits(), e.cfg.SessionTTL, e.log
	config.MaxRequest = max(config.MaxRequest, 2*e.cfg.MaxBody+64<<10)
	config.Interceptors = []connect.Interceptor{stopping{}}
	config.Prefix, config.Gate, config.Page, config.Dev = e.cfg.Prefix, e.gate, e.page, e.cfg.Demo != nil
	handler, err := api.New(config, api.Deps{
		Reader: reader{e}, Submitter: submitter{e}, Scheduler: scheduler{e}, Completer: e.completer,
		Commander: commander{e}, Watcher: e.hub, Pages: e.store, Live: e.live, Sessions: looks{e}, Operations: operations{e}, Ping: e.store.Ping, Cluster: &e.cluster, Metrics: e.meters.handler(),
		Routing: api.Routing{Node: e.cfg.NodeID, Leadership: &e.leadership, Transport: e.cluster.peers.transport},
	})
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	f.api.Store(&handler)
	return nil
}

func (f *front) run(l net.Listener, h http.Handler) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{
		Handler: h, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
	}
	f.servers = append(f.servers, s)
	f.wg.Go(func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			f.e.log.Error("server ended", "listen", l.Addr().String(), "error", err)
		}
	})
}

func (f *front) addr() string {
	if f.port == nil {
		return ""
	}
	return f.port.Addr().String()
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := f.api.Load()
	if h == nil || !f.enter() {
		f.unavailable(w, r)
		return
	}
	defer f.leave()
	if isLong(r.URL.Path) {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		stop := context.AfterFunc(f.long, func() { cancel(ErrStopped) })
		defer stop()
		r = r.WithContext(ctx)
	}
	(*h).ServeHTTP(w, r)
}

// unavailable answers calls before the start and after the stop. The process
// is healthy all the same.
func (f *front) unavailable(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/healthz") {
		_, _ = fmt.Fprintln(w, "ok")
		return
	}
	err := connect.NewError(connect.CodeUnavailable, errors.New("the engine does not run"))
	err.Meta().Set("Retry-After", "1")
	if f.refuse.IsSupported(r) {
		_ = f.refuse.Write(w, r, err) // the caller has gone if this fails
		return
	}
	w.Header().Set("Retry-After", "1")
	http.Error(w, err.Message(), http.StatusServiceUnavailable)
}

// isLong reports whether a call waits for events rather than for work.
func isLong(path string) bool {
	for _, p := range []string{
		heddlev1connect.WorkerServicePollProcedure, heddlev1connect.WorkerServiceHeartbeatProcedure,
		heddlev1connect.WorkflowServiceWatchProcedure, heddlev1connect.WorkflowServiceWaitProcedure,
		heddlev1connect.LiveServiceWatchProcedure,
	} {
		if strings.HasSuffix(path, p) {
			return true
		}
	}
	return false
}

func (f *front) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.draining {
		return false
	}
	f.active++
	return true
}

func (f *front) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.active--; f.active == 0 && f.draining {
		close(f.idle)
	}
}

// drain takes no more calls, ends the long ones, and waits for the others a
// bounded time.
func (f *front) drain(ctx context.Context) {
	f.mu.Lock()
	f.draining = true
	if f.active == 0 {
		close(f.idle)
	}
	f.mu.Unlock()
	f.endLong(ErrStopped)
	t := time.NewTimer(drainTime)
	defer t.Stop()
	select {
	case <-f.idle:
	case <-t.C:
	case <-ctx.Done():
	}
}

// close closes the servers and waits for them.
func (f *front) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if f.port != nil {
		// A call that has just been sent is told that the engine stops.
		late, cancel := context.WithTimeout(ctx, lateTime)
		f.port.Drain(late)
		cancel()
	}
	for _, s := range f.servers {
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
	}
	f.wg.Wait()
	if f.port != nil {
		f.port.Close()
	}
	if f.profiles != nil {
		f.profiles.Close() // closed already if it was served
	}
}

// stopping tells callers whose call was ended by the stop that the engine is
// away, rather than that they hung up.
type stopping struct{}

var _ connect.Interceptor = stopping{}

func stopped(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), ErrStopped) {
		return connect.NewError(connect.CodeUnavailable, ErrStopped)
	}
	return err
}

// WrapUnary implements connect.Interceptor.
func (stopping) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		if err = stopped(ctx, err); err != nil {
			return nil, err
		}
		return res, nil
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (stopping) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (stopping) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return stopped(ctx, next(ctx, conn))
	}
}
