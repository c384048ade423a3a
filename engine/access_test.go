package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	. "github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/pgtest"
	heddle "github.com/heddle-io/heddle/sdk"
)

// say calls a method with JSON, as curl does, and gives the answer; its code is
// that of an error.
func say(t testing.TB, base, method, body string, headers ...string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/heddle.v1."+method, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(bytes.TrimSpace(text), &answer); err != nil {
		t.Fatalf("%s: %s: %q", method, res.Status, text)
	}
	return answer
}

// mustSay calls a method that must succeed.
func mustSay(t testing.TB, base, method, body string, headers ...string) map[string]any {
	t.Helper()
	answer := say(t, base, method, body, headers...)
	if code, failed := answer["code"].(string); failed {
		t.Fatalf("%s %s: %s: %v", method, body, code, answer["message"])
	}
	return answer
}

// writeTokens makes a token for each role, named for it, and gives the header of
// each.
func writeTokens(t testing.TB) (path string, header map[Role]string) {
	t.Helper()
	header = map[Role]string{}
	var lines []string
	for _, r := range []Role{RoleViewer, RoleOperator, RoleAdmin, RoleWorker} {
		secret, line, err := NewToken("the-"+r.String(), r)
		if err != nil {
			t.Fatal(err)
		}
		header[r], lines = "Bearer "+secret, append(lines, line)
	}
	path = filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, header
}

// authors lists who did what, in order.
func authors(t testing.TB, dsn string) (all []string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT action || ' by ' || coalesce(author, 'nobody') FROM heddle.audit ORDER BY at, id`)
	if err != nil {
		t.Fatal(err)
	}
	if all, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		t.Fatal(err)
	}
	return all
}

// An engine mounted under a path of somebody's server, with that server's idea
// of who may what.
func TestMountedWithOwnRights(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for name, prefix := range map[string]string{"stripped by the mount": "", "known to the engine": "/admin/heddle"} {
		t.Run(name, func(t *testing.T) {
			dsn := pgtest.DSN(t)
			config := testConfig(t, dsn)
			config.Listen, config.Prefix = "", prefix
			config.Authorize = func(r *http.Request) (string, Role, error) {
				switch user := r.Header.Get("X-User"); user {
				case "ada":
					return user, RoleOperator, nil
				case "bob":
					return user, RoleViewer, nil
				}
				return "", 0, errors.New("log in at /login of this company")
			}
			e := startEngine(t, config)
			mux := http.NewServeMux()
			if prefix == "" {
				mux.Handle("/admin/heddle/", http.StripPrefix("/admin/heddle", e.Handler()))
			} else {
				mux.Handle("/admin/heddle/", e.Handler())
			}
			server := httptest.NewServer(mux)
			t.Cleanup(server.Close)
			base := server.URL + "/admin/heddle"

			res, err := http.DefaultClient.Do(func() *http.Request {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/workflows/x", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Accept", "text/html")
				return req
			}())
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			page, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(page), `<base href="/admin/heddle/">`) {
				t.Errorf("the page: %s, %v\n%s", res.Status, err, page)
			}
			if me := mustSay(t, base, "AccessService/WhoAmI", "{}", "X-User", "ada"); me["name"] != "ada" || me["role"] != "ROLE_OPERATOR" || me["base"] != "/admin/heddle" {
				t.Errorf("%v", me)
			}
			id := mustSay(t, base, "WorkflowService/Submit", `{"submissions": [{"job": {"kind": "k", "argsJson": "1"}}]}`, "X-User", "ada")["results"].([]any)[0].(map[string]any)["id"].(string)
			if a := say(t, base, "WorkflowService/Cancel", `{"workflowId": "`+id+`"}`, "X-User", "bob"); a["code"] != "permission_denied" {
				t.Errorf("a viewer cancels: %v", a)
			}
			if a := say(t, base, "WorkflowService/List", `{}`); a["code"] != "unauthenticated" || a["message"] != "log in at /login of this company" {
				t.Errorf("nobody looks: %v", a)
			}
			mustSay(t, base, "WorkflowService/Cancel", `{"workflowId": "`+id+`"}`, "X-User", "ada")
			if all := authors(t, dsn); !slices.Equal(all, []string{"cancel by ada"}) {
				t.Errorf("audit: %v", all)
			}
		})
	}
}

// Every command leaves its author behind.
func TestAuthors(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	path, header := writeTokens(t)
	dsn := pgtest.DSN(t)
	c := testConfig(t, dsn)
	c.Tokens = path
	e := startEngine(t, c)
	as := []string{"Authorization", header[RoleOperator]}
	base := "http://" + e.Addr()
	submit := func(body string) string {
		return mustSay(t, base, "WorkflowService/Submit", `{"submissions": [`+body+`]}`, as...)["results"].([]any)[0].(map[string]any)["id"].(string)
	}
	id := submit(`{"name": "w", "graph": {"nodes": [{"name": "a", "job": {"kind": "k"}}, {"name": "b", "job": {"kind": "k"}}]}, "root": {"open": true}}`)
	w := `{"workflowId": "` + id + `"`
	for _, call := range []struct{ method, body string }{
		{"WorkflowService/Pause", w + "}"}, {"WorkflowService/Resume", w + "}"},
		{"WorkflowService/Append", w + `, "key": "x", "graph": {"nodes": [{"name": "c", "job": {"kind": "k", "runAt": "2090-01-01T00:00:00Z"}}]}}`},
		{"JobService/RunNow", `{"id": "` + id + `/3"}`},
		{"WorkflowService/Seal", w + "}"}, {"WorkflowService/Cancel", w + "}"}, {"WorkflowService/Retry", w + "}"},
		{"QueueService/Pause", `{"queue": "q"}`}, {"QueueService/Resume", `{"queue": "q"}`},
		{"WorkflowService/Cancel", w + `, "path": "a"}`}, {"WorkflowService/Dismiss", w + `, "path": "a", "note": "by hand"}`},
	} {
		mustSay(t, base, call.method, call.body, as...)
	}
	want := []string{"pause", "resume", "append", "run now", "seal", "cancel", "retry", "pause queue", "resume queue", "cancel", "dismiss"}
	for i := range want {
		want[i] += " by the-operator"
	}
	if all := authors(t, dsn); !slices.Equal(all, want) {
		t.Errorf("audit: %v, want %v", all, want)
	}
}

// Viewers see no arguments and results where that is so configured, wherever
// they look; others do.
func TestHiddenPayloads(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	path, header := writeTokens(t)
	c := testConfig(t, pgtest.DSN(t))
	c.Tokens, c.HidePayloads = path, true
	e := startEngine(t, c)
	base := "http://" + e.Addr()
	id := mustSay(t, base, "WorkflowService/Submit", `{"submissions": [{"job": {"kind": "k", "argsJson": "\"SECRET\""}}]}`, "Authorization", header[RoleOperator])["results"].([]any)[0].(map[string]any)["id"].(string)
	mustSay(t, base, "WorkflowService/Cancel", `{"workflowId": "`+id+`"}`, "Authorization", header[RoleOperator])
	mustSay(t, base, "WorkflowService/Dismiss", `{"workflowId": "`+id+`", "node": 1, "resultJson": "\"SECRET\""}`, "Authorization", header[RoleOperator])
	looks := map[string]string{
		"JobService/Get": `{"id": "` + id + `/1"}`, "WorkflowService/Wait": `{"workflowId": "` + id + `"}`,
		"JobService/List": "{}", "WorkflowService/Nodes": `{"workflowId": "` + id + `"}`,
	}
	for method, body := range looks {
		text := func(r Role) string {
			b, err := json.Marshal(mustSay(t, base, method, body, "Authorization", header[r]))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if seen := text(RoleViewer); strings.Contains(seen, "SECRET") || strings.Contains(seen, "IlNFQ1JFVCI") {
			t.Errorf("a viewer sees in %s: %s", method, seen)
		}
		if seen := text(RoleOperator); (method == "JobService/Get" || method == "WorkflowService/Wait") && !strings.Contains(seen, "SECRET") {
			t.Errorf("an operator does not see in %s: %s", method, seen)
		}
	}
	if me := mustSay(t, base, "AccessService/WhoAmI", "{}", "Authorization", header[RoleViewer]); me["payloadsHidden"] != true || me["name"] != "the-viewer" {
		t.Errorf("%v", me)
	}
}

// In a cluster a caller has the same rights at every node, under the same name,
// whoever leads; and only nodes are believed for whom they speak.
func TestRightsInACluster(t *testing.T) {
	path, header := writeTokens(t)
	r := newRing(t, func(c *Config) { c.Tokens, c.ClusterSecret = path, "between us nodes" }, "a", "b", "c")
	r.start("a", "b", "c")
	leader := r.leader()
	var calls int
	for id := range r.engines {
		base := r.url(id)
		if a := say(t, base, "QueueService/Pause", `{"queue": "q"}`, "Authorization", header[RoleViewer]); a["code"] != "permission_denied" {
			t.Errorf("a viewer at %s (%s leads): %v", id, leader, a)
		}
		if a := say(t, base, "QueueService/Pause", `{"queue": "q"}`); a["code"] != "unauthenticated" {
			t.Errorf("nobody at %s (%s leads): %v", id, leader, a)
		}
		if a := say(t, base, "QueueService/Pause", `{"queue": "q"}`, "Heddle-Forwarded", "a", "Heddle-Caller", "admin eve"); a["code"] != "unauthenticated" {
			t.Errorf("somebody who says to be a node at %s (%s leads): %v", id, leader, a)
		}
		login := mustSay(t, base, "AccessService/Login", `{"token": "`+strings.TrimPrefix(header[RoleOperator], "Bearer ")+`"}`)
		if login["name"] != "the-operator" {
			t.Errorf("login at %s: %v", id, login)
		}
		mustSay(t, base, "QueueService/Pause", `{"queue": "q"}`, "Authorization", header[RoleOperator])
		calls++
	}
	all := authors(t, r.dsn)
	if len(all) != calls || slices.ContainsFunc(all, func(s string) bool { return s != "pause queue by the-operator" }) {
		t.Errorf("audit: %v", all)
	}
}

// A caller on a follower's own machine needs no token there, and keeps its right
// when its call is passed on.
func TestLocalCallersInACluster(t *testing.T) {
	r, leader, followers := trio(t)
	for _, id := range append(followers, leader) {
		mustSay(t, r.url(id), "QueueService/Pause", `{"queue": "q"}`)
		if a := say(t, r.url(id), "QueueService/Pause", `{"queue": "q"}`, "X-Forwarded-For", "10.0.0.9"); a["code"] != "unauthenticated" {
			t.Errorf("through a proxy at %s: %v", id, a)
		}
	}
}

// A read-only engine answers, and changes nothing.
func TestReadOnly(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	e, c := newEngine(t, func(c *Config) { c.ReadOnly = true })
	base := "http://" + e.Addr()
	if a := say(t, base, "WorkflowService/Submit", `{"submissions": [{"job": {"kind": "k"}}]}`); a["code"] != "permission_denied" || a["message"] != "this engine is read-only" {
		t.Errorf("%v", a)
	}
	mustSay(t, base, "WorkflowService/List", "{}")
	w := c.Work(1, map[string]Handler{"k": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport { return Succeed("") }})
	eventually(t, "a worker has a session", func() bool { return w.Session.Load() != 0 })
}

func TestAccessConfig(t *testing.T) {
	for says, change := range map[string]func(*Config){
		"Prefix:":    func(c *Config) { c.Prefix = "admin" },
		"Anonymous:": func(c *Config) { c.Anonymous = RoleWorker },
		"Tokens:": func(c *Config) {
			c.Tokens, c.Authorize = "x", func(*http.Request) (string, Role, error) { return "", 0, nil }
		},
		"16 bytes":       func(c *Config) { c.ClusterSecret = "short" },
		"ClusterSecret:": func(c *Config) { c.Peers, c.Tokens = []string{"127.0.0.1:1"}, "x" },
		"anybody else": func(c *Config) {
			c.Peers, c.Listen, c.AllowPlaintext = []string{"10.0.0.1:1"}, "10.0.0.2:1", true
		},
		"Demo:": func(c *Config) { c.Demo = []byte("{") },
	} {
		c := DefaultConfig()
		c.Postgres, c.DataDir, c.Listen = "postgres://127.0.0.1/db", "x", "127.0.0.1:0"
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not said: %v", says, err)
		}
	}
	c := testConfig(t, "postgres://127.0.0.1/db")
	c.Tokens = filepath.Join(t.TempDir(), "none")
	if _, err := New(c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no token file: %v", err)
	}
}

// A worker's token is enough for all that its handlers do.
func TestWorkerWithAToken(t *testing.T) {
	path, header := writeTokens(t)
	c := testConfig(t, pgtest.DSN(t))
	c.Tokens = path
	e := startEngine(t, c)
	client := func(r Role) *heddle.Client {
		t.Helper()
		c, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{"http://" + e.Addr()}, Token: strings.TrimPrefix(header[r], "Bearer "), Logger: e.log})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	first, second := heddle.NewKind[heddle.None, int]("first"), heddle.NewKind[heddle.None, int]("second")
	w := heddle.NewWorker(client(RoleWorker), heddle.WorkerConfig{Slots: 2})
	first.Handle(w, func(context.Context, heddle.None) (int, error) { return 20, nil })
	second.Handle(w, func(ctx context.Context, _ heddle.None) (int, error) {
		n, err := first.Result(ctx, "one")
		if err != nil {
			return 0, err
		}
		return n + 1, heddle.AddNow(ctx, "more", func(g *heddle.Group) { g.Add(first.Job(heddle.None{})) })
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	wf := heddle.NewWorkflow("w")
	one := wf.Add(first.Job(heddle.None{}, heddle.JobOptions{Name: "one"}))
	wf.Add(second.Job(heddle.None{}, heddle.JobOptions{Name: "two", Retry: &heddle.Retry{Attempts: 1}})).After(one)
	if _, err := client(RoleWorker).Submit(ctx, wf); !errors.Is(err, heddle.ErrDenied) {
		t.Errorf("a worker submits: %v", err)
	}
	run, err := client(RoleOperator).Submit(ctx, wf)
	if err != nil {
		t.Fatal(err)
	}
	if outcome, err := run.Wait(ctx); err != nil || outcome != heddle.Succeeded {
		t.Errorf("%v, %v", outcome, err)
	}
	if n, err := second.ResultOf(ctx, run, "two"); err != nil || n != 21 {
		t.Errorf("%d, %v", n, err)
	}
}
