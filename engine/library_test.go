package engine

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/engine/store"
	. "github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/pgtest"
)

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	return getWith(t, http.DefaultClient, url)
}

func getWith(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// The handler lives in a server of the caller's own; before the start and after
// the stop it says that the engine is away.
func TestHandlerInAnotherServer(t *testing.T) {
	config := testConfig(t, pgtest.DSN(t))
	config.Listen = ""
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(e.Handler())
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	call := func() (int, string) {
		t.Helper()
		res, err := http.Post(server.URL+"/heddle.v1.WorkflowService/Submit", "application/json",
			strings.NewReader(`{"submissions": [{"job": {"kind": "hello", "argsJson": "{}"}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	if code, body := call(); code != http.StatusServiceUnavailable || !strings.Contains(body, `"unavailable"`) {
		t.Errorf("before the start: %d %s", code, body)
	}
	if code, _ := get(t, server.URL+"/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("ready before the start: %d", code)
	}
	if code, _ := get(t, server.URL+"/healthz"); code != http.StatusOK {
		t.Errorf("not healthy before the start: %d", code)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e.Addr() != "" {
		t.Errorf("an engine without a server listens on %s", e.Addr())
	}
	if code, body := call(); code != http.StatusOK || !strings.Contains(body, `"created":true`) {
		t.Errorf("while it runs: %d %s", code, body)
	}
	if code, body := get(t, server.URL+"/readyz"); code != http.StatusOK {
		t.Errorf("not ready: %d %s", code, body)
	}
	stopEngine(t, e)
	if code, _ := call(); code != http.StatusServiceUnavailable {
		t.Errorf("after the stop: %d", code)
	}
	if err := e.Stop(t.Context()); err != nil {
		t.Errorf("a second stop: %v", err)
	}
	if err := e.Start(t.Context()); err == nil {
		t.Error("a stopped engine starts again")
	}
}

// Profiles are served on their own port only.
func TestPprof(t *testing.T) {
	e, _ := newEngine(t, func(c *Config) { c.Pprof = "127.0.0.1:0" })
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	if code, body := get(t, "http://"+e.front.profiles.Addr().String()+"/debug/pprof/"); code != http.StatusOK || !strings.Contains(body, "goroutine") {
		t.Errorf("profiles: %d %s", code, body)
	}
	if code, _ := get(t, "http://"+e.Addr()+"/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("profiles on the API's port: %d", code)
	}
}

// Long calls do not keep an engine from stopping; they are told to come again.
func TestStopEndsLongCalls(t *testing.T) {
	e, c := newEngine(t, nil)
	session, err := c.OpenSession(t.Context(), connect.NewRequest(&heddlev1.OpenSessionRequest{Worker: "w", Slots: 1, Process: "p"}))
	if err != nil {
		t.Fatal(err)
	}
	id := c.Put(Lone("nobody", "", nil))[0]
	watch, err := c.Watch(t.Context(), connect.NewRequest(&heddlev1.WatchRequest{WorkflowId: id}))
	if err != nil {
		t.Fatal(err)
	}
	if !watch.Receive() { // it is under way
		t.Fatal(watch.Err())
	}
	ends := make(chan error, 3)
	go func() {
		for watch.Receive() {
		}
		ends <- watch.Err()
	}()
	go func() {
		_, err := c.Poll(t.Context(), connect.NewRequest(&heddlev1.PollRequest{
			Session: session.Msg.GetSession(), Poll: 1, MaxJobs: 1, Queues: []*heddlev1.QueueWeight{{Queue: "default"}}, Kinds: []string{"other"}, Wait: durationpb.New(time.Minute),
		}))
		ends <- err
	}()
	go func() {
		_, err := c.Wait(t.Context(), connect.NewRequest(&heddlev1.WaitRequest{WorkflowId: id, Timeout: durationpb.New(time.Minute)}))
		ends <- err
	}()
	begin := time.Now()
	stopEngine(t, e)
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("the stop took %s", d)
	}
	for range 3 {
		if err := <-ends; connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("a long call ended with %v, want unavailable", err)
		}
	}
}

// A submission written in a user's own transaction runs after its commit, and
// can be read at once.
func TestInbox(t *testing.T) {
	dsn := pgtest.DSN(t)
	e := startEngine(t, testConfig(t, dsn))
	c := Dial(t, e.Addr())
	c.Work(2, map[string]Handler{"k": ok})
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	put := func(commit bool) string {
		t.Helper()
		sub := Graph(Job("a", "k"), Job("b", "k", After("a")))
		body, err := proto.Marshal(sub)
		if err != nil {
			t.Fatal(err)
		}
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		id := uuid.MustParse(sub.GetId())
		if _, err := tx.Exec(t.Context(), "insert into heddle.submissions (workflow_id, part, parts, body) values ($1, 0, 1, $2)", [16]byte(id), body); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "select pg_notify('heddle_submissions', '')"); err != nil {
			t.Fatal(err)
		}
		end := tx.Rollback
		if commit {
			end = tx.Commit
		}
		if err := end(t.Context()); err != nil {
			t.Fatal(err)
		}
		return sub.GetId()
	}
	begin := time.Now()
	c.Want(put(true), "", stateSucceeded) // a read right after the commit finds it
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("it ended after %s", d)
	}
	_, err = c.Get(t.Context(), connect.NewRequest(&heddlev1.GetRequest{WorkflowId: put(false)}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a submission that was rolled back: %v", err)
	}
}

// A database belongs to the data directory that first used it; another one has
// to say that it takes it over.
func TestAdoption(t *testing.T) {
	dsn := pgtest.DSN(t)
	first := startEngine(t, testConfig(t, dsn))
	c := Dial(t, first.Addr())
	started := make(chan struct{}, 2)
	lost := c.Work(1, map[string]Handler{"k": func(ctx context.Context, _ *heddlev1.Lease) *heddlev1.AttemptReport {
		started <- struct{}{}
		<-ctx.Done()
		return nil
	}})
	id := c.Put(Lone("k", "", nil))[0]
	<-started
	lost.Die()
	old := sessions(t, c, 10)
	stopEngine(t, first)

	other := testConfig(t, dsn)
	e, err := New(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); !errors.Is(err, store.ErrForeign) || !strings.Contains(err.Error(), "Adopt") {
		t.Fatalf("a foreign database: %v", err)
	}
	other.Adopt = true
	e = startEngine(t, other)
	c = Dial(t, e.Addr())
	w := c.Work(1, map[string]Handler{"k": ok})
	c.Want(id, "", stateSucceeded) // what was running runs again
	if n := c.JobOf(id, 1).GetAttempt(); n != 1 {
		t.Errorf("attempt %d: the adoption was charged", n)
	}

	// The session of a worker that has outlived its engine is nobody's now,
	// although the new log counts from the beginning again.
	for id := range sessions(t, c, 40) {
		if old[id] {
			t.Fatalf("two workers have the session %d", id)
		}
	}
	for id := range old {
		beat, err := c.Heartbeat(t.Context(), connect.NewRequest(&heddlev1.HeartbeatRequest{Session: id, PollsClosed: 100}))
		if err != nil || !beat.Msg.GetReopen() {
			t.Fatalf("heartbeat of the old session: %v, %v", beat, err)
		}
	}
	w.Die()
	stopEngine(t, e)

	// So is the database for the directory that had it before.
	e, err = New(first.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); !errors.Is(err, ErrForeign) {
		t.Errorf("the directory that was lost came back: %v", err)
		stopEngine(t, e)
	}
	stopEngine(t, startEngine(t, other)) // which may go on with Adopt set
}

// sessions opens n of them.
func sessions(t *testing.T, c *Client, n int) map[uint64]bool {
	t.Helper()
	ids := make(map[uint64]bool)
	for range n {
		res, err := c.OpenSession(t.Context(), connect.NewRequest(&heddlev1.OpenSessionRequest{Worker: "w", Slots: 1, Process: "p"}))
		if err != nil {
			t.Fatal(err)
		}
		ids[res.Msg.GetSession()] = true
	}
	return ids
}
