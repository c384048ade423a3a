package pagetest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/heddle-io/heddle/engine"
	heddle "github.com/heddle-io/heddle/sdk"
)

// Who comes without a token is asked for one. A viewer sees, and is offered
// nothing that changes; an operator steers.
func TestLogin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	var lines []byte
	secrets := map[engine.Role]string{}
	for _, role := range []engine.Role{engine.RoleViewer, engine.RoleOperator, engine.RoleWorker} {
		secret, line, err := engine.NewToken("the "+role.String(), role)
		if err != nil {
			secret, line, err = engine.NewToken(role.String()+"-1", role)
		}
		if err != nil {
			t.Fatal(err)
		}
		lines, secrets[role] = append(append(lines, line...), '\n'), secret
	}
	if err := os.WriteFile(file, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(c *engine.Config) { c.Tokens, c.HidePayloads = file, true })
	var err error
	if s.client, err = heddle.NewClient(heddle.ClientConfig{Addrs: []string{s.url}, Token: secrets[engine.RoleOperator]}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	s.crew("mailer", 4).ways(failOne)
	r := s.submit(campaign(5, 0))
	s.ended(r, heddle.Failed)

	p := open(t, s.url, "/workflows/"+r.ID(), wide)
	p.sees("token")
	p.picture("login")
	p.accessible()
	p.logsIn("not a token")
	p.sees("The token is not known here")
	p.visit("/workflows/" + r.ID())
	p.logsIn(secrets[engine.RoleViewer])
	p.sees("spring campaign", "viewer")
	if p.offers("Retry failed") {
		t.Error("a viewer is offered a retry")
	}
	if cookies := ask[string](p, `document.cookie`); cookies != "" {
		t.Errorf("a script can read the cookie %q", cookies)
	}
	p.visit("/login")
	p.logsIn(secrets[engine.RoleOperator])
	p.sees("operator")
	p.visit("/workflows/" + r.ID())
	p.sees("spring campaign")
	p.until(found + `("Retry failed").length > 0`)
}

// logsIn shows a token once the page asks for it.
func (p *page) logsIn(token string) {
	p.t.Helper()
	p.until(`document.activeElement?.type === "password"`)
	p.types(token + enter)
}

// An engine that is mounted below a prefix of someone's own server shows its
// page there, for those whom that server lets in.
func TestMounted(t *testing.T) {
	s := newSite(t, func(c *engine.Config) {
		c.Prefix = "/ops/heddle"
		c.Authorize = func(*http.Request) (string, engine.Role, error) { return "ada", engine.RoleOperator, nil }
	})
	mux := http.NewServeMux()
	mux.Handle("/ops/heddle/", s.engine.Handler())
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not yours", http.StatusTeapot) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	p := open(t, server.URL, "/ops/heddle/", wide)
	p.sees("Overview", "ada")
	p.click("Queues")
	p.until(`location.pathname === "/ops/heddle/queues"`)
	p.sees("No queues yet")
	p.visit("/ops/heddle/jobs?state=failed")
	p.sees("No job matches")
}

// Ten tabs at once over HTTP/1.1, of which a browser opens six connections to a
// host: all are live, and all still answer.
func TestTenTabs(t *testing.T) {
	s := newSite(t)
	c := s.crew("mailer", 8)
	release := c.hold()
	r := s.submit(campaign(40, 0))
	var tabs []*page
	for range 10 {
		tabs = append(tabs, open(t, s.url, "/workflows/"+r.ID(), wide))
	}
	for _, p := range tabs {
		p.sees("0 of 45 jobs")
	}
	release()
	s.ended(r, heddle.Succeeded)
	for _, p := range tabs {
		p.sees("45 of 45 jobs")
		p.click("Queues")
		p.sees("billing")
	}
}

// When the engine goes away the page says so and keeps what it had; when it is
// back, the page goes on by itself.
func TestReconnect(t *testing.T) {
	s := newSite(t)
	s.crew("mailer", 8)
	s.ended(s.submit(campaign(5, 0)), heddle.Succeeded)
	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	// It names nobody it speaks for: the engine takes it for a caller on loopback.
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	t.Cleanup(front.CloseClientConnections)
	p := open(t, front.URL, "/", wide)
	p.sees("Live", "Longest waits")
	away.Store(true)
	front.CloseClientConnections()
	p.sees("Reconnecting", "Longest waits")
	p.picture("reconnecting")
	away.Store(false)
	p.sees("Live")
	p.misses("Reconnecting")
}
