package faults

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/oracle"
)

// event is one line of the log that worker processes write.
type event = oracle.Event

// job names a job in the log and in the tables.
type job = oracle.Job

// events is the reading end: the files of all workers of a test in one folder.
type events struct {
	t    testing.TB
	dir  string
	tail *oracle.Tail
	boss *oracle.Journal
	all  []event
}

func newEvents(t testing.TB) *events {
	t.Helper()
	v := &events{t: t, dir: t.TempDir()}
	v.tail = oracle.NewTail(v.dir)
	var err error
	if v.boss, err = oracle.OpenJournal(v.path("boss"), "boss"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.boss.Close() })
	return v
}

func (v *events) path(worker string) string { return filepath.Join(v.dir, worker+".jsonl") }

// read takes in what was written since, and gives everything in order of time.
func (v *events) read() []event {
	v.t.Helper()
	more, err := v.tail.Read()
	if err != nil {
		v.t.Fatal(err)
	}
	if len(more) > 0 {
		v.all = append(v.all, more...)
		slices.SortStableFunc(v.all, func(a, b event) int { return int(a.Mono - b.Mono) })
	}
	return v.all
}

// count gives the number of events that match.
func (v *events) count(match func(*event) bool) int {
	v.t.Helper()
	all, n := v.read(), 0
	for i := range all {
		if match(&all[i]) {
			n++
		}
	}
	return n
}

// starts counts the handlers begun by a worker; "" is all of them.
func (v *events) starts(worker string) int {
	v.t.Helper()
	return v.count(func(e *event) bool { return e.What == oracle.Start && (worker == "" || e.Who == worker) })
}

// acks counts the acknowledged ends.
func (v *events) acks() int {
	v.t.Helper()
	return v.count((*event).Acknowledged)
}

// longestPause is the longest time between two starts.
func (v *events) longestPause() time.Duration {
	v.t.Helper()
	var p oracle.Pauses
	all := v.read()
	for i := range all {
		p.See(&all[i])
	}
	if len(all) == 0 {
		return 0
	}
	return p.Longest(all[0].Mono, time.Duration(all[len(all)-1].Mono-all[0].Mono))
}

// startedBy gives the jobs that a worker has started.
func (v *events) startedBy(worker string) []job {
	v.t.Helper()
	var jobs []job
	for _, e := range v.read() {
		if e.What == oracle.Start && e.Who == worker && !slices.Contains(jobs, e.Job()) {
			jobs = append(jobs, e.Job())
		}
	}
	return jobs
}

// judge asks the oracle, after everything has settled.
func judge(t testing.TB, dsn string, v *events, subs []*submission) {
	t.Helper()
	for _, s := range subs {
		e := event{What: oracle.Submitting, Workflow: s.id, Lone: s.lone, Jobs: s.jobs, Want: s.want}
		if s.acked {
			e.What = oracle.Submitted
		}
		if s.id != "" {
			v.boss.Write(e)
		}
	}
	logs, err := oracle.Logs(v.dir)
	if err != nil {
		t.Fatal(err)
	}
	verdict, err := oracle.Judge(context.Background(), oracle.Case{Logs: logs, DSN: dsn, Settled: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range verdict.Violations {
		if i == 20 {
			t.Errorf("and %d more", len(verdict.Violations)-i)
			break
		}
		t.Error(f)
	}
	t.Logf("judged: %v", verdict)
}
