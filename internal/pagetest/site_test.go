package pagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/heddle-io/heddle/engine"
	"github.com/heddle-io/heddle/internal/pgtest"
	heddle "github.com/heddle-io/heddle/sdk"
)

// site is a running engine with its database, a client of it, and workers on
// demand.
type site struct {
	t      testing.TB
	url    string
	engine *engine.Engine
	client *heddle.Client
	db     *pgxpool.Pool
}

// newSite starts an engine; change may alter its configuration.
func newSite(t testing.TB, change ...func(*engine.Config)) *site {
	t.Helper()
	c := engine.DefaultConfig()
	c.Postgres, c.Ephemeral, c.Listen, c.Version = pgtest.DSN(t), true, "127.0.0.1:0", "1.0.0"
	c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	for _, f := range change {
		f(&c)
	}
	e, err := engine.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s := &site{t: t, engine: e, url: "http://" + e.Addr()}
	if s.client, err = heddle.NewClient(heddle.ClientConfig{Addrs: []string{s.url}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	if s.db, err = pgxpool.New(ctx, c.Postgres); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.db.Close)
	return s
}

// The kinds of the workflows below. Their jobs do as their arguments say.
var (
	render = heddle.NewKind[string, string]("letter.render")
	mail   = heddle.NewKind[int, string]("mail.send", heddle.JobOptions{Retry: &heddle.Retry{Attempts: 2, Backoff: heddle.Fixed, Initial: 10 * time.Millisecond}})
	report = heddle.NewKind[string, heddle.None]("report.write")
	charge = heddle.NewKind[int, heddle.None]("card.charge", heddle.JobOptions{Queue: "billing", Retry: &heddle.Retry{Attempts: 1}})
)

// crew is a worker for those kinds, whose ways can be changed while it runs.
type crew struct {
	mu   sync.Mutex
	fail func(kind string, n int) error
	gate chan struct{} // jobs wait for it to be closed; nil: they do not
}

// ways says how jobs of the kinds end from now on.
func (c *crew) ways(fail func(kind string, n int) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = fail
}

// hold lets the jobs that start from now on wait until the returned function is
// called.
func (c *crew) hold() (release func()) {
	gate := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gate = gate
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.gate = nil
		close(gate)
	}
}

func (c *crew) work(ctx context.Context, kind string, n int) error {
	c.mu.Lock()
	gate, fail := c.gate, c.fail
	c.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if fail != nil {
		return fail(kind, n)
	}
	return nil
}

// crew starts a worker of the name on both queues; it stops with the test.
func (s *site) crew(name string, slots int) *crew {
	s.t.Helper()
	c := &crew{}
	w := heddle.NewWorker(s.client, heddle.WorkerConfig{
		Name: name, Slots: slots, Queues: []string{"default", "billing"}, StopTimeout: -1,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	render.Handle(w, func(ctx context.Context, title string) (string, error) {
		return "Dear reader, " + title, c.work(ctx, "letter.render", 0)
	})
	mail.Handle(w, func(ctx context.Context, n int) (string, error) {
		return fmt.Sprintf("<%d@example.org>", n), c.work(ctx, "mail.send", n)
	})
	report.Do(w, func(ctx context.Context, _ string) error { return c.work(ctx, "report.write", 0) })
	charge.Do(w, func(ctx context.Context, n int) error { return c.work(ctx, "card.charge", n) })
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	return c
}

// campaign is a letter, a mail each to n readers, and what follows.
func campaign(n int, tolerance float64) *heddle.Workflow {
	wf := heddle.NewWorkflow("spring campaign")
	letter := wf.Add(render.Job("spring is here", heddle.JobOptions{Name: "letter"}))
	mails := wf.Batch("mails", heddle.BatchOptions{Tolerance: heddle.Percent(tolerance)}).After(letter)
	for i := range n {
		mails.Add(mail.Job(i))
	}
	finish := wf.Batch("finish").After(mails)
	finish.Add(report.Job("sent", heddle.JobOptions{Name: "tell the editor"}))
	finish.Add(charge.Job(n, heddle.JobOptions{Name: "charge the customer"}))
	wf.Add(report.Job("refused", heddle.JobOptions{Name: "list refusals"})).After(mails.On(heddle.Failed))
	wf.Add(report.Job("summary", heddle.JobOptions{Name: "summary"})).After(mails.On(heddle.Finished))
	return wf
}

// submit submits a workflow.
func (s *site) submit(w heddle.Work) *heddle.Run {
	s.t.Helper()
	r, err := s.client.Submit(s.t.Context(), w)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// ended waits for the outcome of a run.
func (s *site) ended(r *heddle.Run, want heddle.Outcome) {
	s.t.Helper()
	got, err := r.Wait(s.t.Context())
	if err != nil || got != want {
		s.t.Fatalf("workflow %s: %v, %v; want %v", r.ID(), got, err, want)
	}
}

// count is the answer of a query to one number.
func (s *site) count(sql string, args ...any) (n int) {
	s.t.Helper()
	if err := s.db.QueryRow(s.t.Context(), sql, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

var errRefused = errors.New("550 mailbox unavailable")
