package sdktest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	heddle "github.com/heddle-io/heddle/sdk"
	"github.com/heddle-io/heddle/sdk/sdktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type order struct{ ID string }

var (
	reserve = heddle.NewKind[order, heddle.None]("stock.reserve")
	free    = heddle.NewKind[order, heddle.None]("stock.release")
	charge  = heddle.NewKind[order, string]("card.charge", heddle.JobOptions{Retry: &heddle.Retry{Attempts: 3}})
	refund  = heddle.NewKind[order, heddle.None]("card.refund", heddle.JobOptions{Retry: &heddle.Retry{Attempts: 50}})
	approve = heddle.NewKind[order, heddle.None]("order.approve", heddle.JobOptions{Delay: 48 * time.Hour, Retry: &heddle.Retry{Attempts: 1}})
	ship    = heddle.NewKind[order, heddle.None]("order.ship")
)

func orderWorkflow(o order) *heddle.Workflow {
	wf := heddle.NewWorkflow("order")
	reserved := wf.Add(reserve.Job(o, heddle.JobOptions{Name: "reserve"}))
	charged := wf.Add(charge.Job(o, heddle.JobOptions{Name: "charge"})).After(reserved)
	approved := wf.Add(approve.Job(o, heddle.JobOptions{Name: "approve"})).After(charged)
	shipped := wf.Add(ship.Job(o, heddle.JobOptions{Name: "ship"})).After(approved)
	refunded := wf.Add(refund.Job(o, heddle.JobOptions{Name: "refund"})).After(charged, shipped.On(heddle.NotSucceeded)).Cleanup()
	wf.Add(free.Job(o, heddle.JobOptions{Name: "release"})).
		After(reserved, shipped.On(heddle.NotSucceeded), refunded.On(heddle.Succeeded|heddle.Skipped)).Cleanup()
	return wf
}

func TestSaga(t *testing.T) {
	e := sdktest.New(t)
	sdktest.Stub(e, reserve, heddle.None{})
	sdktest.Stub(e, charge, "ch_1")
	sdktest.Stub(e, refund, heddle.None{})
	sdktest.Fail(e, approve, errors.New("nobody approved"))
	sdktest.Fail(e, free, errors.New("warehouse down"))
	run := e.Submit(orderWorkflow(order{"7"}))
	start := e.Now()
	e.Drain()
	run.Want(map[string]heddle.Outcome{"charge": heddle.Succeeded, "approve": 0, "": 0})
	if !e.Now().Equal(start) {
		t.Errorf("the clock went %v forward", e.Now().Sub(start))
	}
	e.Advance(49 * time.Hour)
	run.Want(map[string]heddle.Outcome{
		"charge": heddle.Succeeded, "ship": heddle.Skipped, "refund": heddle.Succeeded, "release": heddle.Failed, "": heddle.Failed,
	})
	if n := len(sdktest.Calls(e, free)); n != 10 {
		t.Errorf("released %d times", n)
	}
	if got := run.Error("release"); got != "warehouse down" {
		t.Errorf("error: %q", got)
	}
	sdktest.Stub(e, free, heddle.None{})
	run.Retry("release")
	e.Drain()
	run.Want(map[string]heddle.Outcome{"release": heddle.Succeeded})
	if calls := sdktest.Calls(e, refund); len(calls) != 1 || calls[0].ID != "7" {
		t.Errorf("refunds: %v", calls)
	}
	if got := sdktest.Result(run, charge, "charge"); got != "ch_1" {
		t.Errorf("result %q", got)
	}
}

func TestCancelledSagaCleansUp(t *testing.T) {
	e := sdktest.New(t)
	for _, k := range []heddle.Kind[order, heddle.None]{reserve, refund, free} {
		sdktest.Stub(e, k, heddle.None{})
	}
	sdktest.Stub(e, charge, "ch_1")
	run := e.Submit(orderWorkflow(order{"8"}))
	e.Drain()
	run.Cancel()
	e.Drain()
	run.Want(map[string]heddle.Outcome{
		"approve": heddle.Cancelled, "ship": heddle.Cancelled, "refund": heddle.Succeeded, "release": heddle.Succeeded, "": heddle.Cancelled,
	})
}

var (
	number = heddle.NewKind[int, int]("test.number")
	sum    = heddle.NewKind[heddle.None, int]("test.sum")
	crawl  = heddle.NewKind[int, int]("test.crawl")
)

func numbers(n int) func(func(heddle.Job) bool) {
	return func(yield func(heddle.Job) bool) {
		for i := range n {
			if !yield(number.Job(i)) {
				return
			}
		}
	}
}

func TestResultsOfABatch(t *testing.T) {
	e := sdktest.New(t)
	number.Handle(e, func(_ context.Context, n int) (int, error) {
		if n == 3 {
			return 0, heddle.NoRetry(errors.New("three"))
		}
		return n * n, nil
	})
	sum.Handle(e, func(ctx context.Context, _ heddle.None) (int, error) {
		total := 0
		for m, err := range number.Results(ctx, "numbers") {
			switch {
			case err != nil:
				return 0, err
			case m.Outcome == heddle.Succeeded:
				total += m.Value
			case m.Outcome != heddle.Failed || m.Error != "three":
				return 0, fmt.Errorf("member %+v", m)
			}
		}
		first, err := number.Result(ctx, "first")
		if err != nil {
			return 0, err
		}
		if _, err := number.Result(ctx, "later"); !errors.Is(err, heddle.ErrNoResult) {
			return 0, fmt.Errorf("later: %v", err)
		}
		if _, err := number.Result(ctx, "nowhere"); !errors.Is(err, heddle.ErrNotFound) {
			return 0, fmt.Errorf("nowhere: %v", err)
		}
		return total + first, nil
	})
	wf := heddle.NewWorkflow("sum", heddle.WorkflowOptions{Tolerance: heddle.Count(1)})
	first := wf.Add(number.Job(100, heddle.JobOptions{Name: "first"}))
	b := wf.Batch("numbers", heddle.BatchOptions{Tolerance: heddle.Percent(10)}).After(first)
	b.AddAll(numbers(10))
	inner := wf.Batch("inner").After(b)
	total := inner.Add(sum.Job(heddle.None{}, heddle.JobOptions{Name: "sum"}))
	wf.Add(number.Job(1, heddle.JobOptions{Name: "later"})).After(total)
	run := e.Submit(wf)
	e.Drain()
	run.Want(map[string]heddle.Outcome{"numbers": heddle.Succeeded, "inner/sum": heddle.Succeeded, "": heddle.Succeeded})
	if got := sdktest.Result(run, sum, "inner/sum"); got != 10000+285-9 {
		t.Errorf("sum %d", got)
	}
}

func TestGrowingGraph(t *testing.T) {
	e := sdktest.New(t)
	fails := 1
	crawl.Handle(e, func(ctx context.Context, depth int) (int, error) {
		if depth > 0 {
			then := heddle.Then(ctx)
			b := then.Batch("")
			for range 2 {
				b.Add(crawl.Job(depth - 1))
			}
		}
		if err := heddle.AddNow(ctx, fmt.Sprint("once ", heddle.JobInfo(ctx).Node), func(g *heddle.Group) { g.Add(number.Job(depth)) }); err != nil {
			return 0, err
		}
		if fails--; fails >= 0 {
			return 0, errors.New("the first attempt leaves nothing but what AddNow added")
		}
		return depth, nil
	})
	number.Handle(e, func(_ context.Context, n int) (int, error) { return n, nil })
	sdktest.Stub(e, sum, 0)
	wf := heddle.NewWorkflow("crawl")
	pages := wf.Batch("pages")
	pages.Add(crawl.Job(3))
	wf.Add(sum.Job(heddle.None{}, heddle.JobOptions{Name: "index"})).After(pages)
	run := e.Submit(wf)
	e.Drain()
	run.Want(map[string]heddle.Outcome{"pages": heddle.Succeeded, "index": heddle.Succeeded, "": heddle.Succeeded})
	if n := len(sdktest.Calls(e, crawl)); n != 16 {
		t.Errorf("%d pages", n)
	}
	if n := len(sdktest.Calls(e, number)); n != 15 {
		t.Errorf("%d added at once", n)
	}
}

func TestRefusedThenFailsTheAttempt(t *testing.T) {
	e := sdktest.New(t)
	number.Handle(e, func(ctx context.Context, n int) (int, error) {
		then := heddle.Then(ctx)
		then.Add(crawl.Job(0, heddle.JobOptions{Name: "fresh"}))
		b := then.Batch("more")
		b.Add(crawl.Job(0, heddle.JobOptions{Name: "x"}))
		then.Add(crawl.Job(0, heddle.JobOptions{Name: "taken"}))
		return n, nil
	})
	sdktest.Stub(e, crawl, 0)
	wf := heddle.NewWorkflow("x")
	wf.Add(number.Job(1, heddle.JobOptions{Name: "taken", Retry: &heddle.Retry{Attempts: 2}}))
	run := e.Submit(wf)
	e.Drain()
	run.Want(map[string]heddle.Outcome{"taken": heddle.Failed, "": heddle.Failed})
	if got := run.Error("taken"); !strings.Contains(got, `"taken"`) {
		t.Errorf("error %q", got)
	}
	if n := len(sdktest.Calls(e, crawl)); n != 0 {
		t.Errorf("%d jobs of a refused graph ran", n)
	}
}

func TestTimeIsSimulated(t *testing.T) {
	e := sdktest.New(t)
	start := e.Now()
	var at []time.Duration
	end := errors.New("busy")
	number.Handle(e, func(ctx context.Context, n int) (int, error) {
		at = append(at, e.Now().Sub(start))
		switch i := heddle.JobInfo(ctx); {
		case n == 1:
			return 0, end
		case n == 2 && len(at) == 1:
			return 0, heddle.RetryAfter(end, time.Minute)
		case n == 3 && len(at) == 1:
			return 0, heddle.Snooze(time.Hour)
		case n == 3 && i.Attempt != 1:
			return 0, fmt.Errorf("a snooze was counted: attempt %d", i.Attempt)
		}
		return n, nil
	})
	for _, c := range []struct {
		name  string
		n     int
		opts  heddle.JobOptions
		run   func()
		want  heddle.Outcome
		times []time.Duration
	}{
		{"fixed delays", 1, heddle.JobOptions{Retry: &heddle.Retry{Attempts: 3, Backoff: heddle.Fixed, Initial: time.Second}}, e.Drain, heddle.Failed, []time.Duration{0, time.Second, 2 * time.Second}},
		{"retry after", 2, heddle.JobOptions{}, e.Drain, heddle.Succeeded, []time.Duration{0, time.Minute}},
		{"snooze waits", 3, heddle.JobOptions{}, e.Drain, 0, []time.Duration{0}},
		{"snooze", 3, heddle.JobOptions{}, func() { e.Advance(time.Hour) }, heddle.Succeeded, []time.Duration{0, time.Hour}},
		{"delay waits", 4, heddle.JobOptions{Delay: time.Hour}, func() { e.Advance(59 * time.Minute) }, 0, nil},
		{"delay", 4, heddle.JobOptions{Delay: time.Hour}, func() { e.Advance(2 * time.Hour) }, heddle.Succeeded, []time.Duration{time.Hour}},
		{"deadline", 1, heddle.JobOptions{Deadline: 90 * time.Second, Retry: &heddle.Retry{Attempts: 9, Backoff: heddle.Fixed, Initial: time.Minute}}, e.Drain, heddle.Failed, []time.Duration{0, time.Minute}},
		{"deadline in a snooze", 3, heddle.JobOptions{Deadline: time.Minute}, func() { e.Advance(time.Hour) }, heddle.Failed, []time.Duration{0}},
	} {
		at, start = nil, e.Now()
		run := e.Submit(number.Job(c.n, c.opts))
		c.run()
		if got := run.Outcome(""); got != c.want || !slices.Equal(at, c.times) {
			t.Errorf("%s: %v at %v, want %v at %v", c.name, got, at, c.want, c.times)
		}
		run.Cancel()
	}
	run := e.Submit(number.Job(5, heddle.JobOptions{RunAt: e.Now().Add(time.Hour)}))
	e.Advance(59 * time.Minute)
	run.Want(map[string]heddle.Outcome{"": 0})
	e.Advance(time.Minute)
	run.Want(map[string]heddle.Outcome{"": heddle.Succeeded})
}

func TestPriorityDecidesAmongWhatIsDue(t *testing.T) {
	e := sdktest.New(t)
	sdktest.Stub(e, number, 0)
	wf := heddle.NewWorkflow("x", heddle.WorkflowOptions{Priority: 3})
	wf.Add(number.Job(1))
	b := wf.Batch("b", heddle.BatchOptions{Priority: 1})
	b.Add(number.Job(2))
	b.Add(number.Job(3, heddle.JobOptions{Priority: 4}))
	e.Submit(wf)
	e.Submit(number.Job(4))
	e.Drain()
	if got := sdktest.Calls(e, number); !slices.Equal(got, []int{2, 4, 1, 3}) {
		t.Errorf("order %v", got)
	}
}

func TestOpenAndHold(t *testing.T) {
	e := sdktest.New(t)
	sdktest.Fail(e, number, heddle.NoRetry(errors.New("no")))
	sdktest.Stub(e, crawl, 0)
	wf := heddle.NewWorkflow("x")
	open := wf.Batch("open", heddle.BatchOptions{Open: true})
	open.Add(crawl.Job(0))
	held := wf.Add(number.Job(1, heddle.JobOptions{Name: "held"})).HoldOnFailure()
	wf.Add(crawl.Job(0, heddle.JobOptions{Name: "next"})).After(held, open)
	run := e.Submit(wf)
	e.Drain()
	run.Want(map[string]heddle.Outcome{"open": 0, "held": heddle.Failed, "next": 0})
	run.Seal("open")
	run.Want(map[string]heddle.Outcome{"open": heddle.Succeeded, "next": 0})
	run.GiveUp("held")
	run.Want(map[string]heddle.Outcome{"next": heddle.Skipped, "": heddle.Failed})
}

func TestHeadersReachHandlers(t *testing.T) {
	e := sdktest.New(t)
	var got map[string]string
	number.Handle(e, func(ctx context.Context, n int) (int, error) {
		got = heddle.JobInfo(ctx).Headers
		heddle.Logger(ctx).Info("seen")
		return n, nil
	})
	wf := heddle.NewWorkflow("x", heddle.WorkflowOptions{Headers: map[string]string{"a": "workflow", "b": "workflow"}})
	wf.Add(number.Job(1, heddle.JobOptions{Headers: map[string]string{"b": "job"}}))
	e.Submit(wf)
	e.Drain()
	if got["a"] != "workflow" || got["b"] != "job" {
		t.Errorf("headers %v", got)
	}
}

// spy is a test that may fail without failing this one.
type spy struct {
	testing.TB
	text string
}

type fatal struct{}

func (s *spy) Helper()                   {}
func (s *spy) Error(args ...any)         { s.text += fmt.Sprintln(args...) }
func (s *spy) Errorf(f string, a ...any) { s.text += fmt.Sprintf(f, a...) }
func (s *spy) Fatalf(f string, a ...any) { s.text += fmt.Sprintf(f, a...); panic(fatal{}) }
func (s *spy) Fatal(args ...any)         { s.text += fmt.Sprint(args...); panic(fatal{}) }

func TestFaultsAreReported(t *testing.T) {
	for want, f := range map[string]func(e *sdktest.Engine){
		"must be repeatable": func(e *sdktest.Engine) {
			n := 0
			wf := heddle.NewWorkflow("x")
			wf.AddAll(func(yield func(heddle.Job) bool) { n++; yield(number.Job(n)) })
			e.Submit(wf)
		},
		"job without a kind":             func(e *sdktest.Engine) { e.Submit(heddle.Job{}) },
		`no handler for kind "test.sum"`: func(e *sdktest.Engine) { e.Submit(sum.Job(heddle.None{})); e.Drain() },
		`"x": has not ended, want succeeded`: func(e *sdktest.Engine) {
			wf := heddle.NewWorkflow("w")
			wf.Add(number.Job(1, heddle.JobOptions{Name: "x"}))
			e.Submit(wf).Want(map[string]heddle.Outcome{"x": heddle.Succeeded})
		},
		`no node has the path "y"`: func(e *sdktest.Engine) { e.Submit(number.Job(1)).Outcome("y") },
		"refused": func(e *sdktest.Engine) {
			sdktest.Stub(e, number, 1)
			run := e.Submit(number.Job(1))
			e.Drain()
			run.Retry("")
		},
		"it has not ended": func(e *sdktest.Engine) { sdktest.Result(e.Submit(number.Job(1)), number, "") },
		"nil error":        func(e *sdktest.Engine) { sdktest.Fail(e, number, nil) },
	} {
		s := &spy{TB: t}
		func() {
			defer func() {
				if p := recover(); p != nil && p != (fatal{}) {
					panic(p)
				}
			}()
			f(sdktest.New(s))
		}()
		if !strings.Contains(s.text, want) {
			t.Errorf("%q is not in %q", want, s.text)
		}
	}
}

func TestLargeBatch(t *testing.T) {
	e := sdktest.New(t)
	number.Handle(e, func(_ context.Context, n int) (int, error) { return n, nil })
	sdktest.Stub(e, sum, 0)
	wf := heddle.NewWorkflow("large")
	b := wf.Batch("b")
	b.AddAll(numbers(20_000))
	wf.Add(sum.Job(heddle.None{}, heddle.JobOptions{Name: "end"})).After(b)
	run := e.Submit(wf)
	e.Drain()
	run.Want(map[string]heddle.Outcome{"end": heddle.Succeeded, "": heddle.Succeeded})
}
