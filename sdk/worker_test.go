package heddle

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// rig is a worker with a peer in a bubble of simulated time.
type rig struct {
	t    *testing.T
	p    *peer
	w    *Worker
	nets []*pipes
	stop context.CancelFunc
	done chan error
}

// bubble runs a test with a worker. setup registers handlers and bends the peer;
// the worker runs while body does, and is stopped afterwards unless body did.
func bubble(t *testing.T, cfg WorkerConfig, setup func(r *rig), body func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, p: newPeer(), done: make(chan error, 1)}
		c, nets, end := serve(t, ClientConfig{Propagators: []Propagator{tenant{}}, Logger: slog.New(slog.DiscardHandler)}, r.p)
		defer end()
		r.nets = nets
		r.w = NewWorker(c, cfg)
		setup(r)
		ctx, cancel := context.WithCancel(t.Context())
		r.stop = cancel
		go func() { r.done <- r.w.Run(ctx) }()
		defer func() { // also when body fails
			cancel()
			select {
			case err := <-r.done:
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			case <-time.After(10 * time.Minute):
				t.Error("Run did not return")
			}
		}()
		body(r)
	})
}

// finished stops the worker and gives what Run returned; bubble sees nil.
func (r *rig) finished() error {
	r.stop()
	err := <-r.done
	r.done <- nil
	synctest.Wait() // the peer has done its part
	return err
}

// reported waits for n reports and gives them.
func (r *rig) reported(n int) []*heddlev1.AttemptReport {
	r.t.Helper()
	r.p.until(r.t, "reports", func() bool { return len(r.p.reports) >= n })
	synctest.Wait() // the peer has done its part
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return slices.Clone(r.p.reports)
}

// beatsAfter waits for a heartbeat sent after the first n.
func (r *rig) beatAfter(n int) *heddlev1.HeartbeatRequest {
	r.t.Helper()
	r.p.until(r.t, "a heartbeat", func() bool { return len(r.p.beats) > n })
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return r.p.beats[n]
}

func (r *rig) beats() int {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return len(r.p.beats)
}

func TestJobsRunAndAreReported(t *testing.T) {
	var now, most, ran atomic.Int32
	bubble(t, WorkerConfig{Slots: 10, Name: "w"}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error {
			for n := now.Add(1); ; {
				m := most.Load()
				if n <= m || most.CompareAndSwap(m, n) {
					break
				}
			}
			time.Sleep(10 * time.Millisecond)
			now.Add(-1)
			ran.Add(1)
			return nil
		})
	}, func(r *rig) {
		r.p.add(500, "test.noop")
		for _, rep := range r.reported(500) {
			if rep.GetEnding() != heddlev1.Ending_ENDING_SUCCEEDED || rep.GetRanUs() != 10_000 {
				r.t.Fatalf("report: %v", rep)
			}
		}
		if ran.Load() != 500 || most.Load() > 10 {
			t.Errorf("%d ran, %d at once", ran.Load(), most.Load())
		}
		numbers := make(map[uint64]bool)
		for _, poll := range r.p.polls {
			if numbers[poll.GetPoll()] {
				t.Errorf("two polls have the number %d", poll.GetPoll())
			}
			numbers[poll.GetPoll()] = true
			if poll.GetMaxJobs() > 10 || poll.GetMaxJobs() < 1 || poll.GetQueues()[0].GetQueue() != "default" {
				r.t.Fatalf("poll: %v", poll)
			}
		}
		if err := r.finished(); err != nil {
			t.Error(err)
		}
		last := r.p.closed[0]
		if len(r.p.closed) != 1 || last.GetPollsClosed() < uint64(len(r.p.polls)) {
			t.Errorf("closed: %v after %d polls", r.p.closed, len(r.p.polls))
		}
	})
}

func TestIdleWorkerIsQuiet(t *testing.T) {
	bubble(t, WorkerConfig{Slots: 8}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error { return nil })
	}, func(r *rig) {
		time.Sleep(time.Minute)
		r.p.mu.Lock()
		defer r.p.mu.Unlock()
		// Two polls of half a minute side by side, a heartbeat per quarter TTL.
		if n := len(r.p.polls); n < 2 || n > 6 {
			t.Errorf("%d polls in a minute", n)
		}
		if n := len(r.p.beats); n < 12 || n > 18 {
			t.Errorf("%d heartbeats in a minute", n)
		}
		if a, b := r.p.polls[0].GetMaxJobs(), r.p.polls[1].GetMaxJobs(); a+b != 8 {
			t.Errorf("first polls ask for %d and %d", a, b)
		}
	})
}

func TestArgumentsAndResults(t *testing.T) {
	bubble(t, WorkerConfig{}, func(r *rig) {
		greet.Handle(r.w, func(_ context.Context, s string) (string, error) { return "hello, " + s, nil })
		NewKind[None, func()]("test.bad").Handle(r.w, func(context.Context, None) (func(), error) { return func() {}, nil })
	}, func(r *rig) {
		r.p.add(1, "test.greet", func(l *heddlev1.Lease) { l.Args = []byte(`"you"`) })
		if got := string(r.reported(1)[0].GetResult()); got != `"hello, you"` {
			t.Errorf("result %s", got)
		}
		r.p.add(1, "test.greet", func(l *heddlev1.Lease) { l.Args = []byte(`{`) })
		if rep := r.reported(2)[1]; rep.GetEnding() != heddlev1.Ending_ENDING_FAILED || !strings.Contains(rep.GetError(), `arguments of kind "test.greet"`) {
			t.Errorf("report %v", rep)
		}
		r.p.add(1, "test.bad")
		if rep := r.reported(3)[2]; rep.GetEnding() != heddlev1.Ending_ENDING_FAILED || !strings.Contains(rep.GetError(), `result of kind "test.bad"`) {
			t.Errorf("report %v", rep)
		}
		r.p.add(1, "test.unknown")
		if rep := r.reported(4)[3]; !strings.Contains(rep.GetError(), `no handler for kind "test.unknown"`) {
			t.Errorf("report %v", rep)
		}
	})
}

func TestDrainStopsTheWorker(t *testing.T) {
	var release chan struct{}
	bubble(t, WorkerConfig{StopTimeout: time.Second}, func(r *rig) {
		release = make(chan struct{})
		noop.Do(r.w, func(ctx context.Context, _ None) error {
			<-release
			return context.Cause(ctx)
		})
	}, func(r *rig) {
		r.p.add(1, "test.noop")
		synctest.Wait()
		r.p.do(func() { r.p.drain = true })
		time.Sleep(time.Minute) // a drain waits for handlers without a limit
		polls := len(r.p.polls)
		close(release)
		if err := <-r.done; err != nil {
			t.Error(err)
		}
		r.done <- nil
		if r.p.reports[0].GetEnding() != heddlev1.Ending_ENDING_SUCCEEDED || len(r.p.polls) != polls {
			t.Errorf("report %v, %d polls more", r.p.reports[0], len(r.p.polls)-polls)
		}
	})
}

func TestWorkerMistakes(t *testing.T) {
	c, err := NewClient(ClientConfig{Addrs: []string{"http://localhost:1"}})
	if err != nil {
		t.Fatal(err)
	}
	w := NewWorker(c, WorkerConfig{Queues: []string{"a", "a", ""}, Weighted: map[string]int{"b": 0}, Slots: -1, Name: strings.Repeat("x", 201)})
	err = w.Run(t.Context())
	for _, want := range []string{"give one of them", `"a" is there twice`, "empty name", "weight 0 of queue", "slots -1", "name of 201 bytes", "no handlers"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	w = NewWorker(c, WorkerConfig{})
	noop.Do(w, func(context.Context, None) error { return nil })
	defer func() {
		if p := recover(); p == nil {
			t.Error("two handlers of one kind")
		}
	}()
	noop.Do(w, func(context.Context, None) error { return nil })
}

func TestWeightedQueuesAreSent(t *testing.T) {
	bubble(t, WorkerConfig{Weighted: map[string]int{"b": 1, "a": 3}}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error { return nil })
	}, func(r *rig) {
		synctest.Wait()
		q := r.p.polls[0].GetQueues()
		if len(q) != 2 || q[0].GetQueue() != "a" || q[0].GetWeight() != 3 || q[1].GetWeight() != 1 {
			t.Errorf("queues: %v", q)
		}
	})
}
