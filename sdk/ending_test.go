package heddle

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// cause runs one job until its context ends, and gives the cause.
func cause(t *testing.T, cfg WorkerConfig, edit func(*heddlev1.Lease), answer error, meanwhile func(r *rig, l *heddlev1.HeldLease)) (p *peer, why error) {
	t.Helper()
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
	return p, why
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
			p, why := cause(t, c.cfg, c.edit, c.answer, c.meanwhile)
			if !errors.Is(why, c.want) {
				t.Errorf("cause %v, want %v", why, c.want)
			}
			if len(p.reports) != 1 || p.reports[0].GetEnding() != c.ending || !strings.Contains(p.reports[0].GetError(), c.text) {
				t.Errorf("reports: %v, want %v with %q", p.reports, c.ending, c.text)
			}
		})
	}
	t.Run("lost", func(t *testing.T) {
		p, why := cause(t, WorkerConfig{}, nil, nil, func(r *rig, l *heddlev1.HeldLease) {
			r.p.do(func() { r.p.lost, r.p.commands = []*heddlev1.HeldLease{l}, 1 })
		})
		if !errors.Is(why, ErrLeaseLost) || len(p.reports) != 0 {
			t.Errorf("cause %v, reports %v", why, p.reports)
		}
	})
	t.Run("session lost", func(t *testing.T) {
		p, why := cause(t, WorkerConfig{}, nil, nil, func(r *rig, _ *heddlev1.HeldLease) {
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
		"panic":       {func(context.Context) error { panic(boom) }, heddlev1.Ending_ENDING_FAILED, 0, "ending_test.go"},
		"index":       {func(context.Context) error { return []error{}[len(t.Name())] }, heddlev1.Ending_ENDING_FAILED, 0, "index out of range"},
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

func TestInspectingControlErrors(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		err     error
		noRetry bool
		delay   time.Duration
		asks    bool
	}{
		"nil": {}, "plain": {err: boom},
		"no retry":    {err: NoRetry(boom), noRetry: true},
		"wrapped":     {err: errors.Join(boom, NoRetry(boom)), noRetry: true},
		"retry after": {err: RetryAfter(boom, time.Minute), delay: time.Minute, asks: true},
		"snooze":      {err: Snooze(time.Minute)},
		"cancel":      {err: CancelSelf("no")},
	} {
		delay, asks := RetryDelay(c.err)
		if IsNoRetry(c.err) != c.noRetry || delay != c.delay || asks != c.asks {
			t.Errorf("%s: no retry %v, delay %v (%v)", name, IsNoRetry(c.err), delay, asks)
		}
	}
}
