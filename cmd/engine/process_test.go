package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/pgtest"
)

const succeeded = heddlev1.State_STATE_SUCCEEDED

// The engine is killed (-9) under load, twice, and started again: nothing that
// was acknowledged is lost, and no acknowledged completion runs again.
func TestKilledUnderLoad(t *testing.T) {
	dir, dsn := t.TempDir(), pgtest.DSN(t)
	start := func(addr string) *server {
		return launch(t, "serve", "--postgres", dsn, "--data-dir", dir, "--listen", addr)
	}
	s := start("127.0.0.1:0")
	c := Dial(t, s.addr)

	const jobs = 2000
	var acked sync.Map
	var again atomic.Int32
	begun := make(chan struct{}, 2*jobs)
	w := c.NewWorker(40, map[string]Handler{"k": func(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
		if _, done := acked.Load(string(l.GetWorkflowId())); done {
			again.Add(1)
		}
		begun <- struct{}{}
		return Succeed("")
	}})
	w.OnAck = func(l *heddlev1.Lease) { acked.Store(string(l.GetWorkflowId()), true) }
	w.Start()
	t.Cleanup(w.Die)
	var ids []string
	for range jobs / 500 {
		var subs []*heddlev1.Submission
		for range 500 {
			subs = append(subs, Lone("k", "", nil))
		}
		ids = append(ids, c.Put(subs...)...)
	}
	for range 2 {
		stuck := time.After(startLimit)
		for n := range jobs / 4 {
			select {
			case <-begun:
			case <-stuck:
				s.kill()
				t.Fatalf("only %d jobs began:\n%s", n, s.log.String())
			}
		}
		addr := s.addr
		s.kill()
		s = start(addr)
	}
	for _, id := range ids {
		c.WantThrough(id, succeeded)
	}
	if n := again.Load(); n != 0 {
		t.Errorf("%d acknowledged jobs ran again (I9)", n)
	}
	for _, id := range ids {
		if job := c.JobOf(id, 1); job.GetAttempt() != 1 {
			t.Errorf("job %s was charged %d attempts; a killed engine costs none (I7)", id, job.GetAttempt())
		}
	}
	s.interrupt()
}

// `engine dev` keeps its data from one start to the next, also after a crash
// that leaves its database running.
func TestDevFindsItsDataAgain(t *testing.T) {
	dir, err := os.MkdirTemp("", "heddle-dev-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // as root, Postgres runs as another user
		t.Fatal(err)
	}
	start := func() (*server, *Client) {
		s := launch(t, "dev", "--data-dir", dir, "--listen", "127.0.0.1:0")
		return s, Dial(t, s.addr)
	}
	s, c := start()
	id := c.Put(Lone("k", `"kept"`, nil))[0]
	s.interrupt()

	s, c = start()
	if job := c.JobOf(id, 1); string(job.GetArgs()) != `"kept"` {
		t.Errorf("the job came back with args %q", job.GetArgs())
	}
	s.kill() // the database is left behind

	s, c = start()
	w := c.Work(1, map[string]Handler{"k": func(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
		return Succeed(string(l.GetArgs()))
	}})
	if res := c.Want(id, "", succeeded); string(res.GetResult()) != `"kept"` {
		t.Errorf("result %q", res.GetResult())
	}
	w.Die()
	s.interrupt()
}

// `engine dev --ephemeral` shows the page, offers a demo that it runs, and leaves
// nothing behind.
func TestDevEphemeral(t *testing.T) {
	tmp, err := os.MkdirTemp("", "heddle-dev-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	s := launch(t, "dev", "--ephemeral", "--listen", "127.0.0.1:0")
	c := Dial(t, s.addr)
	c.Work(1, map[string]Handler{"k": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport { return Succeed("") }})
	c.Want(c.Put(Lone("k", "", nil))[0], "", succeeded)
	if kind, page := fetch(t, http.MethodGet, "http://"+s.addr+"/workflows", "", "text/html"); !strings.HasPrefix(kind, "text/html") || !strings.Contains(page, `<base href="/">`) {
		t.Errorf("the page: %s\n%s", kind, page)
	}
	_, demo := fetch(t, http.MethodGet, "http://"+s.addr+"/demo.json", "", "application/json")
	_, taken := fetch(t, http.MethodPost, "http://"+s.addr+"/heddle.v1.WorkflowService/Submit", demo, "application/json")
	var submitted struct{ Results []struct{ ID string } }
	if err := json.Unmarshal([]byte(taken), &submitted); err != nil || len(submitted.Results) != 1 {
		t.Fatalf("the demo: %v: %s", err, taken)
	}
	c.Want(submitted.Results[0].ID, "images", succeeded)
	s.interrupt()
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		t.Errorf("%s is left behind", f.Name())
	}
}

// fetch sends a request, and gives the answer's content type and body.
func fetch(t *testing.T, method, url, body, accept string) (kind, text string) {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v: %s", method, url, res.Status, err, b)
	}
	return res.Header.Get("Content-Type"), string(b)
}
