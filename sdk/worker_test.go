package heddle

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

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
	return err
}

// reported waits for n reports and gives them.
func (r *rig) reported(n int) []*heddlev1.AttemptReport {
	r.t.Helper()
	r.p.until(r.t, "reports", func() bool { return len(r.p.reports) >= n })
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

// The schedule C1 of the protocol: the answer of a poll is delayed beyond two
// heartbeats. They must not disown the poll, so that nobody gives its job away.
func TestDelayedAnswerIsNotDisowned(t *testing.T) {
	var ran chan struct{}
	var granted atomic.Uint64
	bubble(t, WorkerConfig{Slots: 1}, func(r *rig) {
		ran = make(chan struct{}, 1)
		noop.Do(r.w, func(context.Context, None) error { ran <- struct{}{}; return nil })
		r.p.onPoll = func(_ context.Context, m *heddlev1.PollRequest, answer func() (*heddlev1.PollResponse, error)) (*heddlev1.PollResponse, error) {
			res, err := answer()
			if len(res.GetLeases()) > 0 {
				granted.Store(m.GetPoll())
				time.Sleep(12 * time.Second)
			}
			return res, err
		}
	}, func(r *rig) {
		r.p.add(1, "test.noop")
		synctest.Wait()
		before := r.beats()
		<-ran
		r.p.mu.Lock()
		during := slices.Clone(r.p.beats[before:])
		r.p.mu.Unlock()
		if len(during) < 2 {
			r.t.Fatalf("only %d heartbeats meanwhile", len(during))
		}
		for _, b := range during {
			if b.GetPollsClosed() >= granted.Load() {
				t.Errorf("poll %d is told as closed: %v", granted.Load(), b)
			}
		}
		r.reported(1)
	})
}

// The other side of C1: the worker closed the poll, because it learnt of a higher
// epoch; what the old leader granted to it must never start.
func TestAnswerOfAClosedPollIsDropped(t *testing.T) {
	var ran atomic.Int32
	var hold chan struct{}
	bubble(t, WorkerConfig{Slots: 1}, func(r *rig) {
		hold = make(chan struct{})
		noop.Do(r.w, func(context.Context, None) error { ran.Add(1); return nil })
		r.p.onPoll = func(_ context.Context, m *heddlev1.PollRequest, answer func() (*heddlev1.PollResponse, error)) (*heddlev1.PollResponse, error) {
			res, err := answer()
			if m.GetPoll() == 1 {
				<-hold // on the wire, whatever the client does
			}
			return res, err
		}
	}, func(r *rig) {
		synctest.Wait()
		r.p.add(1, "test.noop")
		synctest.Wait()
		n := r.beats()
		r.p.do(func() { r.p.epoch = 2 })
		// The waiting heartbeat brings the epoch; another one says at once that
		// the poll is closed.
		r.p.until(r.t, "a heartbeat that closes the poll", func() bool {
			return len(r.p.beats) > n && r.p.beats[len(r.p.beats)-1].GetPollsClosed() >= 1
		})
		close(hold)
		synctest.Wait()
		if ran.Load() != 0 {
			t.Error("the job of a closed poll ran")
		}
		r.p.mu.Lock()
		for _, b := range r.p.beats {
			if len(b.GetHeld()) != 0 {
				t.Errorf("held: %v", b.GetHeld())
			}
		}
		r.p.mu.Unlock()
		// And new polls work.
		r.p.add(1, "test.noop")
		r.reported(1)
	})
}

func TestHeartbeatIsASnapshot(t *testing.T) {
	var release, acknowledge chan struct{}
	bubble(t, WorkerConfig{Slots: 2}, func(r *rig) {
		release, acknowledge = make(chan struct{}), make(chan struct{})
		greet.Handle(r.w, func(_ context.Context, s string) (string, error) {
			if s == "slow" {
				<-release
			}
			return s, nil
		})
		r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			<-acknowledge
			return r.p.accept(m)
		}
	}, func(r *rig) {
		r.p.add(1, "test.greet", func(l *heddlev1.Lease) { l.Args = []byte(`"slow"`) })
		r.p.add(1, "test.greet", func(l *heddlev1.Lease) { l.Args = []byte(`"fast"`) })
		synctest.Wait()
		b := r.beatAfter(r.beats())
		if len(b.GetHeld()) != 2 {
			r.t.Fatalf("held: %v: the running one and the unacknowledged one", b.GetHeld())
		}
		open := uint64(1<<63 - 1)
		r.p.mu.Lock()
		for _, poll := range r.p.polls[2:] {
			open = min(open, poll.GetPoll())
		}
		r.p.mu.Unlock()
		if b.GetPollsClosed() < 2 || b.GetPollsClosed() >= open {
			t.Errorf("polls closed up to %d, open from %d", b.GetPollsClosed(), open)
		}
		close(acknowledge)
		synctest.Wait()
		if b = r.beatAfter(r.beats()); len(b.GetHeld()) != 1 {
			t.Errorf("held after the acknowledgement: %v", b.GetHeld())
		}
		close(release)
		r.reported(2)
		synctest.Wait()
		if b = r.beatAfter(r.beats()); len(b.GetHeld()) != 0 {
			t.Errorf("held at the end: %v", b.GetHeld())
		}
	})
}

func TestBrokenPollIsToldAtOnce(t *testing.T) {
	var broken atomic.Bool
	bubble(t, WorkerConfig{Slots: 2}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error { return nil })
		r.p.onPoll = func(_ context.Context, m *heddlev1.PollRequest, answer func() (*heddlev1.PollResponse, error)) (*heddlev1.PollResponse, error) {
			if m.GetPoll() == 2 && !broken.Swap(true) {
				time.Sleep(time.Second)
				return nil, unavailable()
			}
			return answer()
		}
	}, func(r *rig) {
		synctest.Wait()
		start, n := time.Now(), r.beats()
		b := r.beatAfter(n)
		// Poll 1 was still open, but only a closed prefix can be told.
		if d := time.Since(start); d > 1100*time.Millisecond || b.GetPollsClosed() < 2 || b.GetWait().AsDuration() != 0 {
			t.Errorf("after %v: %v", d, b)
		}
		r.p.add(3, "test.noop")
		r.reported(3)
	})
}

func TestNothingStartsWithoutHeartbeats(t *testing.T) {
	var ran atomic.Int32
	var dead atomic.Bool
	bubble(t, WorkerConfig{Slots: 4}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error { ran.Add(1); return nil })
		r.p.onBeat = func(ctx context.Context, _ *heddlev1.HeartbeatRequest, answer func() (*heddlev1.HeartbeatResponse, error)) (*heddlev1.HeartbeatResponse, error) {
			if dead.Load() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return answer()
		}
	}, func(r *rig) {
		time.Sleep(10 * time.Second)
		dead.Store(true)
		time.Sleep(16 * time.Second)
		r.p.add(1, "test.noop") // the polls are still open
		time.Sleep(time.Second)
		if ran.Load() != 0 {
			t.Error("a job started though no heartbeat was answered for more than a TTL")
		}
		dead.Store(false)
		time.Sleep(10 * time.Second)
		r.p.add(1, "test.noop")
		r.p.until(r.t, "work goes on", func() bool { return len(r.p.reports) == 1 })
	})
}

// cause runs one job until its context ends, and gives the cause.
func cause(t *testing.T, cfg WorkerConfig, edit func(*heddlev1.Lease), answer error, meanwhile func(r *rig, l *heddlev1.HeldLease)) (error, *peer) {
	t.Helper()
	var why error
	var p *peer
	bubble(t, cfg, func(r *rig) {
		noop.Do(r.w, func(ctx context.Context, _ None) error {
			<-ctx.Done()
			why = context.Cause(ctx)
			return answer
		})
	}, func(r *rig) {
		p = r.p
		var lease *heddlev1.Lease
		r.p.add(1, "test.noop", func(l *heddlev1.Lease) {
			lease = l
			if edit != nil {
				edit(l)
			}
		})
		synctest.Wait()
		meanwhile(r, &heddlev1.HeldLease{WorkflowId: lease.GetWorkflowId(), Node: lease.GetNode(), Lease: lease.GetLease()})
		synctest.Wait()
		if err := r.finished(); err != nil {
			t.Error(err)
		}
	})
	return why, p
}

func TestCausesAndEndings(t *testing.T) {
	failed := errors.New("stopped half way")
	cancel := func(r *rig, l *heddlev1.HeldLease) {
		start := time.Now()
		r.p.do(func() { r.p.cancel, r.p.commands = []*heddlev1.HeldLease{l}, 1 })
		r.reported(1)
		if d := time.Since(start); d > time.Second {
			r.t.Errorf("the cancel took %v", d)
		}
	}
	pass := func(d time.Duration) func(*rig, *heddlev1.HeldLease) {
		return func(*rig, *heddlev1.HeldLease) { time.Sleep(d) }
	}
	for name, c := range map[string]struct {
		cfg       WorkerConfig
		edit      func(*heddlev1.Lease)
		answer    error
		meanwhile func(*rig, *heddlev1.HeldLease)
		want      error
		ending    heddlev1.Ending
		text      string
	}{
		"cancelled":           {answer: failed, meanwhile: cancel, want: ErrCancelled, ending: heddlev1.Ending_ENDING_CANCELLED, text: "half way"},
		"cancelled, but done": {meanwhile: cancel, want: ErrCancelled, ending: heddlev1.Ending_ENDING_SUCCEEDED},
		"timeout": {
			edit:   func(l *heddlev1.Lease) { l.Options = &heddlev1.JobOptions{Timeout: durationpb.New(time.Minute)} },
			answer: failed, meanwhile: pass(61 * time.Second), want: ErrTimeout, ending: heddlev1.Ending_ENDING_TIMEOUT, text: "attempt timed out: stopped half way",
		},
		"timeout, but done": {
			edit:      func(l *heddlev1.Lease) { l.Options = &heddlev1.JobOptions{Timeout: durationpb.New(time.Minute)} },
			meanwhile: pass(61 * time.Second), want: ErrTimeout, ending: heddlev1.Ending_ENDING_SUCCEEDED,
		},
		"deadline before the timeout": {
			edit: func(l *heddlev1.Lease) {
				l.Options = &heddlev1.JobOptions{Timeout: durationpb.New(time.Hour)}
				l.DeadlineIn = durationpb.New(time.Second)
			},
			answer: failed, meanwhile: pass(2 * time.Second), want: ErrTimeout, ending: heddlev1.Ending_ENDING_TIMEOUT,
		},
		"shutdown": {
			cfg: WorkerConfig{StopTimeout: -1}, answer: failed, meanwhile: pass(0), want: ErrShutdown, ending: heddlev1.Ending_ENDING_RELEASED,
		},
		"shutdown, but done": {
			cfg: WorkerConfig{StopTimeout: -1}, meanwhile: pass(0), want: ErrShutdown, ending: heddlev1.Ending_ENDING_SUCCEEDED,
		},
		"shutdown, fails for good": {
			cfg: WorkerConfig{StopTimeout: -1}, answer: NoRetry(failed), meanwhile: pass(0), want: ErrShutdown, ending: heddlev1.Ending_ENDING_FAILED_NO_RETRY,
		},
		"silent": {
			edit: func(l *heddlev1.Lease) {
				l.Options = &heddlev1.JobOptions{HeartbeatTimeout: durationpb.New(time.Minute)}
			},
			answer: failed, meanwhile: pass(61 * time.Second), want: ErrTimeout, ending: heddlev1.Ending_ENDING_TIMEOUT, text: "no progress for 1m0s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			why, p := cause(t, c.cfg, c.edit, c.answer, c.meanwhile)
			if !errors.Is(why, c.want) {
				t.Errorf("cause %v, want %v", why, c.want)
			}
			if len(p.reports) != 1 || p.reports[0].GetEnding() != c.ending || !strings.Contains(p.reports[0].GetError(), c.text) {
				t.Errorf("reports: %v, want %v with %q", p.reports, c.ending, c.text)
			}
		})
	}
	t.Run("lost", func(t *testing.T) {
		why, p := cause(t, WorkerConfig{}, nil, nil, func(r *rig, l *heddlev1.HeldLease) {
			r.p.do(func() { r.p.lost, r.p.commands = []*heddlev1.HeldLease{l}, 1 })
		})
		if !errors.Is(why, ErrLeaseLost) || len(p.reports) != 0 {
			t.Errorf("cause %v, reports %v", why, p.reports)
		}
	})
	t.Run("session lost", func(t *testing.T) {
		why, p := cause(t, WorkerConfig{}, nil, nil, func(r *rig, _ *heddlev1.HeldLease) {
			r.p.do(func() { r.p.reopen[1] = true })
			r.p.until(r.t, "another session", func() bool { return r.p.sessions == 2 })
		})
		if !errors.Is(why, ErrLeaseLost) || len(p.reports) != 0 {
			t.Errorf("cause %v, reports %v", why, p.reports)
		}
		if len(p.closed) != 1 || p.closed[0].GetSession() != 2 {
			t.Errorf("closed: %v", p.closed)
		}
	})
}

func TestProgressKeepsAJobAlive(t *testing.T) {
	bubble(t, WorkerConfig{}, func(r *rig) {
		noop.Do(r.w, func(ctx context.Context, _ None) error {
			for i := range 3 {
				time.Sleep(40 * time.Second)
				if err := context.Cause(ctx); err != nil {
					return err
				}
				Progress(ctx, int64(i), 3, "rows")
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}, func(r *rig) {
		r.p.add(1, "test.noop", func(l *heddlev1.Lease) {
			l.Options = &heddlev1.JobOptions{HeartbeatTimeout: durationpb.New(time.Minute)}
		})
		time.Sleep(3*40*time.Second + 61*time.Second)
		rep := r.reported(1)[0]
		if rep.GetEnding() != heddlev1.Ending_ENDING_TIMEOUT || rep.GetError() != "attempt timed out: no progress for 1m0s; last progress: 2 of 3 rows" {
			t.Errorf("report: %v", rep)
		}
	})
}

func TestEndingsOfHandlers(t *testing.T) {
	boom := errors.New("boom")
	var nilError *OutcomeError
	for name, c := range map[string]struct {
		handler func(ctx context.Context) error
		ending  heddlev1.Ending
		after   time.Duration
		text    string
	}{
		"error":       {func(context.Context) error { return boom }, heddlev1.Ending_ENDING_FAILED, 0, "boom"},
		"no retry":    {func(context.Context) error { return NoRetry(boom) }, heddlev1.Ending_ENDING_FAILED_NO_RETRY, 0, "boom"},
		"retry after": {func(context.Context) error { return RetryAfter(boom, time.Minute) }, heddlev1.Ending_ENDING_FAILED, time.Minute, "boom"},
		"snooze":      {func(context.Context) error { return Snooze(time.Hour) }, heddlev1.Ending_ENDING_SNOOZED, time.Hour, "snoozed"},
		"cancel":      {func(context.Context) error { return CancelSelf("no longer wanted") }, heddlev1.Ending_ENDING_CANCELLED, 0, "no longer wanted"},
		"wrapped":     {func(context.Context) error { return errors.Join(NoRetry(boom)) }, heddlev1.Ending_ENDING_FAILED_NO_RETRY, 0, "boom"},
		"nil wrapped": {func(context.Context) error { return NoRetry(nil) }, heddlev1.Ending_ENDING_SUCCEEDED, 0, ""},
		"panic":       {func(context.Context) error { panic(boom) }, heddlev1.Ending_ENDING_FAILED, 0, "worker_test.go"},
		"nil map":     {func(context.Context) error { var m map[string]int; m["x"]++; return nil }, heddlev1.Ending_ENDING_FAILED, 0, "assignment to entry in nil map"},
		"nil error":   {func(context.Context) error { return nilError }, heddlev1.Ending_ENDING_FAILED, 0, "*heddle.OutcomeError without a text"},
		"bad text":    {func(context.Context) error { return errors.New("a\xffb\x00c") }, heddlev1.Ending_ENDING_FAILED, 0, "a\uFFFDb\uFFFDc"},
		"long text":   {func(context.Context) error { return errors.New(strings.Repeat("x", 1<<20)) }, heddlev1.Ending_ENDING_FAILED, 0, "(cut)"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, WorkerConfig{}, func(r *rig) {
				noop.Do(r.w, func(ctx context.Context, _ None) error { return c.handler(ctx) })
			}, func(r *rig) {
				r.p.add(1, "test.noop")
				rep := r.reported(1)[0]
				if rep.GetEnding() != c.ending || rep.GetAfter().AsDuration() != c.after || !strings.Contains(rep.GetError(), c.text) || len(rep.GetError()) > 40<<10 {
					t.Errorf("%v after %v: %.300q", rep.GetEnding(), rep.GetAfter().AsDuration(), rep.GetError())
				}
			})
		})
	}
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

func TestFirstRefusalEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		tries := 0
		p.onOpen = func(context.Context, *heddlev1.OpenSessionRequest) (*heddlev1.OpenSessionResponse, error) {
			if tries++; tries < 3 {
				return nil, unavailable()
			}
			return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("who are you"))
		}
		c, _, done := serve(t, ClientConfig{Logger: slog.New(slog.DiscardHandler)}, p)
		defer done()
		w := NewWorker(c, WorkerConfig{})
		noop.Do(w, func(context.Context, None) error { return nil })
		if err := w.Run(t.Context()); !errors.Is(err, ErrDenied) || tries != 3 {
			t.Errorf("after %d tries: %v", tries, err)
		}
		if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "called before") {
			t.Errorf("second Run: %v", err)
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
