package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

func TestCallURL(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/echo":
			w.Header().Set("X-Seen", r.Method+" "+r.Header.Get("X-Token")+" "+r.Header.Get("Content-Type"))
			w.Write(body)
		case "/big":
			w.Write(make([]byte, bodyLimit+1))
		case "/busy":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/broken":
			w.WriteHeader(http.StatusBadGateway)
		case "/gone":
			http.Error(w, "no such order", http.StatusGone)
		case "/slow":
			<-r.Context().Done()
		}
	}))
	defer srv.Close()

	var r request
	args := `{"url":"` + srv.URL + `/echo","headers":{"X-Token":"t"},"json":{"n":1},"timeout":"2s"}`
	if err := json.Unmarshal([]byte(args), &r); err != nil {
		t.Fatal(err)
	}
	out, err := callURL(t.Context(), r)
	if err != nil || out.Status != 200 || out.Body != `{"n":1}` || out.Headers["X-Seen"] != "POST t application/json" {
		t.Fatalf("echo: %+v, %v", out, err)
	}
	out, err = callURL(t.Context(), request{URL: srv.URL + "/big"})
	if err != nil || !out.Truncated || len(out.Body) != bodyLimit {
		t.Fatalf("big: %d bytes, truncated %v, %v", len(out.Body), out.Truncated, err)
	}
	for _, c := range []struct {
		path  string
		final bool
		wait  time.Duration
	}{{"/busy", false, 7 * time.Second}, {"/broken", false, 0}, {"/gone", true, 0}} {
		_, err := callURL(t.Context(), request{URL: srv.URL + c.path})
		if err == nil {
			t.Fatalf("%s: no error", c.path)
		}
		if got := heddle.IsNoRetry(err); got != c.final {
			t.Errorf("%s: for good = %v, want %v (%v)", c.path, got, c.final, err)
		}
		if got, _ := heddle.RetryDelay(err); got != c.wait {
			t.Errorf("%s: retry after %v, want %v", c.path, got, c.wait)
		}
	}
	if _, err := callURL(t.Context(), request{URL: srv.URL + "/gone", Expect: []int{410}}); err != nil {
		t.Errorf("an expected 410 failed: %v", err)
	}
	if _, err := callURL(t.Context(), request{URL: srv.URL + "/slow", Timeout: duration(10 * time.Millisecond)}); err == nil || heddle.IsNoRetry(err) || !strings.Contains(err.Error(), "the timeout of 10ms is over") {
		t.Errorf("a slow answer: %v", err)
	}
}

func TestCallURLRefusesBadArguments(t *testing.T) {
	for want, r := range map[string]request{
		`url: "ftp://x"`:        {URL: "ftp://x"},
		`url: ""`:               {},
		"body and json":         {URL: "http://x", Body: "a", JSON: json.RawMessage("1")},
		"expect: 42":            {URL: "http://x", Expect: []int{42}},
		"timeout: -1s":          {URL: "http://x", Timeout: duration(-time.Second)},
		`method: net/http: inv`: {URL: "http://x", Method: "A B"},
	} {
		_, err := callURL(t.Context(), r)
		if err == nil || !strings.Contains(err.Error(), want) || !heddle.IsNoRetry(err) {
			t.Errorf("%+v: %v, want one for good with %q", r, err, want)
		}
	}
	var d duration
	if err := json.Unmarshal([]byte(`"soon"`), &d); err == nil || !strings.Contains(err.Error(), `"soon"`) {
		t.Errorf("duration: %v", err)
	}
	if err := json.Unmarshal([]byte(`1.5`), &d); err != nil || time.Duration(d) != 1500*time.Millisecond {
		t.Errorf("duration: %v, %v", time.Duration(d), err)
	}
	if !errors.Is(heddle.NoRetry(io.EOF), io.EOF) {
		t.Error("NoRetry hides its error")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                              -1,
		"120":                           2 * time.Minute,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0,
		"soon":                          -1,
		"-4":                            -1,
	} {
		got, ok := retryAfter(header, now)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", header, got, want)
		}
	}
}
