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

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

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
		time.Sleep(time.Second) // the peer hears of the closed poll and gives it nothing
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

func TestWorkerFindsTheEngineThatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPeer(), newPeer()
		c, nets, done := serve(t, ClientConfig{Logger: slog.New(slog.DiscardHandler)}, a, b)
		defer done()
		w := NewWorker(c, WorkerConfig{Slots: 4})
		noop.Do(w, func(context.Context, None) error { time.Sleep(time.Second); return nil })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		a.add(1, "test.noop")
		time.Sleep(500 * time.Millisecond)
		// The first engine goes away with a job under way: b, of the same cluster,
		// knows the session and takes the report.
		_ = nets[0].Close()
		nets[0].cut()
		b.add(1, "test.noop")
		b.until(t, "both reports at the second engine", func() bool { return len(b.reports) == 2 })
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if len(b.closed) != 1 || b.sessions != 0 {
			t.Errorf("closed %v, %d sessions", b.closed, b.sessions)
		}
	})
}

func TestWorkerGoesStraightToTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPeer(), newPeer()
		a.onOpen = func(context.Context, *heddlev1.OpenSessionRequest) (*heddlev1.OpenSessionResponse, error) {
			return &heddlev1.OpenSessionResponse{Session: 7, Epoch: 1, Leader: "http://b:1/"}, nil
		}
		c, _, done := serve(t, ClientConfig{Logger: slog.New(slog.DiscardHandler)}, a, b)
		defer done()
		w := NewWorker(c, WorkerConfig{})
		noop.Do(w, func(context.Context, None) error { return nil })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		b.add(1, "test.noop")
		b.until(t, "a report at the leader", func() bool { return len(b.reports) == 1 })
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if len(a.polls) != 0 || len(a.beats) != 0 || b.closed[0].GetSession() != 7 {
			t.Errorf("%d polls at the other engine", len(a.polls))
		}
	})
}
