package heddle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/process"
	"github.com/heddle-io/heddle/internal/signpost"
)

// WorkerConfig says what a worker takes and how it stops. All fields have
// defaults.
type WorkerConfig struct {
	// Queues to serve, strictly in this order: a later one only gets what the
	// earlier ones leave. Default: "default". Exclusive with Weighted.
	Queues []string
	// Weighted queues share the worker by their weights, at least 1.
	Weighted map[string]int
	// Slots is how many jobs run at once, at most 100,000. Default 100.
	Slots int
	// Name for people, at most 200 bytes; it need not be unique. Default: the
	// host's name and the process id.
	Name string
	// StopTimeout is how long running handlers may go on once Run is told to
	// stop. Default 30 s; negative: no time at all.
	StopTimeout time.Duration
	// StopGrace is how long they may take to return after their contexts have
	// been cancelled with ErrShutdown. Default 10 s.
	StopGrace time.Duration
	// Middleware wraps every handler, the first one outermost.
	Middleware []func(next HandlerFunc) HandlerFunc
	// Logger of the worker and of the handlers. Default: the client's.
	Logger *slog.Logger
}

// Worker runs jobs. Register handlers ([Kind.Handle], [Kind.Do]), then call Run.
type Worker struct {
	c       *Client
	cfg     WorkerConfig
	log     *slog.Logger
	queues  []*heddlev1.QueueWeight
	process string

	mu       sync.Mutex
	started  bool
	handlers map[string]HandlerFunc
	kinds    []string
	at       *endpoint // where calls go: to the leader, if it is known
	session  *session  // the present one; nil before the first
	running  int       // handlers that have not returned and not been given up
	stopping bool      // nothing new is started
	idle     []chan struct{}
	mended   chan struct{}   // closed, and made anew, when heartbeats are answered again
	base     context.Context // of all handlers: values, no end

	reports reports
	outage  outage
}

// NewWorker makes a worker. Mistakes of the configuration are returned by Run.
func NewWorker(c *Client, cfg WorkerConfig) *Worker {
	if len(cfg.Queues) == 0 && len(cfg.Weighted) == 0 {
		cfg.Queues = []string{"default"}
	}
	if cfg.Slots == 0 {
		cfg.Slots = 100
	}
	if cfg.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "worker"
		}
		cfg.Name = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = 30 * time.Second
	}
	if cfg.StopGrace == 0 {
		cfg.StopGrace = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = c.cfg.Logger
	}
	w := &Worker{c: c, cfg: cfg, log: cfg.Logger, process: process.ID() + "/" + uuid.NewString(), handlers: make(map[string]HandlerFunc), at: c.engines.given[0], mended: make(chan struct{})}
	for _, q := range cfg.Queues {
		w.queues = append(w.queues, &heddlev1.QueueWeight{Queue: q})
	}
	if len(cfg.Queues) == 0 {
		for _, q := range slices.Sorted(maps.Keys(cfg.Weighted)) {
			w.queues = append(w.queues, &heddlev1.QueueWeight{Queue: q, Weight: int32(cfg.Weighted[q])})
		}
	}
	w.reports.init()
	w.outage.w = w
	return w
}

// check gives all faults of the configuration.
func (w *Worker) check() error {
	var errs []error
	if len(w.cfg.Queues) > 0 && len(w.cfg.Weighted) > 0 {
		errs = append(errs, errors.New("queues and weighted: give one of them"))
	}
	seen := make(map[string]bool)
	for _, q := range w.queues {
		if q.GetQueue() == "" {
			errs = append(errs, errors.New("queues: empty name"))
		}
		if seen[q.GetQueue()] {
			errs = append(errs, fmt.Errorf("queues: %q is there twice", q.GetQueue()))
		}
		seen[q.GetQueue()] = true
		errs = append(errs, checkText("queue", q.GetQueue()))
	}
	for q, weight := range w.cfg.Weighted {
		if weight < 1 || weight > 1_000_000 {
			errs = append(errs, fmt.Errorf("weighted: weight %d of queue %q: must be 1 to 1,000,000", weight, q))
		}
	}
	if w.cfg.Slots < 1 || w.cfg.Slots > 100_000 {
		errs = append(errs, fmt.Errorf("slots %d: must be 1 to 100,000", w.cfg.Slots))
	}
	errs = append(errs, checkText("name", w.cfg.Name))
	if len(w.handlers) == 0 {
		errs = append(errs, errors.New("no handlers: register one with Kind.Handle or Kind.Do"))
	}
	return errors.Join(errs...)
}

// Register sets the handler of a kind; [Kind.Handle] and [Kind.Do] call it. A nil
// error of the handler declares the job done, also after a cancel. Register
// panics when the kind has a handler already, and once Run was called.
func (w *Worker) Register(kind string, h HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started {
		panic(fmt.Sprintf("heddle: handler of kind %q registered after Run", kind))
	}
	if _, taken := w.handlers[kind]; taken {
		panic(fmt.Sprintf("heddle: kind %q has two handlers", kind))
	}
	w.handlers[kind] = h
}

// Run serves jobs until ctx ends, then stops gracefully: it takes nothing new,
// waits StopTimeout for running handlers, cancels their contexts with
// ErrShutdown, waits StopGrace, and gives the jobs of those that have not returned
// back to the front of their queues, uncounted. It returns nil after a stop that
// ended all handlers, also when the engine asked for it.
//
// Run goes on while engines come and go. It returns an error for a mistake in the
// configuration or the registered handlers, or when the first engine that
// answers refuses the worker. It may be called once.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.start(ctx); err != nil {
		return err
	}
	// The worker's own calls go on until it has stopped.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var loops sync.WaitGroup
	loops.Go(func() { w.reportLoop(life) })
	defer loops.Wait()
	defer end()

	for first := true; ; first = false {
		s, err := w.open(ctx, first)
		if err != nil {
			return err
		}
		if s == nil { // stopped before there was a session
			return w.finishWithout(ctx)
		}
		again, err := w.serve(ctx, life, s)
		if !again {
			return err
		}
	}
}

func (w *Worker) start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started {
		return errors.New("worker: Run was called before")
	}
	if err := w.check(); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	w.started = true
	w.base = context.WithoutCancel(ctx)
	for kind, h := range w.handlers {
		for i := len(w.cfg.Middleware) - 1; i >= 0; i-- {
			h = w.cfg.Middleware[i](h)
		}
		w.handlers[kind] = h
	}
	w.kinds = slices.Sorted(maps.Keys(w.handlers))
	return nil
}

// serve works in one session. again says that the session is gone and another
// one is needed.
func (w *Worker) serve(ctx, life context.Context, s *session) (again bool, err error) {
	sctx, cancel := context.WithCancel(life)
	defer s.loops.Wait()
	defer cancel()
	s.loops.Go(func() { s.beatLoop(sctx) })
	s.loops.Go(func() { s.urgentLoop(sctx) })
	s.loops.Go(func() { s.pollLoop(sctx) })
	select {
	case <-s.gone:
		s.abandon()
		w.log.Warn("session lost", "session", s.id)
		return true, nil
	case <-s.drain:
		w.log.Info("worker drains", "session", s.id)
		return false, w.stop(ctx, s, true)
	case <-ctx.Done():
		w.log.Info("worker stops", "session", s.id)
		return false, w.stop(ctx, s, false)
	}
}

// endpoint is where the next call goes.
func (w *Worker) endpoint() *endpoint {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

// failed turns to the next engine if e is the one in use.
func (w *Worker) failed(e *endpoint, err error) {
	if !connect.IsWireError(err) {
		e.shun()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == e {
		w.at = w.c.engines.next(e)
	}
}

// answered takes note of what an engine's answer says of the cluster: calls had
// better go straight to its leader. One that could not be reached before is
// given back, to be tried.
func (w *Worker) answered(e *endpoint, h http.Header) (untried *endpoint) {
	w.outage.answered(e)
	e.reached()
	w.c.engines.learn(h)
	leader := w.c.engines.leader(h.Get(signpost.Leader))
	switch {
	case leader == nil:
		return nil
	case leader.missed.Load() > 0:
		return leader
	}
	w.turn(e, leader)
	return nil
}

// turn has calls go to another engine than the present one.
func (w *Worker) turn(from, to *endpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == from {
		w.at = to
	}
}

// whenMended is closed when heartbeats are answered again.
func (w *Worker) whenMended() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mended
}

// rest sleeps between two tries of a call: less if meanwhile heartbeats are
// answered again.
func (w *Worker) rest(ctx context.Context, d time.Duration, mended <-chan struct{}) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-mended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
