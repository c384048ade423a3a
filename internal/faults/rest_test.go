package faults

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// answer is what the API says to a plain JSON call, as somebody with curl sees
// it.
type answer struct {
	status int
	// Code and Message of an error.
	Code    string `json:"code"`
	Message string `json:"message"`
	// Results of Submit and Report.
	Results []struct {
		ID      string `json:"id"`
		Created bool   `json:"created"`
		Code    string `json:"code"`
		Message string `json:"message"`
		Status  string `json:"status"`
	} `json:"results"`
	// Session of OpenSession.
	Session string `json:"session"`
	Reopen  bool   `json:"reopen"`
	Leases  []restLease
	Lost    []restLease
	// State and Reasons of Explain; Ended, Result and Error of Wait.
	State   string `json:"state"`
	Reasons []struct {
		Code string `json:"code"`
		Text string `json:"text"`
	} `json:"reasons"`
	Ended  bool   `json:"ended"`
	Result string `json:"result"`
	Error  string `json:"error"`
	Job    struct {
		Attempt  int `json:"attempt"`
		Attempts []struct {
			How string `json:"how"`
		} `json:"attempts"`
	} `json:"job"`
}

// restLease is a lease in JSON: numbers of 64 bits and bytes are text.
type restLease struct {
	WorkflowID string `json:"workflowId"`
	Node       int    `json:"node"`
	Lease      string `json:"lease"`
}

// post makes a call of the API with JSON, over HTTP/1.1.
func (s *server) post(t testing.TB, procedure, body string) answer {
	t.Helper()
	res, err := http.Post(s.url()+"/heddle.v1."+procedure, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: res.StatusCode}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		if err := json.Unmarshal(raw, &a); err != nil {
			t.Fatalf("%s answered %s: %v", procedure, raw, err)
		}
	}
	return a
}

// refused checks that a call was answered with an error that names things.
func (a answer) refused(t testing.TB, what, code string, names ...string) {
	t.Helper()
	got, message := a.Code, a.Message
	if got == "" && len(a.Results) == 1 {
		got, message = a.Results[0].Code, a.Results[0].Message
	}
	if got != code {
		t.Errorf("%s: answered %d %q %q, want the code %s", what, a.status, got, message, code)
		return
	}
	for _, name := range names {
		if !strings.Contains(message, name) {
			t.Errorf("%s: the message does not name %q: %s", what, name, message)
		}
	}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// bytesOf gives the id of a workflow as the worker protocol has it in JSON.
func bytesOf(id string) string {
	u := uuid.MustParse(id)
	return base64.StdEncoding.EncodeToString(u[:])
}
