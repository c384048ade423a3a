package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	. "github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

const (
	stateSucceeded = heddlev1.State_STATE_SUCCEEDED
	stateFailed    = heddlev1.State_STATE_FAILED
	stateCancelled = heddlev1.State_STATE_CANCELLED
	stateSkipped   = heddlev1.State_STATE_SKIPPED

	onFailed = heddlev1.Outcome_OUTCOME_FAILED

	statusDone  = heddlev1.ReportStatus_REPORT_STATUS_DONE
	statusStale = heddlev1.ReportStatus_REPORT_STATUS_STALE
)

func ok(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport { return Succeed("") }

// quick retries at once.
func quick(attempts int32) *heddlev1.JobOptions {
	none := 0.0
	return &heddlev1.JobOptions{Retry: &heddlev1.RetryPolicy{
		Attempts: attempts, Backoff: heddlev1.Backoff_BACKOFF_FIXED, Initial: durationpb.New(time.Millisecond), Jitter: &none,
	}}
}

func withOptions(n *heddlev1.NodeSpec, o *heddlev1.JobOptions) *heddlev1.NodeSpec {
	n.GetJob().Options = o
	return n
}

func in(batch string, n *heddlev1.NodeSpec) *heddlev1.NodeSpec {
	n.In = batch
	return n
}

func TestLoneJobs(t *testing.T) {
	_, c := newEngine(t, nil)
	c.Work(10, map[string]Handler{"echo": func(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
		return Succeed(string(l.GetArgs()))
	}})
	var subs []*heddlev1.Submission
	for i := range 50 {
		subs = append(subs, Lone("echo", fmt.Sprintf(`{"n":%d}`, i), nil))
	}
	for i, id := range c.Put(subs...) {
		res := c.Want(id, "", stateSucceeded)
		if want := fmt.Sprintf(`{"n":%d}`, i); string(res.GetResult()) != want {
			t.Errorf("result %s, want %s", res.GetResult(), want)
		}
	}
}

// A batch, a continuation on its success, a failure branch that is skipped.
func TestGraphWithContinuations(t *testing.T) {
	_, c := newEngine(t, nil)
	var sent, after atomic.Int32
	c.Work(4, map[string]Handler{
		"send": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport {
			sent.Add(1)
			return Succeed("")
		},
		"finish": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport {
			after.Store(sent.Load())
			return Succeed(`"ok"`)
		},
		"alarm": ok,
	})
	nodes := []*heddlev1.NodeSpec{Batch("mails")}
	for i := range 20 {
		nodes = append(nodes, in("mails", Job(fmt.Sprintf("m%d", i), "send")))
	}
	nodes = append(nodes, Job("done", "finish", After("mails")), Job("alarm", "alarm", After("mails", onFailed)), Job("last", "finish", After("done")))
	id := c.Put(Graph(nodes...))[0]
	c.Want(id, "", stateSucceeded)
	c.Want(id, "mails/m7", stateSucceeded)
	c.Want(id, "alarm", stateSkipped)
	if res := c.Want(id, "last", stateSucceeded); string(res.GetResult()) != `"ok"` {
		t.Errorf("result %s", res.GetResult())
	}
	if n := after.Load(); n != 20 {
		t.Errorf("the continuation saw %d of 20 mails sent (I4)", n)
	}
	wf, err := c.Get(t.Context(), connect.NewRequest(&heddlev1.GetRequest{WorkflowId: id}))
	if err != nil {
		t.Fatal(err)
	}
	if n := wf.Msg.GetWorkflow().GetJobs(); n.GetSucceeded() != 22 || n.GetSkipped() != 1 || n.GetTotal() != 23 {
		t.Errorf("counts %v", n)
	}
}

// Attempts are counted, delayed by the policy, and kept; used up, the job fails
// and its failure branch runs.
func TestRetries(t *testing.T) {
	_, c := newEngine(t, nil)
	var flaky atomic.Int32
	c.Work(4, map[string]Handler{
		"flaky": func(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
			if n := flaky.Add(1); n < 3 {
				return Fail(fmt.Sprintf("try %d", l.GetAttempt()))
			}
			return Succeed("")
		},
		"hopeless": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport { return Fail("never") },
		"mend":     ok,
	})
	id := c.Put(Graph(
		withOptions(Job("flaky", "flaky"), quick(5)),
		withOptions(Job("hopeless", "hopeless"), quick(2)),
		Job("mend", "mend", After("hopeless", onFailed)),
		Job("never", "mend", After("hopeless")),
	))[0]
	c.Want(id, "", stateFailed)
	c.Want(id, "flaky", stateSucceeded)
	c.Want(id, "mend", stateSucceeded)
	c.Want(id, "never", stateSkipped)
	job := c.JobOf(id, 1)
	kept := make(map[int32]string)
	for _, a := range job.GetAttempts() {
		kept[a.GetAttempt()] = a.GetHow() + " " + a.GetError()
	}
	if job.GetAttempt() != 3 || len(kept) != 2 || kept[1] != "failed try 1" || kept[2] != "failed try 2" {
		t.Errorf("job ended at attempt %d with attempts %v", job.GetAttempt(), job.GetAttempts())
	}
	if res := c.Await(id, "hopeless"); res.GetError() != "never" {
		t.Errorf("error %q, want the last attempt's", res.GetError())
	}
}

// A retry never starts before its time.
func TestDelaysAreKept(t *testing.T) {
	_, c := newEngine(t, nil)
	type run struct {
		kind string
		at   time.Time
	}
	runs := make(chan run, 10)
	var snoozed atomic.Bool
	const delay = 700 * time.Millisecond
	after := durationpb.New(delay)
	c.Work(4, map[string]Handler{
		"again": func(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
			runs <- run{"again", time.Now()}
			if l.GetAttempt() == 1 {
				r := Fail("later")
				r.After = after
				return r
			}
			return Succeed("")
		},
		"snooze": func(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
			runs <- run{"snooze", time.Now()}
			if !snoozed.Swap(true) {
				return &heddlev1.AttemptReport{Ending: heddlev1.Ending_ENDING_SNOOZED, After: after}
			}
			return Succeed("")
		},
	})
	for _, kind := range []string{"again", "snooze"} {
		id := c.Put(Lone(kind, "", quick(3)))[0]
		c.Want(id, "", stateSucceeded)
		first, second := <-runs, <-runs
		if d := second.at.Sub(first.at); d < delay {
			t.Errorf("%s ran again after %s, want at least %s", kind, d, delay)
		}
		want := map[string]int32{"again": 2, "snooze": 1}[kind]
		if n := c.JobOf(id, 1).GetAttempt(); n != want {
			t.Errorf("%s: %d attempts counted, want %d", kind, n, want)
		}
	}
}

// A running job is told to cancel within a second; success counts all the same.
func TestCancelRunning(t *testing.T) {
	_, c := newEngine(t, nil)
	running := make(chan string, 2)
	c.Work(4, map[string]Handler{
		"obey": func(ctx context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
			running <- "obey"
			<-ctx.Done()
			return Fail("cancelled")
		},
		"finish": func(ctx context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
			running <- "finish"
			<-ctx.Done()
			return Succeed(`1`)
		},
		"never": ok,
	})
	id := c.Put(Graph(Job("a", "obey"), Job("b", "finish"), Job("c", "never", After("a")), Job("d", "never", After("b"))))[0]
	<-running
	<-running
	begin := time.Now()
	if _, err := c.Cancel(t.Context(), connect.NewRequest(&heddlev1.CancelRequest{WorkflowId: id})); err != nil {
		t.Fatal(err)
	}
	c.Want(id, "", stateCancelled)
	if d := time.Since(begin); d > time.Second {
		t.Errorf("running jobs ended %s after the cancel, want within 1s", d)
	}
	c.Want(id, "a", stateCancelled)
	c.Want(id, "b", stateSucceeded)
	c.Want(id, "c", stateCancelled)
	c.Want(id, "d", stateCancelled)
}

// Nothing of a paused workflow, or queue, starts.
func TestPause(t *testing.T) {
	_, c := newEngine(t, nil)
	var started sync.Map
	c.Work(4, map[string]Handler{"k": func(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
		started.Store(l.GetName(), true)
		return Succeed("")
	}})
	ran := func(name string) bool { _, ok := started.Load(name); return ok }

	// The workflow's second job would start after the first one.
	gate := Graph(&heddlev1.NodeSpec{Name: "gate", Node: &heddlev1.NodeSpec_Batch{Batch: &heddlev1.BatchSpec{Open: true}}}, Job("held", "k", After("gate")))
	id := c.Put(gate)[0]
	if _, err := c.Pause(t.Context(), connect.NewRequest(&heddlev1.PauseRequest{WorkflowId: id})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Seal(t.Context(), connect.NewRequest(&heddlev1.SealRequest{WorkflowId: id, Path: "gate"})); err != nil {
		t.Fatal(err)
	}
	c.Want(id, "gate", stateSucceeded)
	other := c.Put(Graph(Job("other", "k")))[0]
	c.Want(other, "", stateSucceeded)
	if ran("held") {
		t.Error("a job of a paused workflow ran")
	}
	if _, err := c.Resume(t.Context(), connect.NewRequest(&heddlev1.ResumeRequest{WorkflowId: id})); err != nil {
		t.Fatal(err)
	}
	c.Want(id, "", stateSucceeded)

	if _, err := c.Queues.Pause(t.Context(), connect.NewRequest(&heddlev1.QueueServicePauseRequest{Queue: "default"})); err != nil {
		t.Fatal(err)
	}
	id = c.Put(Graph(Job("queued", "k")))[0]
	res, err := c.Wait(t.Context(), connect.NewRequest(&heddlev1.WaitRequest{WorkflowId: id, Timeout: durationpb.New(1500 * time.Millisecond)}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Msg.GetEnded() || ran("queued") {
		t.Error("a job of a paused queue ran")
	}
	if _, err := c.Queues.Resume(t.Context(), connect.NewRequest(&heddlev1.QueueServiceResumeRequest{Queue: "default"})); err != nil {
		t.Fatal(err)
	}
	c.Want(id, "", stateSucceeded)
}

// A batch too large for one transaction starts, and is skipped or cancelled,
// in chunks; it ends after its last member.
func TestCascades(t *testing.T) {
	_, c := newEngine(t, nil)
	const members = 4500
	graph := func(first string) *heddlev1.Submission {
		nodes := []*heddlev1.NodeSpec{Job("first", first), Batch("big", After("first")), Batch("other", After("first", onFailed))}
		for i := range members {
			batch := "big"
			if i%2 == 1 {
				batch = "other"
			}
			nodes = append(nodes, in(batch, Job(fmt.Sprintf("m%d", i), "member")))
		}
		nodes = append(nodes, Job("last", "member", After("big", heddlev1.Outcome_OUTCOME_SUCCEEDED, heddlev1.Outcome_OUTCOME_SKIPPED)))
		return Graph(nodes...)
	}
	var runs atomic.Int32
	c.Work(500, map[string]Handler{
		"good": ok,
		"bad": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport {
			return &heddlev1.AttemptReport{Ending: heddlev1.Ending_ENDING_FAILED_NO_RETRY, Error: "no"}
		},
		"member": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport {
			runs.Add(1)
			return Succeed("")
		},
	})
	id := c.Put(graph("good"))[0]
	c.Want(id, "", stateSucceeded)
	c.Want(id, "big", stateSucceeded)
	c.Want(id, "other", stateSkipped)
	if n := runs.Load(); n != members/2+1 {
		t.Errorf("%d members ran, want %d", n, members/2+1)
	}
	res, err := c.Get(t.Context(), connect.NewRequest(&heddlev1.GetRequest{WorkflowId: id}))
	if err != nil {
		t.Fatal(err)
	}
	if n := res.Msg.GetWorkflow().GetJobs(); n.GetSkipped() != members/2 || n.GetSucceeded() != members/2+2 {
		t.Errorf("counts %v", n)
	}
}

func TestRetryAndDismissByHand(t *testing.T) {
	_, c := newEngine(t, nil)
	var good atomic.Bool
	c.Work(4, map[string]Handler{
		"charge": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport {
			if good.Load() {
				return Succeed("")
			}
			return Fail("declined")
		},
		"ship": ok,
	})
	graph := func() *heddlev1.Submission {
		return Graph(withOptions(Job("charge", "charge"), quick(1)), Job("ship", "ship", After("charge")))
	}
	mended, dismissed := c.Put(graph())[0], c.Put(graph())[0]
	c.Want(mended, "", stateFailed)
	c.Want(dismissed, "", stateFailed)
	c.Want(mended, "ship", stateSkipped)
	good.Store(true)
	res, err := c.Retry(t.Context(), connect.NewRequest(&heddlev1.RetryRequest{WorkflowId: mended}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Msg.GetJobs() != 1 {
		t.Errorf("%d jobs retried, want 1", res.Msg.GetJobs())
	}
	c.Want(mended, "", stateSucceeded)
	c.Want(mended, "ship", stateSucceeded)
	if n := c.JobOf(mended, 1).GetAttempt(); n != 2 {
		t.Errorf("attempt %d, want 2: numbers grow over all lives (T2)", n)
	}
	if _, err := c.Dismiss(t.Context(), connect.NewRequest(&heddlev1.DismissRequest{WorkflowId: dismissed, Path: "charge", Note: "paid in cash"})); err != nil {
		t.Fatal(err)
	}
	c.Want(dismissed, "", stateSucceeded)
}

// A handler's returned graph is committed with its success; AddNow at once and
// once per key; a refused one leaves the job running.
func TestGrowingGraphs(t *testing.T) {
	_, c := newEngine(t, nil)
	var w *Worker
	refused := make(chan string, 1)
	w = c.NewWorker(4, map[string]Handler{
		"plan": func(ctx context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
			for range 2 {
				res, err := c.Append(ctx, connect.NewRequest(&heddlev1.AppendRequest{
					WorkflowId: uuid.UUID(l.GetWorkflowId()).String(), Key: "once",
					Graph: &heddlev1.Graph{Nodes: []*heddlev1.NodeSpec{Job("now", "leaf")}},
					Lease: &heddlev1.LeaseRef{WorkflowId: l.GetWorkflowId(), Node: l.GetNode(), Lease: l.GetLease(), Session: w.Session.Load()},
				}))
				if err != nil {
					return Fail(err.Error())
				}
				_ = res
			}
			bad := Succeed("")
			bad.Then = &heddlev1.Graph{Nodes: []*heddlev1.NodeSpec{Job("now", "leaf")}} // the name is taken
			if r := w.Report(w.Session.Load(), l, bad); r != nil {
				refused <- r.GetStatus().String()
			}
			r := Succeed("")
			r.Then = &heddlev1.Graph{
				Nodes: []*heddlev1.NodeSpec{Job("one", "leaf"), Job("two", "leaf")},
				Edges: []*heddlev1.Edge{{Parent: -1, Child: -2}},
			}
			return r
		},
		"leaf": ok,
	})
	w.Start()
	t.Cleanup(w.Die)
	id := c.Put(Graph(Job("plan", "plan")))[0]
	c.Want(id, "", stateSucceeded)
	for _, name := range []string{"plan", "now", "one", "two"} {
		c.Want(id, name, stateSucceeded)
	}
	if s := <-refused; s != heddlev1.ReportStatus_REPORT_STATUS_INVALID.String() {
		t.Errorf("a graph with a taken name was answered %s", s)
	}
	wf, err := c.Get(t.Context(), connect.NewRequest(&heddlev1.GetRequest{WorkflowId: id}))
	if err != nil {
		t.Fatal(err)
	}
	if n := wf.Msg.GetWorkflow().GetJobs().GetTotal(); n != 4 {
		t.Errorf("%d jobs, want 4", n)
	}
}

// Jobs expire in their queue, and not while a worker runs them.
func TestExpiry(t *testing.T) {
	_, c := newEngine(t, nil)
	short := &heddlev1.JobOptions{WaitTimeout: durationpb.New(300 * time.Millisecond)}
	begin := time.Now()
	waiting := c.Put(Lone("nobody", "", short))[0]
	res := c.Want(waiting, "", stateFailed)
	if res.GetError() == "" {
		t.Error("the job failed without a reason")
	}
	if d := time.Since(begin); d < 300*time.Millisecond || d > 3*time.Second {
		t.Errorf("expired after %s, want soon after 300ms", d)
	}
	gate, started := make(chan struct{}), make(chan struct{})
	c.Work(1, map[string]Handler{"slow": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport {
		close(started)
		<-gate
		return Succeed("")
	}})
	id := c.Put(Lone("slow", "", short))[0]
	<-started
	// Another job expires after the running one would have.
	c.Want(c.Put(Lone("nobody", "", short))[0], "", stateFailed)
	close(gate)
	c.Want(id, "", stateSucceeded)
}

func TestSubmitRepeats(t *testing.T) {
	_, c := newEngine(t, nil)
	var runs atomic.Int32
	c.Work(4, map[string]Handler{"k": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport {
		runs.Add(1)
		return Succeed("")
	}})
	for name, sub := range map[string]*heddlev1.Submission{"lone": Lone("k", "1", nil), "graph": Graph(Job("a", "k"))} {
		submit := func(s *heddlev1.Submission) *heddlev1.SubmitResult {
			res, err := c.Submit(t.Context(), connect.NewRequest(&heddlev1.SubmitRequest{Submissions: []*heddlev1.Submission{s}}))
			if err != nil {
				t.Fatal(err)
			}
			return res.Msg.GetResults()[0]
		}
		runs.Store(0)
		if r := submit(sub); !r.GetCreated() {
			t.Errorf("%s: first submit: %v", name, r)
		}
		c.Want(sub.GetId(), "", stateSucceeded)
		for _, repeat := range []bool{false, true} {
			sub.Repeat = repeat
			if r := submit(sub); r.GetCreated() || r.GetCode() != "" {
				t.Errorf("%s: repeated submit: %v", name, r)
			}
		}
		other := Lone("another", "2", nil)
		if name == "graph" {
			other = Graph(Job("b", "k"))
		}
		other.Id = sub.GetId()
		if r := submit(other); r.GetCode() != "already_exists" {
			t.Errorf("%s: another work under the same id: %v", name, r)
		}
		// A later job of the same queue has run: the repeats started nothing.
		c.Want(c.Put(Lone("k", "", nil))[0], "", stateSucceeded)
		if n := runs.Load(); n != 2 {
			t.Errorf("%s: %d runs, want one each", name, n)
		}
	}
}
