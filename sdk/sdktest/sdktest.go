// Package sdktest runs workflows in unit tests: in memory, without an engine and
// a database, under the real rules of graphs and with simulated time.
//
//	e := sdktest.New(t)
//	Charge.Handle(e, shop.charge)            // the real handler
//	sdktest.Stub(e, Ship, heddle.None{})     // or a stand-in
//	run := e.Submit(OrderWorkflow(order))
//	e.Drain()
//	run.Want(map[string]heddle.Outcome{"charge": heddle.Succeeded})
//
// Handlers run one after the other on the goroutine that calls Drain or Advance,
// and take the time they take: the simulated clock stands meanwhile. The package
// starts no goroutine. While a handler runs, the handler itself and other
// goroutines may use the engine and its runs, as with Run.Cancel.
//
// # Timeouts and cancelling
//
// An attempt that reaches its Timeout, or the Deadline over all attempts, sees
// its context end with ErrTimeout, and is repeated as its policy says; on the
// engine's clock it has taken just that long. Timeouts run on the clock of package
// time, so put a test of one into a bubble of [testing/synctest], in which hours
// pass at once and to the nanosecond; anywhere else it really waits. Timeouts of
// heartbeats are not simulated.
//
// Run.Cancel of a running job ends the context of its handler with ErrCancelled.
//
// A handler that returns nil declares success, also when its context has ended.
// One that does so because its context has ended has forgotten to return the
// error, and fails the test: it has looked at its context and returns nil within a
// millisecond of the end.
package sdktest

import (
	"bytes"
	"container/heap"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	heddle "github.com/heddle-io/heddle/sdk"
)

// maxRuns is how many handlers one Drain or Advance may call: a graph that grows
// without end would keep it busy for ever.
const maxRuns = 1_000_000

// Engine runs workflows in memory. It is a heddle.Registry: handlers are
// registered with it as with a worker.
type Engine struct {
	t        testing.TB
	log      *slog.Logger
	mu       sync.Mutex // guards what follows, and the runs; not held while a handler runs
	now      time.Time
	handlers map[string]heddle.HandlerFunc
	calls    map[string][][]byte
	waiting  queue // jobs that wait for a time they were given
	retries  queue // jobs that wait for their next attempt
	order    int
}

var _ heddle.Registry = (*Engine)(nil)

// New makes an engine whose clock stands at the present. Faults end the test t.
func New(t testing.TB) *Engine {
	t.Helper()
	return &Engine{
		t: t, log: slog.New(slog.NewTextHandler(t.Output(), nil)), now: time.Now(),
		handlers: make(map[string]heddle.HandlerFunc), calls: make(map[string][][]byte),
	}
}

// Register sets the handler of a kind; Kind.Handle and Kind.Do call it. Unlike
// with a worker a later one replaces an earlier one.
func (e *Engine) Register(kind string, h heddle.HandlerFunc) {
	defer e.lock()()
	e.handlers[kind] = h
}

// lock takes the engine and gives the way to leave it.
func (e *Engine) lock() (unlock func()) {
	e.mu.Lock()
	return e.mu.Unlock
}

// Now is the time on the engine's clock.
func (e *Engine) Now() time.Time {
	defer e.lock()()
	return e.now
}

// Submit submits a work. Mistakes end the test. Sequences are read twice: one
// that does not give the same jobs both times ends the test too.
func (e *Engine) Submit(w heddle.Work) *Run {
	e.t.Helper()
	s, first := e.encode(w)
	_, second := e.encode(w)
	if !bytes.Equal(first, second) {
		e.t.Fatal("sdktest: the workflow is another one when it is read again: sequences given to AddAll must be repeatable")
	}
	defer e.lock()()
	r, err := e.begin(s)
	if err != nil {
		e.t.Fatalf("sdktest: %v", err)
	}
	return r
}

// encode gives the submission, and its bytes but for the id.
func (e *Engine) encode(w heddle.Work) (*heddlev1.Submission, []byte) {
	e.t.Helper()
	_, body, err := heddle.Encode(e.t.Context(), nil, w)
	if err != nil {
		e.t.Fatalf("sdktest: submit: %v", err)
	}
	s := &heddlev1.Submission{}
	if err := proto.Unmarshal(body, s); err != nil {
		e.t.Fatalf("sdktest: read the submission: %v", err)
	}
	id := s.GetId()
	s.Id = ""
	plain, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		e.t.Fatalf("sdktest: encode the submission: %v", err)
	}
	s.Id = id
	return s, plain
}

// Drain runs every job that is due and everything this sets free. Failed attempts
// are repeated as their policies say: the clock goes forward over the delays
// between attempts, and what falls due meanwhile runs too. Jobs that wait for a
// time they were given (RunAt, Delay, a snooze) stay for Advance.
func (e *Engine) Drain() {
	e.t.Helper()
	defer e.lock()()
	e.drain()
}

func (e *Engine) drain() {
	e.t.Helper()
	for n := 0; ; n++ {
		q := e.next()
		if q == nil || len(e.retries) == 0 && (*q)[0].due.After(e.now) {
			return
		}
		e.step(q, n)
	}
}

// Advance moves the clock forward by d, running what falls due on the way, then
// drains.
func (e *Engine) Advance(d time.Duration) {
	e.t.Helper()
	defer e.lock()()
	until := e.now.Add(max(d, 0))
	for n := 0; ; n++ {
		q := e.next()
		if q == nil || (*q)[0].due.After(until) {
			break
		}
		e.step(q, n)
	}
	if until.After(e.now) {
		e.now = until
	}
	e.drain()
}

// next is the queue that holds the job due first; nil: there is none.
func (e *Engine) next() *queue {
	e.waiting.prune()
	e.retries.prune()
	switch {
	case len(e.waiting) == 0 && len(e.retries) == 0:
		return nil
	case len(e.waiting) == 0:
		return &e.retries
	case len(e.retries) == 0 || e.waiting[0].before(e.retries[0]):
		return &e.waiting
	}
	return &e.retries
}

// step runs the first job of a queue.
func (e *Engine) step(q *queue, n int) {
	e.t.Helper()
	if n >= maxRuns {
		e.t.Fatalf("sdktest: no end after %d handlers", n)
	}
	en := heap.Pop(q).(entry)
	if en.due.After(e.now) {
		e.now = en.due
	}
	en.run.execute(en.node)
}

// Stub gives a kind a handler that returns the result and nothing else.
func Stub[A, R any](e *Engine, k heddle.Kind[A, R], result R) {
	e.handle(k.Name(), result, nil)
}

// Fail gives a kind a handler that returns the error.
func Fail[A, R any](e *Engine, k heddle.Kind[A, R], err error) {
	e.t.Helper()
	if err == nil {
		e.t.Fatalf("sdktest: Fail of kind %q with a nil error", k.Name())
	}
	e.handle(k.Name(), nil, err)
}

// Calls gives the arguments of every call of the kind's handler, in order,
// repeated attempts among them.
func Calls[A, R any](e *Engine, k heddle.Kind[A, R]) []A {
	e.t.Helper()
	defer e.lock()()
	all := make([]A, len(e.calls[k.Name()]))
	for i, raw := range e.calls[k.Name()] {
		if len(raw) == 0 {
			continue
		}
		if err := json.Unmarshal(raw, &all[i]); err != nil {
			e.t.Fatalf("sdktest: arguments of kind %q: %v", k.Name(), err)
		}
	}
	return all
}
