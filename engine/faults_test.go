package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	. "github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/pgembed"
	"github.com/heddle-io/heddle/internal/pgtest"
)

// Two reports of one job, at once and one after the other: the job ends once.
func TestTwoReports(t *testing.T) {
	_, c := newEngine(t, nil)
	answers := make(chan string, 8)
	var w *Worker
	w = c.NewWorker(2, map[string]Handler{"k": func(ctx context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				r := w.Report(w.Session.Load(), l, Succeed(`1`))
				answers <- r.GetStatus().String()
			})
		}
		wg.Wait()
		r := w.Report(w.Session.Load(), l, Fail("too late"))
		answers <- r.GetStatus().String()
		return Succeed(`2`)
	}})
	w.Start()
	t.Cleanup(w.Die)
	id := c.Put(Lone("k", "", nil))[0]
	if res := c.Want(id, "", stateSucceeded); string(res.GetResult()) != `1` {
		t.Errorf("result %s, want the first report's", res.GetResult())
	}
	done := 0
	for range 3 {
		if s := <-answers; s == statusDone.String() {
			done++
		} else if s != statusStale.String() {
			t.Errorf("a repeated report was answered %s", s)
		}
	}
	if done == 0 {
		t.Error("no report was acknowledged")
	}
	<-answers
	if n := w.Starts.Load(); n != 1 {
		t.Errorf("the job started %d times", n)
	}
}

// A worker that is silent for the TTL loses its job, one attempt counted; its
// late report is stale.
func TestReportAfterTheLeaseWasLost(t *testing.T) {
	_, c := newEngine(t, func(c *Config) { c.SessionTTL = time.Second })
	leases := make(chan *heddlev1.Lease, 1)
	silent := c.NewWorker(1, map[string]Handler{"k": func(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
		leases <- l
		return nil
	}})
	silent.Start()
	id := c.Put(Lone("k", "", nil))[0]
	lost := <-leases
	session := silent.Session.Load()
	silent.Die()

	second := c.Work(1, map[string]Handler{"k": ok})
	c.Want(id, "", stateSucceeded)
	if n := second.Starts.Load(); n != 1 {
		t.Errorf("the second worker started it %d times", n)
	}
	job := c.JobOf(id, 1)
	if job.GetAttempt() != 2 || len(job.GetAttempts()) != 1 || job.GetAttempts()[0].GetHow() != "lost" {
		t.Errorf("attempt %d, attempts %v; want the lost one counted", job.GetAttempt(), job.GetAttempts())
	}
	res, err := c.Report(t.Context(), connect.NewRequest(&heddlev1.ReportRequest{Session: session, Reports: []*heddlev1.AttemptReport{{
		WorkflowId: lost.GetWorkflowId(), Node: lost.GetNode(), Lease: lost.GetLease(), Ending: heddlev1.Ending_ENDING_SUCCEEDED,
	}}}))
	switch {
	case connect.CodeOf(err) == connect.CodeNotFound: // the session is gone, and says so
	case err != nil:
		t.Error(err)
	case res.Msg.GetResults()[0].GetStatus() != statusStale:
		t.Errorf("the late report was answered %s", res.Msg.GetResults()[0].GetStatus())
	}
}

// Running workers keep their jobs over a restart of the engine (I7).
func TestRestartKeepsLeases(t *testing.T) {
	config := testConfig(t, pgtest.DSN(t))
	e := startEngine(t, config)
	c := Dial(t, e.Addr())
	gate, started := make(chan struct{}), make(chan struct{}, 10)
	w := c.Work(5, map[string]Handler{"k": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport {
		started <- struct{}{}
		<-gate
		return Succeed(`"kept"`)
	}})
	var subs []*heddlev1.Submission
	for range 5 {
		subs = append(subs, Lone("k", "", nil))
	}
	ids := c.Put(subs...)
	for range ids {
		<-started
	}
	restart(t, e, config)
	close(gate)
	for _, id := range ids {
		c.Want(id, "", stateSucceeded)
		if job := c.JobOf(id, 1); job.GetAttempt() != 1 || len(job.GetAttempts()) != 0 {
			t.Errorf("job ended at attempt %d with attempts %v; the restart must cost none", job.GetAttempt(), job.GetAttempts())
		}
	}
	if n := w.Starts.Load(); n != 5 {
		t.Errorf("%d starts of 5 jobs", n)
	}
}

// A cancel told before a restart still counts after it.
func TestRestartKeepsCancelRequests(t *testing.T) {
	config := testConfig(t, pgtest.DSN(t))
	e := startEngine(t, config)
	c := Dial(t, e.Addr())
	gate, started := make(chan struct{}), make(chan struct{}, 1)
	c.Work(1, map[string]Handler{"k": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport {
		started <- struct{}{}
		<-gate
		return Fail("stopped")
	}})
	id := c.Put(Lone("k", "", nil))[0]
	<-started
	if _, err := c.Cancel(t.Context(), connect.NewRequest(&heddlev1.CancelRequest{WorkflowId: id})); err != nil {
		t.Fatal(err)
	}
	restart(t, e, config)
	close(gate)
	c.Want(id, "", stateCancelled)
}

// Postgres is killed and started again under load: all goes on by itself.
func TestPostgresRestartsUnderLoad(t *testing.T) {
	server := pgtest.Server(t, true, nil)
	e := startEngine(t, testConfig(t, server.DSN()))
	c := Dial(t, e.Addr())
	var acked sync.Map
	var again atomic.Int32
	begun := make(chan struct{}, 10_000)
	w := c.NewWorker(50, map[string]Handler{"k": func(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
		if _, twice := acked.Load(string(l.GetWorkflowId())); twice {
			again.Add(1)
		}
		begun <- struct{}{}
		return Succeed("")
	}})
	w.OnAck = func(l *heddlev1.Lease) { acked.Store(string(l.GetWorkflowId()), true) }
	w.Start()
	t.Cleanup(w.Die)
	var subs []*heddlev1.Submission
	for range 2000 {
		subs = append(subs, Lone("k", "", nil))
	}
	ids := c.Put(subs...)
	for range 300 {
		<-begun
	}
	server.Kill()
	// While it is down, nothing is acknowledged and submits say so.
	sub := Lone("k", "", nil)
	res, err := c.Submit(t.Context(), connect.NewRequest(&heddlev1.SubmitRequest{Submissions: []*heddlev1.Submission{sub}}))
	if err == nil && res.Msg.GetResults()[0].GetCode() != "unavailable" {
		t.Errorf("submit without a database: %v", res.Msg.GetResults()[0])
	} else if err != nil && connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("submit without a database: %v", err)
	}
	relaunch(t, server)
	for _, id := range ids {
		c.WantThrough(id, stateSucceeded)
	}
	if n := again.Load(); n != 0 {
		t.Errorf("%d acknowledged jobs ran again (I9)", n)
	}
}

// Postgres is down when the engine starts: it waits, and says so.
func TestPostgresDownAtStart(t *testing.T) {
	server := pgtest.Server(t, false, nil)
	server.Kill()
	e, err := New(testConfig(t, server.DSN()))
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := e.Start(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("start without a database: %v, want the deadline", err)
	}
	// A stop breaks off a start that waits.
	if e, err = New(testConfig(t, server.DSN())); err != nil {
		t.Fatal(err)
	}
	broken := make(chan error, 1)
	go func() { broken <- e.Start(context.Background()) }()
	stopEngine(t, e)
	if err := <-broken; err == nil {
		t.Error("an engine that was stopped has started")
	}
	if e, err = New(testConfig(t, server.DSN())); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- e.Start(t.Context()) }()
	relaunch(t, server)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	stopEngine(t, e)
}

// Refusals that no waiting mends end the start at once.
func TestStartRefusals(t *testing.T) {
	dsn := pgtest.DSN(t)
	config := testConfig(t, dsn)
	e := startEngine(t, config)
	second, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); !errors.Is(err, ErrDataDirInUse) {
		t.Errorf("a second engine on the same directory: %v", err)
	}
	other := testConfig(t, dsn)
	other.Listen = e.Addr()
	if second, err = New(other); err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err == nil {
		t.Error("a second engine on the same address starts")
	}
	missing := testConfig(t, strings.Replace(dsn, "/test_", "/missing_", 1))
	if second, err = New(missing); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := second.Start(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a database that does not exist: %v", err)
	}
}

// The wall clock of this machine plays no part: the engine's view of time
// comes from the database, and goes on with the monotonic clock.
func TestClockBackwardsIsHarmless(t *testing.T) {
	c := newDBClock()
	// The wall clock, as it was read at the start, is an hour ahead of the
	// database; the first reading takes it back.
	c.observe(c.now() - int64(time.Hour/time.Microsecond))
	before := c.now()
	c.observe(before)
	if after := c.now(); after < before {
		t.Errorf("time went back from %d to %d", before, after)
	}

	_, client := newEngine(t, nil)
	client.Work(2, map[string]Handler{"k": ok})
	// A submitter whose clock is an hour back makes older ids, and jobs that
	// were due before they existed.
	id := fmt.Sprintf("%012x-7000-8000-000000000001", time.Now().Add(-time.Hour).UnixMilli())
	sub := Lone("k", "", nil)
	sub.Id = id[:8] + "-" + id[8:]
	client.Put(sub)
	client.Want(sub.GetId(), "", stateSucceeded)
	if _, err := client.Wait(t.Context(), connect.NewRequest(&heddlev1.WaitRequest{WorkflowId: NewID(), Timeout: durationpb.New(time.Second)})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("an unknown workflow: %v", err)
	}
}

// An engine without work asks little of its database: less than one
// transaction a second.
func TestIdleEngineIsQuiet(t *testing.T) {
	dir, err := os.MkdirTemp("", "heddle-idle-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // as root, Postgres runs as another user
		t.Fatal(err)
	}
	server, err := pgembed.Start(t.Context(), pgembed.Config{
		Dir: dir, Volatile: true, Settings: map[string]string{"log_statement": "all"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop(context.Background()) })
	// Every statement is counted: a transaction has at least one.
	statements := func() int {
		log, err := os.ReadFile(filepath.Join(dir, "postgres.log"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(log), "LOG:  execute") + strings.Count(string(log), "LOG:  statement")
	}
	startEngine(t, testConfig(t, server.DSN()))
	const seconds = 6
	pause := func(d time.Duration) { <-time.After(d) } // it is the passing of time that is tested
	pause(time.Second)                                 // the start's own
	before := statements()
	pause(seconds * time.Second)
	if n := statements() - before; n >= seconds {
		t.Errorf("%d statements in %d idle seconds", n, seconds)
	}
}

// relaunch starts a killed server again.
func relaunch(t *testing.T, server *pgembed.Server) {
	t.Helper()
	if err := server.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
}
