package admin

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

const ofBrowsers = "text/html,application/xhtml+xml,*/*;q=0.8"

func testPage(t *testing.T, cfg Config) *page {
	t.Helper()
	p, err := newPage(cfg, fstest.MapFS{
		"index.html": {Data: []byte("<html><base href=\"/\"><script src=app.js></script></html>")},
		"app.js":     {Data: bytes.Repeat([]byte("again "), 500)},
		"app.css":    {Data: []byte("a{}")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Every path of the page gives the page, under any mount, and refers to it.
func TestPageUnderAnyMount(t *testing.T) {
	p := testPage(t, Config{})
	for mount, base := range map[string]string{"": "/", "/admin/heddle": "/admin/heddle/", "/a\"b": "/a&#34;b/"} {
		h := http.StripPrefix(mount, p)
		for _, path := range []string{"/", "/jobs", "/workflows/0192/", "/jobs/x/3"} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.URL.Path, r.URL.RawPath = mount+path, ""
			r.RequestURI = r.URL.RequestURI()
			r.Header.Set("Accept", ofBrowsers)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `<base href="`+base+`">`) {
				t.Errorf("%s%s: %d %s, want base %s", mount, path, w.Code, w.Body, base)
			}
		}
	}
}

// The page may load nothing from elsewhere, run nothing inline, and be framed by
// nobody.
func TestSecurityHeaders(t *testing.T) {
	for _, path := range []string{"/", "/app.js"} {
		h := get(testPage(t, Config{}), path, "Accept", ofBrowsers).Header()
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self'", "img-src 'self' data:", "frame-ancestors 'none'", "form-action 'none'"} {
			if !strings.Contains(policy+";", want) {
				t.Errorf("%s: no %s in %s", path, want, policy)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %s", path, policy)
		}
		for name, want := range map[string]string{"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache", "Cross-Origin-Opener-Policy": "same-origin"} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, h.Get(name))
			}
		}
	}
}

func TestFiles(t *testing.T) {
	p := testPage(t, Config{Demo: []byte(`{"submissions":[]}`)})
	plain := get(p, "/app.js")
	if plain.Code != http.StatusOK || !strings.HasPrefix(plain.Header().Get("Content-Type"), "text/javascript") || plain.Body.Len() != 3000 {
		t.Fatalf("%d %v, %d bytes", plain.Code, plain.Header(), plain.Body.Len())
	}
	if again := get(p, "/app.js", "If-None-Match", `"x", W/`+plain.Header().Get("ETag")); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("known already: %d, %d bytes", again.Code, again.Body.Len())
	}
	packed := get(p, "/app.js", "Accept-Encoding", "gzip, br")
	r, err := gzip.NewReader(packed.Body)
	if err != nil || packed.Header().Get("Content-Encoding") != "gzip" || packed.Header().Get("ETag") == plain.Header().Get("ETag") {
		t.Fatalf("packed: %v, %v", packed.Header(), err)
	}
	if body, err := io.ReadAll(r); err != nil || !bytes.Equal(body, plain.Body.Bytes()) {
		t.Errorf("unpacked: %d bytes, %v", len(body), err)
	}
	if small := get(p, "/app.css", "Accept-Encoding", "gzip"); small.Header().Get("Content-Encoding") != "" || small.Body.String() != "a{}" {
		t.Errorf("a file that does not shrink: %v %s", small.Header(), small.Body)
	}
	if demo := get(p, "/demo.json"); demo.Code != http.StatusOK || demo.Header().Get("Content-Type") != "application/json" {
		t.Errorf("demo: %d %v", demo.Code, demo.Header())
	}
	if none := get(testPage(t, Config{}), "/demo.json"); none.Code != http.StatusNotFound {
		t.Errorf("no demo: %d", none.Code)
	}
	head := httptest.NewRecorder()
	p.ServeHTTP(head, httptest.NewRequest(http.MethodHead, "/app.js", nil))
	if head.Code != http.StatusOK || head.Body.Len() != 0 || head.Header().Get("Content-Length") != "3000" {
		t.Errorf("HEAD: %d %v", head.Code, head.Header())
	}
}

// Programs get words at the root, and no page where there is nothing.
func TestWithoutABrowser(t *testing.T) {
	p := testPage(t, Config{Welcome: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })})
	if w := get(p, "/", "Accept", "*/*"); w.Body.String() != "hello" {
		t.Errorf("curl at the root: %s", w.Body)
	}
	if w := get(p, "/", "Accept", ofBrowsers); strings.Contains(w.Body.String(), "hello") {
		t.Errorf("a browser at the root: %s", w.Body)
	}
	if w := get(p, "/jobs"); w.Code != http.StatusNotFound {
		t.Errorf("a program elsewhere: %d", w.Code)
	}
	post := httptest.NewRecorder()
	p.ServeHTTP(post, httptest.NewRequest(http.MethodPost, "/", nil))
	if post.Code != http.StatusMethodNotAllowed || post.Header().Get("Allow") == "" {
		t.Errorf("POST: %d", post.Code)
	}
}

// What is built into the program is a page, and asks for nothing from elsewhere.
func TestBuiltPage(t *testing.T) {
	h, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := get(h, "/", "Accept", ofBrowsers)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `<base href="/">`) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for name, f := range h.(*page).files {
		if strings.Contains(string(f.body), "sourceMappingURL") {
			t.Errorf("%s refers to a map", name)
		}
	}
	if body := w.Body.String(); strings.Contains(body, "<script>") || strings.Contains(body, "<style") || strings.Contains(body, " style=") || strings.Contains(body, `src="http`) {
		t.Errorf("the policy forbids what is in it: %s", body)
	}
	if _, err := newPage(Config{}, fstest.MapFS{"index.html": {Data: []byte("<html>")}}); err == nil {
		t.Error("a page without a base")
	}
}
