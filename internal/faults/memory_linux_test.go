package faults

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/pgtest"
	heddle "github.com/heddle-io/heddle/sdk"
)

// memory gives the present and the highest resident memory of a process, in
// bytes.
func (p *process) memory() (now, peak int64) {
	p.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			now = kb << 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			peak = kb << 10
		}
	}
	if now == 0 || peak == 0 {
		p.t.Fatalf("no memory in %s", raw)
	}
	return now, peak
}

// stream is a workflow of one batch with n jobs that exist only while they are
// sent.
func stream(n int, id string) *heddle.Workflow {
	wf := heddle.NewWorkflow("stream", heddle.WorkflowOptions{ID: id})
	b := wf.Batch("members")
	b.AddAll(func(yield func(heddle.Job) bool) {
		job := taskKind.Job(task{Busy: 1})
		for range n {
			if !yield(job) {
				return
			}
		}
	})
	wf.Add(taskKind.Job(task{})).After(b)
	return wf
}

// Large graphs stream through: neither those that are taken nor those that are
// too large make the engine's memory grow with their size. A graph over the
// limit is refused whole.
func TestLargeGraphsNeedLittleMemory(t *testing.T) {
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, 10*time.Second)
	c := s.client(nil)
	// A first graph, so that what any stream needs is there.
	if _, err := c.Submit(t.Context(), stream(20_000, newID())); err != nil {
		t.Fatal(err)
	}
	const most = memoryFactor * 128 << 20
	measure := func(what string, submit func()) {
		t.Helper()
		before, _ := s.memory()
		begin := time.Now()
		submit()
		_, peak := s.memory()
		t.Logf("%s: %v, resident memory %d MiB before, at most %d MiB", what, time.Since(begin).Round(time.Millisecond), before>>20, peak>>20)
		if peak-before > most {
			t.Errorf("%s: the engine grew by %d MiB", what, (peak-before)>>20)
		}
	}
	kept, over := newID(), newID()
	measure("200,000 nodes", func() {
		if _, err := c.Submit(t.Context(), stream(200_000, kept)); err != nil {
			t.Error(err)
		}
	})
	measure("a graph over the limit", func() {
		_, err := c.Submit(t.Context(), stream(1_100_000, over))
		wantInvalid(t, "1,100,001 jobs", err, "1000000", "jobs")
	})
	status, err := c.Run(kept).Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.Nodes != 200_002 {
		t.Errorf("%d nodes were kept of 200,002", status.Nodes)
	}
	_, err = c.Run(over).Get(t.Context())
	wantError(t, "the graph over the limit", err, heddle.ErrNotFound)
	conn := dial(t, dsn)
	defer conn.Close(t.Context())
	var left int
	if err := conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM jobs WHERE workflow_id = $1) + (SELECT count(*) FROM batches WHERE workflow_id = $1)", over).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows are left of the graph over the limit: %v", left, err)
	}
	// The large one is alive: cancelling it ends all of it.
	if err := c.Run(kept).Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o, err := c.Run(kept).Wait(t.Context()); err != nil || o != heddle.Cancelled {
		t.Errorf("the cancelled graph: %v, %v", o, err)
	}
}
