package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/heddle-io/heddle/internal/pgtest"
	heddle "github.com/heddle-io/heddle/sdk"
)

// wantInvalid checks a refusal by the SDK, and that it names things.
func wantInvalid(t testing.TB, what string, err error, names ...string) {
	t.Helper()
	wantError(t, what, err, heddle.ErrInvalid, names...)
}

func wantError(t testing.TB, what string, err, sentinel error, names ...string) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Errorf("%s: %v, want %v", what, err, sentinel)
		return
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error does not name %q: %v", what, name, err)
		}
	}
}

// What people get wrong with the SDK is refused with an error that says what.
func TestBadInputOverTheSDK(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, 10*time.Second)
	c := s.client(nil)
	ctx := t.Context()
	submit := func(build func(wf *heddle.Workflow)) error {
		wf := heddle.NewWorkflow("bad")
		build(wf)
		_, err := c.Submit(ctx, wf)
		return err
	}
	named := func(name string) heddle.Job { return taskKind.Job(task{}, heddle.JobOptions{Name: name}) }

	err := submit(func(wf *heddle.Workflow) {
		a := wf.Add(named("weave"))
		b := wf.Add(named("spin")).After(a)
		a.After(b)
	})
	wantInvalid(t, "a cycle of jobs", err, "weave starts", "weave ends", "spin starts", "spin ends")
	if cycle := (*heddle.CycleError)(nil); !errors.As(err, &cycle) || len(cycle.Steps) != 4 {
		t.Errorf("a cycle is no CycleError of four steps: %v", err)
	}
	wantInvalid(t, "a member that waits for what waits for its batch", submit(func(wf *heddle.Workflow) {
		loom := wf.Batch("loom")
		after := wf.Add(named("after")).After(loom)
		loom.Add(named("member")).After(after)
	}), "loom/member", "after", "loom ends")
	wantInvalid(t, "two edges between a pair", submit(func(wf *heddle.Workflow) {
		a := wf.Add(named("weave"))
		wf.Add(named("spin")).After(a, a.On(heddle.Failed))
	}), "weave", "spin")
	wantInvalid(t, "two nodes of one name", submit(func(wf *heddle.Workflow) {
		wf.Add(named("weave"))
		wf.Add(named("weave"))
	}), `"weave"`)
	wantInvalid(t, "a name with a slash", submit(func(wf *heddle.Workflow) { wf.Add(named("we/ave")) }), "we/ave")
	wantInvalid(t, "a parent of another graph", submit(func(wf *heddle.Workflow) {
		wf.Add(named("weave")).After(heddle.NewWorkflow("other").Add(named("stranger")))
	}), "stranger")
	wantInvalid(t, "a queue name that is too long", submit(func(wf *heddle.Workflow) {
		wf.Add(taskKind.Job(task{}, heddle.JobOptions{Queue: strings.Repeat("q", 201)}))
	}), "queue", "201")
	wantInvalid(t, "a queue name with a zero byte", submit(func(wf *heddle.Workflow) {
		wf.Add(taskKind.Job(task{}, heddle.JobOptions{Queue: "q\x00"}))
	}), "queue")
	wantInvalid(t, "priority 5", submit(func(wf *heddle.Workflow) {
		wf.Add(taskKind.Job(task{}, heddle.JobOptions{Priority: 5}))
	}), "priority 5")

	_, err = c.Submit(ctx, heddle.NewKind[string, heddle.None]("big").Job(strings.Repeat("x", 2<<20)))
	wantInvalid(t, "arguments of 2 MiB", err, fmt.Sprint(2<<20+2), fmt.Sprint(1<<20))
	big := heddle.NewWorkflow("big")
	big.Add(heddle.NewKind[string, heddle.None]("big").Job(strings.Repeat("x", 2<<20)))
	_, err = c.Submit(ctx, big)
	wantInvalid(t, "arguments of 2 MiB in a graph", err, fmt.Sprint(2<<20+2), fmt.Sprint(1<<20))

	run := c.Run(newID())
	_, err = run.Get(ctx)
	wantError(t, "get an unknown id", err, heddle.ErrNotFound, run.ID())
	_, err = run.Wait(ctx)
	wantError(t, "wait for an unknown id", err, heddle.ErrNotFound, run.ID())
	wantError(t, "cancel an unknown id", run.Cancel(ctx), heddle.ErrNotFound, run.ID())
	_, err = run.Retry(ctx, heddle.RetryOptions{})
	wantError(t, "retry an unknown id", err, heddle.ErrNotFound, run.ID())
	wantError(t, "append to an unknown id", run.Append(ctx, "", func(g *heddle.Group) { g.Add(named("weave")) }), heddle.ErrNotFound, run.ID())
	for _, err := range run.Watch(ctx) {
		wantError(t, "watch an unknown id", err, heddle.ErrNotFound, run.ID())
	}
	_, err = c.Run("thread").Get(ctx)
	wantInvalid(t, "an id that is none", err, "thread")

	good := heddle.NewWorkflow("good")
	good.Add(named("weave"))
	run, err = c.Submit(ctx, good)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "cancel an unknown path", run.Cancel(ctx, "loom/weave"), heddle.ErrNotFound, "loom")
	wantError(t, "append to an unknown batch", run.Append(ctx, "loom", func(g *heddle.Group) { g.Add(named("knot")) }), heddle.ErrNotFound, "loom")
	wantError(t, "append after an unknown node", run.Append(ctx, "", func(g *heddle.Group) { g.Add(named("knot")).After(heddle.Existing("loom")) }), heddle.ErrNotFound, "loom")

	w := heddle.NewWorker(c, heddle.WorkerConfig{Queues: []string{"", strings.Repeat("q", 201)}})
	taskKind.Do(w, func(context.Context, task) error { return nil })
	if err := w.Run(ctx); err == nil || !strings.Contains(err.Error(), "queue") {
		t.Errorf("a worker with wrong queue names: %v", err)
	}
	// Nothing of all this has left a trace.
	left := readTables(t, dsn)
	if n := len(left.open) + len(left.finished); n != 1 {
		t.Errorf("%d jobs exist, want the one of the good workflow", n)
	}
}

// What people get wrong with curl is refused with an error that says what.
func TestBadInputOverJSON(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, 10*time.Second)
	graph := func(nodes string) string {
		return fmt.Sprintf(`{"submissions": [{"id": %q, "graph": {"nodes": [%s]}}]}`, newID(), nodes)
	}
	lone := func(id, job string) string {
		return fmt.Sprintf(`{"submissions": [{"id": %q, "job": {%s}}]}`, id, job)
	}
	const submit = "WorkflowService/Submit"
	old := uuid.Must(uuid.NewV7())
	copy(old[:6], []byte{0x01, 0x80, 0, 0, 0, 0}) // a day of 2022
	for _, c := range []struct {
		what, procedure, body, code string
		names                       []string
	}{
		{"no JSON", submit, `{"submissions": [`, "invalid_argument", nil},
		{"nothing at all", submit, ``, "invalid_argument", nil},
		{"an unknown field", submit, lone(newID(), `"kind": "k", "queu": "q"`), "invalid_argument", []string{"queu"}},
		{"no submission", submit, `{}`, "invalid_argument", []string{"submissions"}},
		{"no work", submit, `{"submissions": [{"name": "n"}]}`, "invalid_argument", []string{"submissions[0]"}},
		{"no kind", submit, lone(newID(), `"queue": "q"`), "invalid_argument", []string{"kind"}},
		{"arguments that are no JSON", submit, lone(newID(), `"kind": "k", "argsJson": "{"`), "invalid_argument", []string{"args_json"}},
		{"a cycle", submit, graph(`{"name": "weave", "job": {"kind": "k"}, "after": [{"path": "spin"}]}, {"name": "spin", "job": {"kind": "k"}, "after": [{"path": "weave"}]}`),
			"invalid_argument", []string{"weave starts", "weave ends", "spin starts", "spin ends"}},
		{"a node that waits for itself", submit, graph(`{"name": "weave", "job": {"kind": "k"}, "after": [{"path": "weave"}]}`), "invalid_argument", []string{"weave"}},
		{"an unknown parent", submit, graph(`{"name": "weave", "job": {"kind": "k"}, "after": [{"path": "loom/spin"}]}`), "invalid_argument", []string{"nodes[0]", "loom/spin"}},
		{"an unknown batch", submit, graph(`{"name": "weave", "job": {"kind": "k"}, "in": "loom"}`), "invalid_argument", []string{"nodes[0]", "loom"}},
		{"two edges between a pair", submit, graph(`{"name": "weave", "job": {"kind": "k"}}, {"name": "spin", "job": {"kind": "k"}, "after": [{"path": "weave"}, {"path": "weave", "on": ["OUTCOME_FAILED"]}]}`),
			"invalid_argument", []string{"weave", "spin"}},
		{"an unknown outcome", submit, graph(`{"name": "weave", "job": {"kind": "k"}, "after": [{"path": "a", "on": ["OUTCOME_GREAT"]}]}`), "invalid_argument", nil},
		{"one name twice", submit, graph(`{"name": "weave", "job": {"kind": "k"}}, {"name": "weave", "job": {"kind": "k"}}`), "invalid_argument", []string{"weave"}},
		{"an id that is none", submit, lone("thread", `"kind": "k"`), "invalid_argument", []string{"id", "thread"}},
		{"an id of another version", submit, lone(uuid.NewString(), `"kind": "k"`), "invalid_argument", []string{"UUIDv7"}},
		{"an id of years ago", submit, lone(old.String(), `"kind": "k"`), "invalid_argument", []string{old.String()}},
		{"arguments of 2 MiB", submit, lone(newID(), `"kind": "k", "argsJson": "\"`+strings.Repeat("x", 2<<20)+`\""`), "invalid_argument", []string{"args", fmt.Sprint(2<<20 + 2), fmt.Sprint(1 << 20)}},
		{"a request of 20 MiB", submit, lone(newID(), `"kind": "k", "argsJson": "\"`+strings.Repeat("x", 20<<20)+`\""`), "resource_exhausted", nil},
		{"a queue name with a zero byte", submit, lone(newID(), `"kind": "k", "queue": "q\u0000"`), "invalid_argument", []string{"queue"}},
		{"a queue name that is too long", submit, lone(newID(), `"kind": "k", "queue": "`+strings.Repeat("q", 201)+`"`), "invalid_argument", []string{"queue", "201"}},
		{"pause of a queue without a name", "QueueService/Pause", `{}`, "invalid_argument", []string{"queue"}},
		{"a poll of a queue without a name", "WorkerService/Poll", `{"session": "1", "poll": "1", "maxJobs": 1, "queues": [{}], "kinds": ["k"]}`, "invalid_argument", []string{"queues[0]"}},
		{"a poll of one queue twice", "WorkerService/Poll", `{"session": "1", "poll": "1", "maxJobs": 1, "queues": [{"queue": "q"}, {"queue": "q"}], "kinds": ["k"]}`, "invalid_argument", []string{`"q"`}},
		{"a poll of an unknown session", "WorkerService/Poll", `{"session": "123456", "poll": "1", "maxJobs": 1, "queues": [{"queue": "q"}], "kinds": ["k"]}`, "not_found", nil},
		{"an unknown workflow", "WorkflowService/Get", fmt.Sprintf(`{"workflowId": %q}`, old), "not_found", []string{old.String()}},
		{"an unknown job", "JobService/Get", fmt.Sprintf(`{"id": "%s/7"}`, old), "not_found", []string{old.String()}},
		{"the explanation of an unknown job", "JobService/Explain", fmt.Sprintf(`{"id": %q}`, old), "not_found", []string{old.String()}},
		{"the graph of an unknown workflow", "WorkflowService/Graph", fmt.Sprintf(`{"workflowId": %q}`, old), "not_found", []string{old.String()}},
		{"delete of an unknown workflow", "WorkflowService/Delete", fmt.Sprintf(`{"workflowId": %q}`, old), "not_found", []string{old.String()}},
		{"pause of an unknown workflow", "WorkflowService/Pause", fmt.Sprintf(`{"workflowId": %q}`, old), "not_found", []string{old.String()}},
		{"a page token that is none", "JobService/List", `{"pageToken": "thread"}`, "invalid_argument", []string{"page_token"}},
	} {
		s.post(t, c.procedure, c.body).refused(t, c.what, c.code, c.names...)
	}
	s.post(t, "WorkflowService/Weave", `{}`).refused(t, "an unknown procedure", "unimplemented", "WorkflowService/Weave")
	left := readTables(t, dsn)
	if n := len(left.open) + len(left.finished); n != 0 {
		t.Errorf("%d jobs exist, though everything was refused", n)
	}
}

// Submit repeated with the same id gives the same answer, also at the same
// time and after the work has ended; the same id with another graph is refused.
func TestRepeatedSubmit(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, 10*time.Second)
	c := s.client(nil)
	v := newEvents(t)
	build := func(id string, members int) *heddle.Workflow {
		wf := heddle.NewWorkflow("again", heddle.WorkflowOptions{ID: id})
		b := wf.Batch("members")
		for range members {
			b.Add(taskKind.Job(task{}))
		}
		wf.Add(taskKind.Job(task{})).After(b)
		return wf
	}
	id, other := newID(), newID()
	errs := make(chan error)
	for range 8 {
		go func() {
			run, err := c.Submit(t.Context(), build(id, 5))
			if err == nil && run.ID() != id {
				err = fmt.Errorf("id %s", run.ID())
			}
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Errorf("one of several equal submits: %v", err)
		}
	}
	lone := fmt.Sprintf(`{"submissions": [{"id": %q, "job": {"kind": "task", "argsJson": "{}"}}]}`, other)
	same := func(body string, created bool) {
		t.Helper()
		a := s.post(t, "WorkflowService/Submit", body)
		if len(a.Results) != 1 || a.Results[0].ID != other || a.Results[0].Created != created || a.Results[0].Code != "" {
			t.Errorf("submit of the lone job: %+v, want created %v", a, created)
		}
	}
	same(lone, true)
	same(lone, false)
	differ := func() {
		t.Helper()
		_, err := c.Submit(t.Context(), build(id, 6))
		wantError(t, "the same id with another graph", err, heddle.ErrAlreadyExists, id)
		for what, job := range map[string]string{
			"arguments": `"kind": "task", "argsJson": "{\"busy\": 1}"`, "kind": `"kind": "other", "argsJson": "{}"`,
			"queue": `"kind": "task", "queue": "q", "argsJson": "{}"`,
		} {
			s.post(t, "WorkflowService/Submit", fmt.Sprintf(`{"submissions": [{"id": %q, "job": {%s}}]}`, other, job)).
				refused(t, "the same id with another "+what, "already_exists", other)
		}
		_, err = c.Submit(t.Context(), build(other, 1))
		wantError(t, "the id of a lone job with a graph", err, heddle.ErrAlreadyExists, other)
		s.post(t, "WorkflowService/Submit", strings.ReplaceAll(lone, other, id)).
			refused(t, "the id of a graph with a lone job", "already_exists", id)
	}
	differ()
	hire(t, s, v, "a", 5, nil)
	settle(t, dsn, patience)
	same(lone, false)
	if _, err := c.Submit(t.Context(), build(id, 5)); err != nil {
		t.Errorf("an equal submit after the end: %v", err)
	}
	differ()
	settle(t, dsn, patience)
	judge(t, dsn, v, []*submission{
		{id: id, acked: true, jobs: 6, want: heddle.Succeeded}, {id: other, acked: true, lone: true, jobs: 1, want: heddle.Succeeded},
	})
	if n := v.starts(""); n != 7 {
		t.Errorf("%d starts of 7 jobs", n)
	}
}

// Kinds that nobody submits disturb nobody; a job of a kind or queue that
// nobody handles waits, and Explain says why.
func TestKindsThatDoNotMeet(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, 10*time.Second)
	c := s.client(nil)
	v := newEvents(t)
	hire(t, s, v, "a", 5, nil) // handles "odd", which nobody submits
	unknown, err := c.Submit(t.Context(), heddle.NewKind[heddle.None, heddle.None]("unheard").Job(heddle.None{}))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := c.Submit(t.Context(), taskKind.Job(task{}, heddle.JobOptions{Queue: "unserved"}))
	if err != nil {
		t.Fatal(err)
	}
	// What comes after them is not kept waiting.
	if _, err := taskKind.Call(t.Context(), c, task{}); err != nil {
		t.Fatal(err)
	}
	for _, w := range []struct{ id, code, name string }{
		{unknown.ID(), "no worker for this kind", `"unheard"`}, {elsewhere.ID(), "no worker for this queue", `"unserved"`},
	} {
		var a answer
		eventually(t, "Explain says "+w.code, patience, func() bool {
			a = s.post(t, "JobService/Explain", fmt.Sprintf(`{"id": %q}`, w.id))
			return a.State == "STATE_AVAILABLE" && len(a.Reasons) == 1 && a.Reasons[0].Code == w.code
		})
		if !strings.Contains(a.Reasons[0].Text, w.name) {
			t.Errorf("the reason does not name %s: %s", w.name, a.Reasons[0].Text)
		}
	}
	// A worker that comes later takes it up.
	hire(t, s, v, "b", 5, func(c *workerConfig) { c.Queues = []string{"unserved"} })
	if o, err := elsewhere.Wait(t.Context()); err != nil || o != heddle.Succeeded {
		t.Errorf("the job whose queue found a worker: %v, %v", o, err)
	}
}

// A result of 2 MiB fails the attempt with an error that says so, and blocks
// nothing that is reported with it.
func TestResultTooLarge(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, 10*time.Second)
	c := s.client(nil)
	v := newEvents(t)
	hire(t, s, v, "a", 5, nil)
	works := []heddle.Work{taskKind.Job(task{Big: 2 << 20}, heddle.JobOptions{Retry: &heddle.Retry{Attempts: 2}})}
	for range 20 {
		works = append(works, taskKind.Job(task{}))
	}
	runs, err := c.SubmitAll(t.Context(), works...)
	if err != nil {
		t.Fatal(err)
	}
	settle(t, dsn, patience)
	var subs []*submission
	for i, r := range runs {
		want := heddle.Succeeded
		if i == 0 {
			want = heddle.Failed
		}
		subs = append(subs, &submission{id: r.ID(), acked: true, lone: true, jobs: 1, want: want})
	}
	judge(t, dsn, v, subs)
	f := readTables(t, dsn).finished[job{Workflow: runs[0].ID(), Node: 1}]
	for _, part := range []string{"result", fmt.Sprint(2<<20 + 2), fmt.Sprint(1 << 20)} {
		if !strings.Contains(f.error, part) {
			t.Errorf("the error does not say %q: %s", part, f.error)
		}
	}
	if f.attempt != 2 {
		t.Errorf("the job failed at attempt %d, want each result refused", f.attempt)
	}
}
