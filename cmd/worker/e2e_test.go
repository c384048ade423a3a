package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddle-io/heddle/engine"
	"github.com/heddle-io/heddle/internal/pgtest"
)

// curl speaks to an engine as people without Go do: JSON over plain HTTP.
type curl struct {
	t   *testing.T
	url string
}

// startEngine runs an engine on a database of its own until the test ends.
func startEngine(t *testing.T) curl {
	t.Helper()
	cfg := engine.DefaultConfig()
	cfg.Postgres, cfg.DataDir, cfg.Listen = pgtest.DSN(t), t.TempDir(), "127.0.0.1:0"
	cfg.Logger = slog.New(slog.DiscardHandler)
	e, err := engine.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return curl{t, "http://" + e.Addr()}
}

// call posts a request, of text with %s for the arguments, and reads the answer.
func (c curl) call(into any, method, request string, args ...any) {
	c.t.Helper()
	res, err := http.Post(c.url+"/heddle.v1."+method, "application/json", strings.NewReader(fmt.Sprintf(request, args...)))
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		c.t.Fatalf("%s answered %s: %s", method, res.Status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		c.t.Fatalf("%s: %v in %s", method, err, body)
	}
}

// submit gives the id of what the work, "job" or "graph", became.
func (c curl) submit(work string) string {
	c.t.Helper()
	var out struct {
		Results []struct{ ID, Code, Message string }
	}
	c.call(&out, "WorkflowService/Submit", `{"submissions": [%s]}`, work)
	if r := out.Results[0]; r.Code != "" {
		c.t.Fatalf("submit: %s: %s", r.Code, r.Message)
	}
	return out.Results[0].ID
}

// wait gives the state in which a workflow ended.
func (c curl) wait(id string) string {
	c.t.Helper()
	var out struct {
		Ended bool
		State string
	}
	c.call(&out, "WorkflowService/Wait", `{"workflowId": %q, "timeout": "60s"}`, id)
	if !out.Ended {
		c.t.Fatalf("%s has not ended within a minute: %s", id, out.State)
	}
	return out.State
}

type jobView struct {
	Node        int
	Name, State string
	Attempt     int
	Error       string
	Result      string // base64
	StartedAt   time.Time
	Attempts    []struct{ FinishedAt time.Time }
}

// result decodes the result of a job.
func (j jobView) result(t *testing.T, into any) {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(j.Result)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("result of %s: %v in %q", j.Name, err, raw)
	}
}

// job reads one job with its attempts and its result.
func (c curl) job(id string, node int) jobView {
	c.t.Helper()
	var out struct{ Job jobView }
	c.call(&out, "JobService/Get", `{"id": "%s/%d"}`, id, node)
	return out.Job
}

// jobs reads the jobs of a workflow by name.
func (c curl) jobs(id string) map[string]jobView {
	c.t.Helper()
	var out struct{ Jobs []jobView }
	c.call(&out, "WorkflowService/Nodes", `{"workflowId": %q}`, id)
	all := make(map[string]jobView)
	for _, j := range out.Jobs {
		all[j.Name] = c.job(id, j.Node)
	}
	return all
}

// running is a worker that runs in this process.
type running struct {
	t    *testing.T
	stop context.CancelFunc
	done chan error
	log  *lines
}

// lines is a log that is read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func startWorker(t *testing.T, c curl, args ...string) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := &running{t: t, stop: stop, done: make(chan error, 1), log: &lines{}}
	go func() {
		w.done <- run(ctx, append([]string{"--engine", c.url, "--slots", "4"}, args...), none, io.Discard, w.log)
	}()
	t.Cleanup(stop)
	return w
}

// end stops the worker as a signal does; it must end cleanly.
func (w *running) end() {
	w.t.Helper()
	w.stop()
	if err := <-w.done; err != nil {
		w.t.Errorf("the worker ended: %v", err)
	}
	if !strings.Contains(w.log.String(), `msg="worker stopped"`) || strings.Contains(w.log.String(), "level=ERROR") {
		w.t.Errorf("log of the worker:\n%s", w.log)
	}
}

// Graphs of all three kinds, written by hand in JSON, run to their ends.
func TestGraphsByHand(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[string][]string)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen[r.URL.Path] = append(seen[r.URL.Path], r.Method+" "+string(body))
		times := len(seen[r.URL.Path])
		mu.Unlock()
		switch {
		case r.URL.Path == "/busy" && times == 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/missing":
			http.Error(w, "no such order", http.StatusNotFound)
		default:
			fmt.Fprint(w, "taken")
		}
	}))
	defer site.Close()
	box, mail := serveMail(t)
	c := startEngine(t)
	w := startWorker(t, c, "--smtp-addr", mail.addr, "--smtp-security", "none", "--smtp-from", "shop@example.com",
		"--allow-exec", "cat=/bin/cat", "--stop-wait", "5s")

	id := c.submit(strings.NewReplacer("SITE", site.URL).Replace(`{"name": "orders", "graph": {"nodes": [
		{"name": "calls", "batch": {"toleranceCount": 1}},
		{"name": "busy", "in": "calls", "job": {"kind": "http", "argsJson": "{\"url\": \"SITE/busy\", \"json\": {\"n\": 1}}"}},
		{"name": "missing", "in": "calls", "job": {"kind": "http", "argsJson": "{\"url\": \"SITE/missing\"}"}},
		{"name": "mail", "after": [{"path": "calls"}], "job": {"kind": "smtp",
			"argsJson": "{\"to\": [\"zoe@example.org\"], \"subject\": \"done\", \"text\": \"all called\"}"}},
		{"name": "note", "after": [{"path": "mail"}], "job": {"kind": "exec", "argsJson": "{\"program\": \"cat\", \"stdin\": \"noted\"}"}},
		{"name": "remove", "after": [{"path": "calls"}], "job": {"kind": "exec", "argsJson": "{\"program\": \"rm\", \"args\": [\"-r\", \"/\"]}"}},
		{"name": "flaky", "after": [{"path": "calls"}], "job": {"kind": "exec", "argsJson": "{\"program\": \"cat\", \"args\": [\"/no/such\"]}",
			"options": {"retry": {"attempts": 2, "backoff": "BACKOFF_FIXED", "initial": "0.01s"}}}},
		{"name": "alarm", "after": [{"path": "remove", "on": ["OUTCOME_FAILED"]}], "job": {"kind": "http", "argsJson": "{\"url\": \"SITE/alarm\"}"}},
		{"name": "never", "after": [{"path": "remove"}], "job": {"kind": "http", "argsJson": "{\"url\": \"SITE/never\"}"}}
	]}}`))
	if state := c.wait(id); state != "STATE_FAILED" {
		t.Errorf("the workflow ended %s", state)
	}
	jobs := c.jobs(id)
	for name, want := range map[string]struct {
		state   string
		attempt int
		says    string
	}{
		"busy":    {"STATE_SUCCEEDED", 2, ""},
		"missing": {"STATE_FAILED", 1, "answered 404 Not Found: no such order"},
		"mail":    {"STATE_SUCCEEDED", 1, ""},
		"note":    {"STATE_SUCCEEDED", 1, ""},
		"remove":  {"STATE_FAILED", 1, `program: "rm" is not allowed here, only cat`},
		"flaky":   {"STATE_FAILED", 2, "/no/such"},
		"alarm":   {"STATE_SUCCEEDED", 1, ""},
		"never":   {"STATE_SKIPPED", 0, ""},
	} {
		j := jobs[name]
		if j.State != want.state || j.Attempt != want.attempt || !strings.Contains(j.Error, want.says) {
			t.Errorf("%s: %s in attempt %d, error %q; want %+v", name, j.State, j.Attempt, j.Error, want)
		}
	}
	var called response
	jobs["busy"].result(t, &called)
	if called.Status != 200 || called.Body != "taken" {
		t.Errorf("result of the call: %+v", called)
	}
	if tries := jobs["busy"].Attempts; len(tries) != 1 || jobs["busy"].StartedAt.Sub(tries[0].FinishedAt) < time.Second {
		t.Errorf("the server asked to wait a second: %+v", jobs["busy"])
	}
	var noted output
	if jobs["note"].result(t, &noted); noted.Stdout != "noted" {
		t.Errorf("output of the program: %+v", noted)
	}
	var mailed sent
	if jobs["mail"].result(t, &mailed); mailed.Recipients != 1 || len(box.mails) != 1 || !strings.Contains(box.mails[0], mailed.MessageID) || !strings.Contains(mailed.MessageID, id) {
		t.Errorf("%+v; mails: %q", mailed, box.mails)
	}
	mu.Lock()
	if got := fmt.Sprint(seen["/busy"], len(seen["/missing"]), len(seen["/alarm"]), len(seen["/never"])); got != `[POST {"n": 1} POST {"n": 1}] 1 1 0` {
		t.Errorf("the site saw %s", got)
	}
	mu.Unlock()

	typo := c.submit(`{"job": {"kind": "http", "argsJson": "{\"url\": \"http://127.0.0.1\", \"bodi\": \"x\"}"}}`)
	if state := c.wait(typo); state != "STATE_FAILED" {
		t.Errorf("a misspelt argument: %s", state)
	}
	if j := c.job(typo, 1); j.Attempt != 1 || !strings.Contains(j.Error, `unknown field "bodi"`) {
		t.Errorf("a misspelt argument: attempt %d, %s", j.Attempt, j.Error)
	}
	w.end()
}

// A worker that is stopped gives its jobs back, uncounted; another one runs
// them.
func TestStopGivesJobsBack(t *testing.T) {
	c := startEngine(t)
	dir := t.TempDir()
	started, second := filepath.Join(dir, "started"), filepath.Join(dir, "second")
	script := fmt.Sprintf("test -e %[1]s || { echo > %[2]s; sleep 60; }; echo through", second, started)
	args, err := json.Marshal(map[string]any{"program": "sh", "args": []string{"-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	id := c.submit(fmt.Sprintf(`{"job": {"kind": "exec", "argsJson": %q}}`, args))
	w := startWorker(t, c, "--allow-exec", "sh=/bin/sh", "--stop-wait", "0")
	appears(t, started)
	w.end()
	if err := os.WriteFile(second, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w = startWorker(t, c, "--allow-exec", "sh=/bin/sh")
	if state := c.wait(id); state != "STATE_SUCCEEDED" {
		t.Errorf("the job ended %s", state)
	}
	var out output
	j := c.job(id, 1)
	if j.result(t, &out); out.Stdout != "through\n" || j.Attempt != 1 {
		t.Errorf("attempt %d, %+v", j.Attempt, out)
	}
	w.end()
}

// appears waits for a file that another process makes.
func appears(t *testing.T, path string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s has not appeared", path)
		}
	}
}
