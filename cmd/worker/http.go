package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	heddle "github.com/heddle-io/heddle/sdk"
)

// request is the arguments of a job of kind http.
type request struct {
	URL     string            `json:"url"`
	Method  string            `json:"method,omitempty"` // GET, or POST with a body
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
	// JSON is sent as the body, with its content type. Exclusive with Body.
	JSON json.RawMessage `json:"json,omitempty"`
	// Timeout of the call; 0: 30 s.
	Timeout duration `json:"timeout,omitempty"`
	// Expect lists the statuses of a success; empty: 200 to 299.
	Expect []int `json:"expect,omitempty"`
}

// response is the result of a job of kind http.
type response struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
	// Truncated tells that the body was longer than 256 KiB.
	Truncated bool  `json:"truncated,omitempty"`
	Millis    int64 `json:"ms"`
}

const bodyLimit = 256 << 10

var httpKind = heddle.NewKind[json.RawMessage, response]("http")

var httpClient = &http.Client{}

// callURL makes one call. What a repeat may mend is retried (no answer, 408,
// 425, 429, 5xx, as RFC 9110 and RFC 6585 describe them), with the delay the
// server asks for; other unexpected answers fail for good.
func callURL(ctx context.Context, r request) (response, error) {
	req, err := r.build()
	if err != nil {
		return response{}, heddle.NoRetry(err)
	}
	if r.Timeout == 0 {
		r.Timeout = duration(30 * time.Second)
	}
	ctx, cancel := r.Timeout.within(ctx)
	defer cancel()
	start := time.Now()
	res, err := httpClient.Do(req.WithContext(ctx))
	if err != nil {
		return response{}, because(ctx, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, bodyLimit+1))
	if err != nil {
		return response{}, because(ctx, fmt.Errorf("read the answer of %s: %w", r.URL, err))
	}
	out := response{Status: res.StatusCode, Headers: map[string]string{}, Millis: time.Since(start).Milliseconds()}
	if len(body) > bodyLimit {
		body, out.Truncated = body[:bodyLimit], true
	}
	out.Body = strings.ToValidUTF8(string(body), "\uFFFD")
	for name, values := range res.Header {
		out.Headers[name] = strings.Join(values, ", ")
	}
	if r.expected(res.StatusCode) {
		return out, nil
	}
	err = fmt.Errorf("%s %s answered %s: %s", req.Method, r.URL, res.Status, excerpt(out.Body))
	if !worthRetrying(res.StatusCode) {
		return out, heddle.NoRetry(err)
	}
	if wait, ok := retryAfter(res.Header.Get("Retry-After"), time.Now()); ok {
		return out, heddle.RetryAfter(err, wait)
	}
	return out, err
}

// because adds to an error why the context has ended, if it has.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

func (r request) build() (*http.Request, error) {
	u, err := url.Parse(r.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("url: %q is not an absolute http or https URL", r.URL)
	}
	if r.Body != "" && len(r.JSON) > 0 {
		return nil, errors.New("body and json: give one of them")
	}
	if r.Timeout < 0 {
		return nil, fmt.Errorf("timeout: %v is negative", time.Duration(r.Timeout))
	}
	for _, status := range r.Expect {
		if status < 100 || status > 599 {
			return nil, fmt.Errorf("expect: %d is not an HTTP status", status)
		}
	}
	body := []byte(r.Body)
	if len(r.JSON) > 0 {
		body = r.JSON
	}
	method := strings.ToUpper(r.Method)
	if method == "" {
		method = http.MethodGet
		if len(body) > 0 {
			method = http.MethodPost
		}
	}
	req, err := http.NewRequest(method, r.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("method: %w", err)
	}
	if len(r.JSON) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range r.Headers {
		if strings.EqualFold(name, "host") {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	return req, nil
}

func (r request) expected(status int) bool {
	if len(r.Expect) > 0 {
		return slices.Contains(r.Expect, status)
	}
	return status >= 200 && status < 300
}

func worthRetrying(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// retryAfter reads the header of that name: seconds or a date (RFC 9110, 10.2.3).
func retryAfter(header string, now time.Time) (time.Duration, bool) {
	if header == "" {
		return 0, false
	}
	if seconds, err := strconv.Atoi(header); err == nil && seconds >= 0 {
		return time.Duration(seconds) * time.Second, true
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(now)), true
}

// excerpt is the beginning of a text, for an error message.
func excerpt(text string) string {
	text = strings.TrimSpace(text)
	const limit = 200
	if len(text) <= limit {
		return text
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
