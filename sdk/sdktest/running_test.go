package sdktest_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
	"github.com/heddle-io/heddle/sdk/sdktest"
)

func TestTimeoutsOfAttempts(t *testing.T) {
	retry := &heddle.Retry{Attempts: 3, Backoff: heddle.Fixed, Initial: time.Second}
	for name, c := range map[string]struct {
		opts  heddle.JobOptions
		hangs int // attempts
		want  heddle.Outcome
		text  string
		times []time.Duration // of starts and the end
	}{
		"repeated":         {heddle.JobOptions{Timeout: time.Hour, Retry: retry}, 1, heddle.Succeeded, "", []time.Duration{0, time.Hour + time.Second, time.Hour + time.Second}},
		"to the end":       {heddle.JobOptions{Timeout: time.Minute, Retry: retry}, 3, heddle.Failed, "attempt timed out: context deadline exceeded", []time.Duration{0, 61 * time.Second, 122 * time.Second, 182 * time.Second}},
		"deadline":         {heddle.JobOptions{Deadline: time.Minute, Retry: retry}, 3, heddle.Failed, "attempt timed out: context deadline exceeded", []time.Duration{0, time.Minute}},
		"deadline of both": {heddle.JobOptions{Timeout: 40 * time.Second, Deadline: time.Minute, Retry: retry}, 3, heddle.Failed, "attempt timed out: context deadline exceeded", []time.Duration{0, 41 * time.Second, time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := sdktest.New(t)
				start := e.Now()
				var at []time.Duration
				number.Handle(e, func(ctx context.Context, n int) (int, error) {
					at = append(at, e.Now().Sub(start))
					if len(at) > c.hangs {
						return n, nil
					}
					<-ctx.Done()
					if !errors.Is(context.Cause(ctx), heddle.ErrTimeout) {
						t.Errorf("cause: %v", context.Cause(ctx))
					}
					return 0, ctx.Err()
				})
				run := e.Submit(number.Job(7, c.opts))
				e.Drain()
				if at = append(at, e.Now().Sub(start)); run.Outcome("") != c.want || run.Error("") != c.text || !slices.Equal(at, c.times) {
					t.Errorf("%v %q at %v, want %v %q at %v", run.Outcome(""), run.Error(""), at, c.want, c.text, c.times)
				}
			})
		})
	}
}

// pair is a job "x" with one after it and one beside it.
func pair() *heddle.Workflow {
	wf := heddle.NewWorkflow("w")
	x := wf.Add(number.Job(1, heddle.JobOptions{Name: "x"}))
	wf.Add(crawl.Job(1, heddle.JobOptions{Name: "next"})).After(x)
	wf.Add(crawl.Job(2, heddle.JobOptions{Name: "beside"}))
	return wf
}

func TestCancelOfARunningHandler(t *testing.T) {
	for name, paths := range map[string][]string{"the job": {"x"}, "the workflow": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := sdktest.New(t)
				sdktest.Stub(e, crawl, 0)
				number.Handle(e, func(ctx context.Context, n int) (int, error) {
					<-ctx.Done()
					return 0, context.Cause(ctx)
				})
				run := e.Submit(pair())
				time.AfterFunc(time.Minute, func() { run.Cancel(paths...) })
				e.Drain()
				run.Want(map[string]heddle.Outcome{"x": heddle.Cancelled, "": heddle.Cancelled})
				if got := run.Error("x"); got != heddle.ErrCancelled.Error() {
					t.Errorf("error %q", got)
				}
				if n := len(sdktest.Calls(e, number)); n != 1 {
					t.Errorf("%d attempts", n)
				}
			})
		})
	}
}

// A handler may see its work through though it is cancelled or out of time, but
// not pass off as success that it left off.
func TestSuccessOfACancelledHandler(t *testing.T) {
	for name, c := range map[string]struct {
		work     func(ctx context.Context, cancel func())
		reported bool
	}{
		"blocks": {func(ctx context.Context, cancel func()) {
			time.AfterFunc(time.Second, cancel)
			<-ctx.Done()
		}, true},
		"asks":          {func(ctx context.Context, cancel func()) { cancel(); _ = ctx.Err() }, true},
		"out of time":   {func(ctx context.Context, _ func()) { <-ctx.Done() }, true},
		"does not look": {func(_ context.Context, cancel func()) { cancel() }, false},
		"goes on": {func(ctx context.Context, cancel func()) {
			time.AfterFunc(time.Second, cancel)
			<-ctx.Done()
			time.Sleep(time.Second)
		}, false},
		"overruns": {func(ctx context.Context, _ func()) {
			<-ctx.Done()
			time.Sleep(time.Second)
		}, false},
		"looks before": {func(ctx context.Context, cancel func()) { _ = ctx.Err(); cancel() }, false},
		"in time":      {func(ctx context.Context, _ func()) { ctx.Done() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &spy{TB: t}
				e := sdktest.New(s)
				var run *sdktest.Run
				number.Handle(e, func(ctx context.Context, n int) (int, error) {
					c.work(ctx, func() { run.Cancel() })
					return n, nil
				})
				run = e.Submit(number.Job(1, heddle.JobOptions{Timeout: time.Minute}))
				e.Drain()
				if strings.Contains(s.text, `the handler of kind "test.number" returned nil when its context ended`) != c.reported {
					t.Errorf("reported %q", s.text)
				}
				if got := run.Outcome(""); got != heddle.Succeeded {
					t.Errorf("the engine takes it as %v", got)
				}
			})
		})
	}
}

// A handler that ends the goroutine, as FailNow does, leaves the engine usable.
func TestHandlerEndsItsGoroutine(t *testing.T) {
	e := sdktest.New(t)
	number.Handle(e, func(context.Context, int) (int, error) { runtime.Goexit(); return 0, nil })
	run := e.Submit(number.Job(1, heddle.JobOptions{Retry: &heddle.Retry{Attempts: 1}}))
	done := make(chan struct{})
	go func() { defer close(done); e.Drain() }()
	<-done
	if got := run.Error(""); run.Outcome("") != heddle.Failed || !strings.Contains(got, "the handler ended its goroutine") {
		t.Errorf("%v %q", run.Outcome(""), got)
	}
}
