package heddle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
	"github.com/heddle-io/heddle/sdk/sdktest"
)

// example stands for the *testing.T of a test in runnable examples.
type example struct{ testing.TB }

func (example) Helper()                   {}
func (example) Context() context.Context  { return context.Background() }
func (example) Output() io.Writer         { return io.Discard }
func (example) Error(args ...any)         { fmt.Println(args...) }
func (example) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (example) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

var t example

// A handler grows the graph it runs in: what it adds exists if and only if it
// succeeds.
func ExampleThen() {
	type page struct {
		URL   string
		Depth int
	}
	crawl := heddle.NewKind[page, int]("crawl.page")
	index := heddle.NewKind[heddle.None, heddle.None]("crawl.index")

	e := sdktest.New(t) // in a program: a heddle.Worker
	crawl.Handle(e, func(ctx context.Context, p page) (int, error) {
		links := []string{p.URL + "a", p.URL + "b"}
		then := heddle.Then(ctx)
		for _, l := range links {
			if p.Depth > 0 {
				then.Add(crawl.Job(page{l + "/", p.Depth - 1}))
			}
		}
		return len(links), nil
	})
	index.Do(e, func(context.Context, heddle.None) error {
		fmt.Println("all pages are there")
		return nil
	})

	wf := heddle.NewWorkflow("crawl")
	pages := wf.Batch("pages")
	pages.Add(crawl.Job(page{"/", 1}))
	wf.Add(index.Job(heddle.None{})).After(pages)
	e.Submit(wf)
	e.Drain()
	for _, p := range sdktest.Calls(e, crawl) {
		fmt.Println(p.URL)
	}
	// Output:
	// all pages are there
	// /
	// /a/
	// /b/
}

// AddNow adds at once, whatever becomes of the attempt; its key makes the second
// attempt add nothing.
func ExampleAddNow() {
	split := heddle.NewKind[string, heddle.None]("file.split")
	part := heddle.NewKind[int, heddle.None]("file.part")

	e := sdktest.New(t)
	split.Do(e, func(ctx context.Context, file string) error {
		err := heddle.AddNow(ctx, "parts", func(g *heddle.Group) {
			for i := range 3 {
				g.Add(part.Job(i))
			}
		})
		if err != nil {
			return err
		}
		if heddle.JobInfo(ctx).Attempt == 1 {
			return errors.New("connection lost") // the parts go on meanwhile
		}
		return nil
	})
	sdktest.Stub(e, part, heddle.None{})
	run := e.Submit(split.Job("a.csv"))
	e.Drain()
	fmt.Println(len(sdktest.Calls(e, split)), "attempts,", len(sdktest.Calls(e, part)), "parts,", run.Outcome(""))
	// Output: 2 attempts, 3 parts, succeeded
}

// A continuation gathers the results of a batch, as a stream.
func ExampleKind_Results() {
	count := heddle.NewKind[string, int]("words.count")
	total := heddle.NewKind[heddle.None, int]("words.total")

	e := sdktest.New(t)
	count.Handle(e, func(_ context.Context, text string) (int, error) { return len(text), nil })
	total.Handle(e, func(ctx context.Context, _ heddle.None) (int, error) {
		sum := 0
		for m, err := range count.Results(ctx, "counts") {
			if err != nil {
				return 0, err
			}
			if m.Outcome == heddle.Succeeded {
				sum += m.Value
			}
		}
		return sum, nil
	})

	wf := heddle.NewWorkflow("words")
	counts := wf.Batch("counts")
	for _, text := range []string{"lift", "the", "thread"} {
		counts.Add(count.Job(text))
	}
	wf.Add(total.Job(heddle.None{}, heddle.JobOptions{Name: "total"})).After(counts)
	run := e.Submit(wf)
	e.Drain()
	fmt.Println(sdktest.Result(run, total, "total"))
	// Output: 13
}

// Go on with the first two of three answers.
func ExampleNode_AfterAtLeast() {
	ask := heddle.NewKind[string, int]("quote.ask")
	pick := heddle.NewKind[[]string, string]("quote.pick")

	e := sdktest.New(t)
	ask.Handle(e, func(_ context.Context, carrier string) (int, error) {
		if carrier == "ups" {
			return 0, heddle.NoRetry(errors.New("no offer"))
		}
		return len(carrier) * 100, nil
	})
	pick.Handle(e, func(ctx context.Context, carriers []string) (best string, err error) {
		least := 0
		for _, name := range carriers {
			switch cents, err := ask.Result(ctx, name); {
			case errors.Is(err, heddle.ErrNoResult): // not ended, or not well
			case err != nil:
				return "", err
			case best == "" || cents < least:
				best, least = name, cents
			}
		}
		return best, nil
	})

	wf := heddle.NewWorkflow("quotes", heddle.WorkflowOptions{Tolerance: heddle.Count(1)})
	carriers := []string{"postal", "ups", "gls"}
	var asks []heddle.Parent
	for _, name := range carriers {
		asks = append(asks, wf.Add(ask.Job(name, heddle.JobOptions{Name: name})))
	}
	wf.Add(pick.Job(carriers, heddle.JobOptions{Name: "pick"})).AfterAtLeast(2, asks...)
	run := e.Submit(wf)
	e.Drain()
	fmt.Println(sdktest.Result(run, pick, "pick"), run.Outcome(""))
	// Output: gls succeeded
}

// A compensation that runs if and only if its step was done and what followed
// did not go well, also when the order is cancelled.
func ExampleNode_Cleanup() {
	reserve := heddle.NewKind[string, heddle.None]("stock.reserve")
	release := heddle.NewKind[string, heddle.None]("stock.release")
	charge := heddle.NewKind[string, heddle.None]("card.charge")

	wf := heddle.NewWorkflow("order")
	reserved := wf.Add(reserve.Job("7", heddle.JobOptions{Name: "reserve"}))
	charged := wf.Add(charge.Job("7", heddle.JobOptions{Name: "charge"})).After(reserved)
	wf.Add(release.Job("7", heddle.JobOptions{Name: "release"})).
		After(reserved, charged.On(heddle.NotSucceeded)).Cleanup()

	e := sdktest.New(t)
	sdktest.Stub(e, reserve, heddle.None{})
	sdktest.Stub(e, release, heddle.None{})
	sdktest.Fail(e, charge, heddle.NoRetry(errors.New("card refused")))
	run := e.Submit(wf)
	e.Drain()
	fmt.Println("charge", run.Outcome("charge"))
	fmt.Println("release", run.Outcome("release"))
	// Output:
	// charge failed
	// release succeeded
}

// A job that looks whether something is ready and, if not, comes back later:
// that is no failure and counts no attempt.
func ExampleSnooze() {
	export := heddle.NewKind[string, string]("export.fetch")
	looks := 0

	e := sdktest.New(t)
	export.Handle(e, func(_ context.Context, id string) (string, error) {
		if looks++; looks < 3 {
			return "", heddle.Snooze(10 * time.Minute)
		}
		return "export " + id, nil
	})
	run := e.Submit(export.Job("42"))
	e.Drain()
	e.Advance(time.Hour)
	fmt.Println(sdktest.Result(run, export, ""), "after", looks, "looks")
	// Output: export 42 after 3 looks
}

// A policy of the kind, and a server that says itself when to come again.
func ExampleRetryAfter() {
	call := heddle.NewKind[string, heddle.None]("api.call", heddle.JobOptions{
		Timeout: 30 * time.Second,
		Retry:   &heddle.Retry{Attempts: 5, Backoff: heddle.Exponential, Initial: time.Second, Max: time.Minute},
	})
	e := sdktest.New(t)
	start := e.Now()
	call.Do(e, func(ctx context.Context, url string) error {
		if heddle.JobInfo(ctx).Attempt == 1 {
			return heddle.RetryAfter(errors.New("429 Too Many Requests"), 20*time.Second)
		}
		fmt.Println("called again after", e.Now().Sub(start).Round(time.Second))
		return nil
	})
	e.Submit(call.Job("https://example.org"))
	e.Drain()
	// Output: called again after 20s
}

// A long handler says that it is alive, and stops when its context ends. The
// cause tells why; an error after ErrShutdown gives the job back, uncounted.
func ExampleProgress() {
	load := heddle.NewKind[[]string, int]("rows.load", heddle.JobOptions{HeartbeatTimeout: time.Minute})
	handler := func(ctx context.Context, rows []string) (int, error) {
		for i := range rows {
			if ctx.Err() != nil {
				heddle.Logger(ctx).Info("stopping", "cause", context.Cause(ctx), "rows", i)
				return 0, context.Cause(ctx)
			}
			heddle.Progress(ctx, int64(i), int64(len(rows)), "loading")
		}
		return len(rows), nil
	}
	e := sdktest.New(t)
	load.Handle(e, handler)
	run := e.Submit(load.Job([]string{"a", "b"}))
	e.Drain()
	fmt.Println(sdktest.Result(run, load, ""))
	// Output: 2
}

// tenant carries the tenant of a request to the handlers of the jobs it submits.
type tenantKey struct{}

type tenants struct{}

func (tenants) Inject(ctx context.Context, headers map[string]string) {
	if name, ok := ctx.Value(tenantKey{}).(string); ok {
		headers["tenant"] = name
	}
}

func (tenants) Extract(ctx context.Context, headers map[string]string) context.Context {
	return context.WithValue(ctx, tenantKey{}, headers["tenant"])
}

// A propagator is given to the clients on both sides.
func ExamplePropagator() {
	var p heddle.Propagator = tenants{} // ClientConfig.Propagators
	headers := make(map[string]string)
	p.Inject(context.WithValue(context.Background(), tenantKey{}, "acme"), headers)
	fmt.Println(headers)
	fmt.Println(p.Extract(context.Background(), headers).Value(tenantKey{}))
	// Output:
	// map[tenant:acme]
	// acme
}

// Middleware of a worker sees every job; here it measures them.
func ExampleHandlerFunc() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	timed := func(next heddle.HandlerFunc) heddle.HandlerFunc {
		return func(ctx context.Context, args []byte) ([]byte, error) {
			start := time.Now()
			result, err := next(ctx, args)
			job := heddle.JobInfo(ctx)
			log.Info("job ended", "kind", job.Kind, "id", job.ID(), "took", time.Since(start), "error", err)
			return result, err
		}
	}
	_ = heddle.WorkerConfig{Middleware: []func(heddle.HandlerFunc) heddle.HandlerFunc{timed}}
}
