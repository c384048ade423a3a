package engine

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	. "github.com/heddle-io/heddle/internal/enginetest"
)

// What is measured is served for Prometheus, Raft's own measures with it.
func TestMetrics(t *testing.T) {
	if err := CollectRaftMetrics(); err != nil {
		t.Fatal(err)
	}
	if err := CollectRaftMetrics(); err != nil {
		t.Fatal(err) // it is idempotent
	}
	e, c := newEngine(t, func(c *Config) { c.NodeID, c.Version = "a", "1.2.3" })
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	c.Work(1, map[string]Handler{"k": ok})
	c.Want(c.Put(Lone("k", "", nil))[0], "", stateSucceeded)
	code, body := get(t, e.URL()+"/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d: %s", code, body)
	}
	for _, line := range []string{
		`heddle_leader 1`, `heddle_leader_known 1`, `heddle_members{suffrage="voter"} 1`, `heddle_quorum 1`, `heddle_epoch 1`,
		`heddle_grants_total 1`, `heddle_attempts_ended_total 1`, `heddle_flush_reports_count 1`, `heddle_flush_seconds_count 1`,
		`heddle_flush_failures_total 0`, `heddle_sessions 1`, `heddle_trouble 0`, `heddle_build_info{node="a",version="1.2.3"} 1`,
		`heddle_log_index{at="applied"} [1-9]\d*`, `heddle_postgres_connections{pool="main",state="max"} \d+`,
		`heddle_raft_apply [1-9]\d*`, `go_goroutines \d+`, `process_open_fds \d+`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(body) {
			t.Errorf("no line %s", line)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "heddle_") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}
