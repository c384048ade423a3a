package access

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/internal/signpost"
)

func TestRoles(t *testing.T) {
	all := []Role{Nobody, Viewer, Operator, Admin, Worker}
	includes := map[Role][]Role{
		Nobody: {Nobody}, Viewer: {Nobody, Viewer}, Operator: {Nobody, Viewer, Operator, Worker},
		Admin: {Nobody, Viewer, Operator, Admin, Worker}, Worker: {Nobody, Worker},
	}
	for _, r := range all {
		for _, other := range all {
			want := false
			for _, i := range includes[r] {
				want = want || i == other
			}
			if r.Includes(other) != want {
				t.Errorf("%s includes %s: %t", r, other, !want)
			}
		}
		if parsed, err := ParseRole(r.String()); r != Nobody && (err != nil || parsed != r) || r == Nobody && err == nil {
			t.Errorf("%s is read as %s, %v", r, parsed, err)
		}
	}
}

// tokenFile writes a token file with a token of each role, and gives them by
// role.
func tokenFile(t *testing.T) (path string, secrets map[Role]string) {
	t.Helper()
	secrets = map[Role]string{}
	lines := "# the tokens of a test\n\n"
	for _, r := range []Role{Viewer, Operator, Admin, Worker} {
		secret, line, err := NewToken("the-"+r.String(), r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, secret) {
			t.Fatalf("the line betrays the token: %s", line)
		}
		secrets[r] = secret
		lines += line + " # of a test\n"
	}
	path = filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, secrets
}

func tokensOf(t *testing.T, path string) *Tokens {
	t.Helper()
	tokens, err := OpenTokens(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestTokens(t *testing.T) {
	path, secrets := tokenFile(t)
	tokens := tokensOf(t, path)
	for role, secret := range secrets {
		if c, ok := tokens.find(secret); !ok || c.Role != role || c.Name != "the-"+role.String() {
			t.Errorf("%s: %+v, %t", role, c, ok)
		}
	}
	for _, wrong := range []string{"", "heddle_", secrets[Admin] + "x", secrets[Admin][1:]} {
		if c, ok := tokens.find(wrong); ok {
			t.Errorf("%q is %+v", wrong, c)
		}
	}
}

func TestTokenFileFaults(t *testing.T) {
	good := "a viewer sha256:" + strings.Repeat("ab", 32)
	for text, says := range map[string]string{
		"a viewer":         "line 1: must be",
		good + "\n" + good: `line 2: the name "a"`,
		"a boss sha256:" + strings.Repeat("ab", 32):   `"boss"`,
		"a viewer heddle_plain":                       "engine token",
		"a viewer sha256:" + strings.Repeat("x", 64):  "engine token",
		"a viewer sha256:abcd":                        "engine token",
		good + "ab":                                   "engine token",
		"ä viewer sha256:" + strings.Repeat("ab", 32): "ASCII",
	} {
		path := filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenTokens(path, nil)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "heddle_plain") {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
	if _, err := OpenTokens(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, name := range []string{"", "a b", "#", strings.Repeat("x", 101)} {
		if _, _, err := NewToken(name, Viewer); err == nil {
			t.Errorf("a token of the name %q", name)
		}
	}
}

// A token file is read again when it changes; a broken one leaves the old tokens
// in force, and one that takes a line away ends that token.
func TestTokensReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, secrets := tokenFile(t)
		tokens := tokensOf(t, path)
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		known := func(secret string) bool { _, ok := tokens.find(secret); return ok }
		write("broken")
		if time.Sleep(2 * reloadEvery); !known(secrets[Admin]) {
			t.Error("a broken file takes the tokens away")
		}
		secret, line, err := NewToken("new", Viewer)
		if err != nil {
			t.Fatal(err)
		}
		write(line)
		if time.Sleep(2 * reloadEvery); !known(secret) || known(secrets[Admin]) {
			t.Errorf("new %t, old %t", known(secret), known(secrets[Admin]))
		}
	})
}

// request is a POST as it comes from 127.0.0.1, changed.
func request(change ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/heddle.v1.QueueService/Pause", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:4000", "127.0.0.1:7400"
	for _, c := range change {
		c(r)
	}
	return r
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func from(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

func withCookie(c *http.Cookie) func(*http.Request) { return func(r *http.Request) { r.AddCookie(c) } }

func TestIdentify(t *testing.T) {
	path, secrets := tokenFile(t)
	bearer := func(r Role) func(*http.Request) { return header("Authorization", "Bearer "+secrets[r]) }
	none, open := NewGate(Config{}), NewGate(Config{Anonymous: Viewer})
	tokens := NewGate(Config{Tokens: tokensOf(t, path)})
	mixed := NewGate(Config{Tokens: tokensOf(t, path), Anonymous: Viewer})
	secret := NewGate(Config{Tokens: tokensOf(t, path), Secret: "between us nodes"})
	certs := NewGate(Config{PeerCert: func(r *http.Request, node string) bool { return r.TLS != nil && (node == "" || node == "n2") }})
	own := NewGate(Config{Secret: "between us nodes", Authorize: func(r *http.Request) (string, Role, error) {
		if u := r.Header.Get("X-User"); u != "" {
			return u, Operator, nil
		}
		return "", Nobody, errors.New("who are you?")
	}})
	_, session, err := tokens.Login(secrets[Operator], "", false)
	if err != nil {
		t.Fatal(err)
	}
	overTLS := func(r *http.Request) { r.TLS = &tls.ConnectionState{} }
	away := from("10.0.0.7:4000")
	for _, c := range []struct {
		name string
		gate *Gate
		req  *http.Request
		want Caller
		err  bool
	}{
		{"this machine", none, request(), Caller{Anonymous, Admin, true}, false},
		{"this machine by its name", none, request(host("localhost:7400")), Caller{Anonymous, Admin, true}, false},
		{"this machine, IPv6", none, request(from("[::1]:4000"), host("[::1]:7400")), Caller{Anonymous, Admin, true}, false},
		{"this machine, IPv4 in IPv6", none, request(from("[::ffff:127.0.0.1]:4000")), Caller{Anonymous, Admin, true}, false},
		{"a token where there are none", none, request(bearer(Viewer)), Caller{Anonymous, Admin, true}, false},
		{"another machine", none, request(away), Caller{Anonymous, Nobody, false}, true},
		{"another machine that calls us by loopback", none, request(away, host("localhost")), Caller{Anonymous, Nobody, false}, true},
		{"a name that was made to point here", none, request(host("evil.example:7400")), Caller{Anonymous, Nobody, false}, true},
		{"a name that begins like loopback", none, request(host("127.0.0.1.evil.example")), Caller{Anonymous, Nobody, false}, true},
		{"no host", none, request(host("")), Caller{Anonymous, Nobody, false}, true},
		{"a proxy here", none, request(header("X-Forwarded-For", "1.2.3.4")), Caller{Anonymous, Nobody, false}, true},
		{"another proxy here", none, request(header("Forwarded", "for=1.2.3.4")), Caller{Anonymous, Nobody, false}, true},
		{"somebody who says a node sent it", none, request(away, header(signpost.Forwarded, "n2"), header(callerHeader, "admin eve")), Caller{Anonymous, Nobody, false}, true},
		{"a proxy that passes on who says so", none, request(header("X-Forwarded-For", "1.2.3.4"), header(signpost.Forwarded, "n2"), header(callerHeader, "admin eve")), Caller{Anonymous, Nobody, false}, true},
		{"a node on this machine", none, request(header(signpost.Forwarded, "n2"), header(callerHeader, "viewer ada")), Caller{"ada", Viewer, true}, false},
		{"open to viewers", open, request(away), Caller{Anonymous, Viewer, false}, false},
		{"open to viewers, this machine", open, request(), Caller{Anonymous, Admin, true}, false},

		{"no token", tokens, request(), Caller{Anonymous, Nobody, false}, false},
		{"a wrong token", tokens, request(header("Authorization", "Bearer nonsense")), Caller{Anonymous, Nobody, false}, true},
		{"another scheme", tokens, request(header("Authorization", "Basic "+secrets[Admin])), Caller{Anonymous, Nobody, false}, false},
		{"a viewer's token", tokens, request(away, bearer(Viewer)), Caller{"the-viewer", Viewer, false}, false},
		{"a worker's token", tokens, request(away, bearer(Worker)), Caller{"the-worker", Worker, false}, false},
		{"small letters", tokens, request(away, header("Authorization", "bearer "+secrets[Admin])), Caller{"the-admin", Admin, false}, false},
		{"a cookie", tokens, request(away, withCookie(session)), Caller{"the-operator", Operator, false}, false},
		{"a broken cookie", tokens, request(withCookie(&http.Cookie{Name: cookieName, Value: "?"})), Caller{Anonymous, Nobody, false}, false},
		{"an old cookie", mixed, request(withCookie(&http.Cookie{Name: cookieName, Value: "b2xk"})), Caller{Anonymous, Viewer, false}, false},
		{"a wrong token where all may look", mixed, request(header("Authorization", "Bearer nonsense")), Caller{Anonymous, Nobody, false}, true},
		{"somebody with tokens who says a node sent it", tokens, request(header(signpost.Forwarded, "n2"), header(callerHeader, "admin eve"), bearer(Viewer)), Caller{"the-viewer", Viewer, false}, false},

		{"a node by the secret", secret, request(away, header(SecretHeader, "between us nodes")), Caller{"cluster", Admin, true}, false},
		{"a node by the secret for a viewer", secret, request(away, header(SecretHeader, "between us nodes"), header(signpost.Forwarded, "n2"), header(callerHeader, "viewer ada+lovelace")), Caller{"ada lovelace", Viewer, true}, false},
		{"a node by the secret for nobody", secret, request(away, header(SecretHeader, "between us nodes"), header(signpost.Forwarded, "n2"), header(callerHeader, "nobody anonymous")), Caller{Anonymous, Nobody, true}, false},
		{"a node of before, with the caller's token", secret, request(away, header(SecretHeader, "between us nodes"), header(signpost.Forwarded, "n2"), bearer(Operator)), Caller{"the-operator", Operator, true}, false},
		{"a wrong secret", secret, request(away, header(SecretHeader, "between us node"), header(signpost.Forwarded, "n2"), header(callerHeader, "admin eve")), Caller{Anonymous, Nobody, false}, false},
		{"an empty secret", tokens, request(away, header(SecretHeader, "")), Caller{Anonymous, Nobody, false}, false},
		{"a certificate", certs, request(away, overTLS, header(signpost.Forwarded, "n2"), header(callerHeader, "operator ada")), Caller{"ada", Operator, true}, false},
		{"another node's certificate", certs, request(away, overTLS, header(signpost.Forwarded, "n3"), header(callerHeader, "operator ada")), Caller{Anonymous, Nobody, false}, true},
		{"a certificate is no admin", certs, request(away, overTLS), Caller{Anonymous, Nobody, true}, true},
		{"no certificate", certs, request(header(signpost.Forwarded, "n2"), header(callerHeader, "viewer ada")), Caller{Anonymous, Admin, false}, false},

		{"own rights", own, request(away, header("X-User", "ada")), Caller{"ada", Operator, false}, false},
		{"own rights refuse", own, request(), Caller{Anonymous, Nobody, false}, true},
		{"own rights behind a node", own, request(away, header(SecretHeader, "between us nodes"), header(signpost.Forwarded, "n2"), header(callerHeader, "viewer bob")), Caller{"bob", Viewer, true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.gate.identify(c.req)
			if got != c.want || (err != nil) != c.err {
				t.Errorf("%+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

// What a node passes on, the next one understands, and nothing of what the
// outside said about itself goes along.
func TestVouch(t *testing.T) {
	for name, cfg := range map[string]Config{"secret": {Secret: "between us nodes"}, "nothing": {}} {
		t.Run(name, func(t *testing.T) {
			g := NewGate(cfg)
			out := request(header("Origin", "http://127.0.0.1:7400"), header("Sec-Fetch-Site", "same-origin"), header(callerHeader, "admin eve"),
				header(SecretHeader, "guessed"), header("X-Forwarded-For", "127.0.0.1"), header("Cookie", "a=b"))
			g.Vouch(With(context.Background(), Caller{Name: "ada / lovelace", Role: Operator}), out.Header)
			out.Header.Set(signpost.Forwarded, "n1")
			if got, err := g.identify(out); err != nil || got != (Caller{"ada / lovelace", Operator, true}) {
				t.Errorf("%+v, %v", got, err)
			}
			for _, gone := range []string{"Origin", "Sec-Fetch-Site"} {
				if out.Header.Get(gone) != "" {
					t.Errorf("%s goes along", gone)
				}
			}
			if out.Header.Get("Cookie") == "" {
				t.Error("the cookie does not go along")
			}
			g.Vouch(context.Background(), out.Header)
			if got, _ := g.identify(out); got.Role != Nobody {
				t.Errorf("vouched for nobody: %+v", got)
			}
		})
	}
}

// What a page of another origin makes a browser send is refused, in whatever
// dress it comes.
func TestForeignPages(t *testing.T) {
	reached := false
	h := NewGate(Config{}).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	for name, c := range map[string]struct {
		req  *http.Request
		pass bool
	}{
		"a program":                          {request(), true},
		"our page":                           {request(header("Sec-Fetch-Site", "same-origin"), header("Origin", "http://127.0.0.1:7400")), true},
		"our page, an older browser":         {request(header("Origin", "http://127.0.0.1:7400")), true},
		"another page":                       {request(header("Sec-Fetch-Site", "cross-site"), header("Origin", "http://evil.example")), false},
		"another page, an older browser":     {request(header("Origin", "http://evil.example")), false},
		"a page on another port":             {request(header("Sec-Fetch-Site", "same-site"), header("Origin", "http://127.0.0.1:9")), false},
		"a form that sends text":             {request(header("Origin", "null"), header("Content-Type", "text/plain")), false},
		"a page of a neighbour domain":       {request(header("Sec-Fetch-Site", "same-site")), false},
		"another page that looks":            {httptest.NewRequest(http.MethodGet, "/", nil), true},
		"the origin of a name made to point": {request(host("evil.example"), header("Origin", "http://127.0.0.1:7400")), false},
	} {
		reached = false
		w := httptest.NewRecorder()
		h.ServeHTTP(w, c.req)
		if reached != c.pass || !c.pass && w.Code != http.StatusForbidden {
			t.Errorf("%s: reached %t, status %d", name, reached, w.Code)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: the browser may guess the content type", name)
		}
	}
}

func TestLoginCookie(t *testing.T) {
	path, secrets := tokenFile(t)
	g := NewGate(Config{Tokens: tokensOf(t, path)})
	c, cookie, err := g.Login(secrets[Viewer], "/admin/heddle", true)
	if err != nil || c.Role != Viewer {
		t.Fatalf("%+v, %v", c, err)
	}
	if !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/admin/heddle/" || cookie.MaxAge != 0 {
		t.Errorf("%s", cookie)
	}
	if out := g.Logout("", false); out.MaxAge >= 0 || out.Secure || out.Path != "/" || out.Name != cookie.Name {
		t.Errorf("%s", out)
	}
	if _, _, err := g.Login("nonsense", "", false); err == nil {
		t.Error("a wrong token logs in")
	}
	if _, _, err := NewGate(Config{}).Login(secrets[Viewer], "", false); err == nil || NewGate(Config{}).CanLogin() {
		t.Error("a login without tokens")
	}
}

// Plain handlers behind the gate.
func TestRequire(t *testing.T) {
	path, secrets := tokenFile(t)
	h := NewGate(Config{Tokens: tokensOf(t, path)}).Wrap(Require(Viewer, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})))
	for token, want := range map[string]int{
		"": http.StatusUnauthorized, "nonsense": http.StatusUnauthorized, secrets[Viewer]: http.StatusNoContent, secrets[Worker]: http.StatusForbidden,
	} {
		r := request()
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%q: %d, want %d", token, w.Code, want)
		}
	}
}

func TestBase(t *testing.T) {
	for _, c := range []struct{ asked, seen, want string }{
		{"/", "/", ""}, {"/jobs?x=1", "/jobs", ""}, {"/admin/heddle/jobs", "/jobs", "/admin/heddle"}, {"/admin/heddle/", "/", "/admin/heddle"},
		{"/a%20b/", "/", "/a b"}, {"/other", "/jobs", ""}, {"//evil.example/", "/", "/evil.example"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RequestURI, r.URL.Path = c.asked, c.seen
		if got := Base(r); got != c.want {
			t.Errorf("%s seen as %s: %q, want %q", c.asked, c.seen, got, c.want)
		}
	}
}
