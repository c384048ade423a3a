package api

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A call that reaches no method is told why, and what would.
func TestGuide(t *testing.T) {
	for _, prefix := range []string{"", "/heddle"} {
		url := serve(t, &fake{workflow: ended}, func(c *Config, _ *Deps) { c.Prefix = prefix }).URL + prefix
		for _, c := range []struct {
			method, path, contentType, body string
			status                          int
			says                            string
		}{
			{"POST", "/heddle.v1.WorkflowService/Get", "application/x-www-form-urlencoded", "{}", 415, `{"code":"invalid_argument","message":"content-type: \"application/x-www-form-urlencoded\" does not do here; send \"application/json\""}`},
			{"POST", "/heddle.v1.WorkflowService/Get", "", "{}", 415, `send \"application/json\"`},
			{"POST", "/heddle.v1.WorkflowService/Watch", "application/json", "{}", 415, `send \"application/connect+json\"`},
			{"POST", "/heddle.v1.WorkflowService/Get", "Application/JSON; charset=utf-8", `{"workflowId": "` + textID + `"}`, 200, textID},
			{"POST", "/heddle.v1.WorkflowService/Got", "application/json", "{}", 501, "there is no method /heddle.v1.WorkflowService/Got"},
			{"POST", "/heddle.v1.FlowService/Get", "text/plain", "", 404, `{"code":"unimplemented","message":"there is no method`},
			{"GET", "/", "", "", 200, "WorkflowService"},
			{"GET", "/elsewhere", "", "", 404, "404"},
		} {
			req, err := http.NewRequest(c.method, url+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.contentType != "" {
				req.Header.Set("Content-Type", c.contentType)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != c.status || !strings.Contains(string(body), c.says) {
				t.Errorf("%s %s%s as %q: %d %s, %v; want %d with %s", c.method, prefix, c.path, c.contentType, res.StatusCode, body, err, c.status, c.says)
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
