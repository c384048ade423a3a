package faults

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/oracle"
	"github.com/heddle-io/heddle/internal/pgtest"
	heddle "github.com/heddle-io/heddle/sdk"
)

// ttl of the sessions in tests that lose some.
const ttl = 1500 * time.Millisecond

// held submits n jobs whose first attempt is held, and waits until the worker
// has started them.
func (l *load) held(v *events, worker string, n int, k task, opts heddle.JobOptions) {
	l.t.Helper()
	before := v.starts(worker)
	k.Hold = 1
	works := make([]heddle.Work, n)
	for i := range works {
		works[i] = taskKind.Job(k, opts)
	}
	runs, err := l.client.SubmitAll(l.t.Context(), works...)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, r := range runs {
		l.acked(l.add(&submission{lone: true, jobs: 1, want: heddle.Succeeded}), r.ID())
	}
	eventually(l.t, fmt.Sprintf("%d held jobs started on %s", n, worker), patience, func() bool { return v.starts(worker) >= before+n })
}

// A worker is killed (-9) in the middle of its jobs. They start elsewhere
// within the session's time to live, one attempt counted. The jobs of other
// workers notice nothing.
func TestWorkerKilledMidJob(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, ttl)
	v := newEvents(t)
	l := newLoad(t, s.client(nil), 4)
	victim := hire(t, s, v, "victim", 10, func(c *workerConfig) { c.Queues = []string{"mine"} })
	other := hire(t, s, v, "other", 30, func(c *workerConfig) { c.Queues = []string{"default", "mine"} })
	l.held(v, "other", 5, task{}, heddle.JobOptions{})
	// Both serve the queue, and only one of them has room for all.
	l.queue = "default"
	l.begin(20)
	eventually(t, "the victim holds jobs", patience, func() bool {
		works := []heddle.Work{taskKind.Job(task{Hold: 1}, heddle.JobOptions{Queue: "mine"})}
		runs, err := l.client.SubmitAll(t.Context(), works...)
		if err != nil {
			t.Fatal(err)
		}
		l.acked(l.add(&submission{lone: true, jobs: 1, want: heddle.Succeeded}), runs[0].ID())
		return v.starts("victim") >= 3
	})
	victim.kill()
	killed := time.Now()
	lost := v.startedBy("victim")
	restarted := func(e *event) bool { return e.What == oracle.Start && e.Who == "other" && e.Attempt == 2 }
	eventually(t, "the victim's jobs start elsewhere", patience, func() bool {
		again := make(map[job]bool)
		for _, e := range v.read() {
			if restarted(&e) {
				again[e.Job()] = true
			}
		}
		for _, j := range lost {
			if !again[j] {
				return false
			}
		}
		return true
	})
	took := time.Since(killed)
	// Up to a heartbeat may have been answered just before the end, and a
	// restart waits for two writes: the rest is the machine's.
	if took > ttl+5*time.Second {
		t.Errorf("the jobs of the killed worker started again after %v, the session lives for %v", took, ttl)
	}
	other.tell("release")
	l.finish()
	settle(t, dsn, patience)
	judge(t, dsn, v, l.submitted())
	after := readTables(t, dsn)
	for j, f := range after.finished {
		charged := after.tries[j][howLost]
		switch {
		case slices.Contains(lost, j):
			if charged != 1 {
				t.Errorf("job %v (attempt %d) of the killed worker was lost %d times", j, f.attempt, charged)
			}
		case charged != 0 && v.count(func(e *event) bool { return e.What == oracle.Start && e.Job() == j && e.Attempt == 1 }) > 0:
			// One that was granted to the killed worker and never started there
			// is charged too; this one was another's.
			t.Errorf("job %v (attempt %d) of another worker was lost %d times", j, f.attempt, charged)
		}
	}
	t.Logf("%d jobs of the killed worker restarted within %v", len(lost), took)
}

// A poison job kills its worker at each attempt. It ends failed; what ran
// beside it does not.
func TestPoisonJob(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, time.Second)
	v := newEvents(t)
	l := newLoad(t, s.client(nil), 5)
	const attempts = 4
	works := []heddle.Work{taskKind.Job(task{Poison: true}, heddle.JobOptions{Retry: &heddle.Retry{Attempts: attempts}})}
	for range 8 {
		works = append(works, taskKind.Job(task{Busy: 300}, heddle.JobOptions{Retry: &heddle.Retry{Attempts: attempts}}))
	}
	runs, err := l.client.SubmitAll(t.Context(), works...)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range runs {
		want := heddle.Succeeded
		if i == 0 {
			want = heddle.Failed
		}
		l.acked(l.add(&submission{lone: true, jobs: 1, want: want}), r.ID())
	}
	poison := job{Workflow: runs[0].ID(), Node: 1}
	// A supervisor starts the worker again each time.
	for i := range attempts {
		name := fmt.Sprintf("worker%d", i)
		w := hire(t, s, v, name, 20, nil)
		if code := w.await(patience); code != -1 {
			t.Fatalf("the worker ended with code %d, not by the poison", code)
		}
	}
	hire(t, s, v, "last", 20, nil)
	settle(t, dsn, patience)
	judge(t, dsn, v, l.submitted())
	after := readTables(t, dsn)
	if f := after.finished[poison]; f.outcome != heddle.Failed || f.attempt != attempts || f.error == "" {
		t.Errorf("the poison job ended %v at attempt %d with error %q", f.outcome, f.attempt, f.error)
	}
	for j, f := range after.finished {
		// Charged twice at most: after that a job is granted alone.
		if lost := after.tries[j][howLost]; j != poison && lost > 2 {
			t.Errorf("job %v beside the poison was charged %d losses (attempt %d)", j, lost, f.attempt)
		}
	}
}

// A worker is stopped in the middle of its jobs. What listens to its context
// returns at once, what does not is given up; both go back to the front of
// their queue, and no attempt is counted.
func TestGracefulStopMidJob(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, ttl)
	v := newEvents(t)
	l := newLoad(t, s.client(nil), 6)
	polite := hire(t, s, v, "polite", 20, nil)
	l.held(v, "polite", 5, task{}, heddle.JobOptions{})
	if code := polite.terminate(startTime); code != 0 {
		t.Errorf("the worker that was stopped ended with code %d", code)
	}
	stubborn := hire(t, s, v, "stubborn", 20, func(c *workerConfig) { c.StopGrace = 100 * time.Millisecond })
	eventually(t, "the jobs given back start again", patience, func() bool { return v.starts("stubborn") >= 5 })
	l.held(v, "stubborn", 3, task{Stuck: true}, heddle.JobOptions{})
	if code := stubborn.terminate(startTime); code != 4 {
		t.Errorf("the worker with handlers that do not return ended with code %d", code)
	}
	// While nobody works, the jobs wait in front of newer ones.
	l.begin(1)
	l.finish()
	last := hire(t, s, v, "last", 8, nil)
	eventually(t, "the jobs given back start first", patience, func() bool { return v.starts("last") >= 8 })
	held := make(map[job]bool)
	for _, j := range v.startedBy("stubborn") {
		held[j] = true
	}
	for _, j := range v.startedBy("last") {
		if !held[j] {
			t.Errorf("job %v started before those that were given back", j)
		}
	}
	last.tell("release")
	settle(t, dsn, patience)
	// The process of the stubborn worker ended under its handlers.
	judge(t, dsn, v, l.submitted())
	after := readTables(t, dsn)
	for j, f := range after.finished {
		if tries := after.tries[j]; tries[howLost] != 0 {
			t.Errorf("job %v (attempt %d) was charged for a graceful stop: %v (I7)", j, f.attempt, tries)
		}
		if held[j] && after.tries[j][howReleased] == 0 {
			t.Errorf("job %v was given back, and no attempt says so", j)
		}
	}
}
