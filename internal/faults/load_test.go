package faults

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	heddle "github.com/heddle-io/heddle/sdk"
)

// submission is one workflow that somebody asked for.
type submission struct {
	id string
	// acked: Submit has returned without an error.
	acked bool
	// lone jobs are one row; graphs have so many jobs in all.
	lone bool
	jobs int
	// want is how it must end.
	want heddle.Outcome
}

// load submits work with a seeded mixture of everything: lone jobs, and graphs
// with a first job, a batch whose members fail now and then, and continuations
// on its success, its failure and its end.
type load struct {
	t      testing.TB
	client *heddle.Client
	queue  string
	faults *rand.Rand // what happens to it; the work has its own

	mu   sync.Mutex
	rand *rand.Rand
	subs []*submission

	done chan struct{} // closed when begin's work has ended, with err
	err  error
}

// seedFlag finds other schedules than those of every day.
var seedFlag = flag.Uint64("seed", 0, "added to the seeds of all loads")

func newLoad(t testing.TB, c *heddle.Client, seed uint64) *load {
	seed += *seedFlag
	t.Logf("seed %d", seed)
	return &load{t: t, client: c, rand: rand.New(rand.NewPCG(seed, 1)), faults: rand.New(rand.NewPCG(seed, 2))}
}

// task draws one: mostly short, some of them fail for a while.
func (l *load) task() task {
	k := task{Busy: l.rand.IntN(20)}
	if l.rand.IntN(10) == 0 {
		k.Fail = 1 + l.rand.IntN(2)
	}
	return k
}

// add notes a submission before it is sent.
func (l *load) add(s *submission) *submission {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs = append(l.subs, s)
	return s
}

func (l *load) acked(s *submission, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.id, s.acked = id, true
}

// submitted gives what was asked for until now.
func (l *load) submitted() []*submission {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*submission(nil), l.subs...)
}

// lone submits n lone jobs together.
func (l *load) lone(ctx context.Context, n int) error {
	works := make([]heddle.Work, n)
	l.mu.Lock()
	for i := range works {
		works[i] = taskKind.Job(l.task(), heddle.JobOptions{Queue: l.queue})
	}
	l.mu.Unlock()
	runs, err := l.client.SubmitAll(ctx, works...)
	for _, r := range runs {
		if r != nil {
			l.acked(l.add(&submission{lone: true, jobs: 1, want: heddle.Succeeded}), r.ID())
		}
	}
	return err
}

// graph submits one graph with about n members in its batch.
func (l *load) graph(ctx context.Context, n int) error {
	l.mu.Lock()
	job := func(k task) heddle.Job { return taskKind.Job(k, heddle.JobOptions{Queue: l.queue}) }
	id := uuid.Must(uuid.NewV7()).String()
	members := 1 + l.rand.IntN(2*n)
	dead, tolerated := l.rand.IntN(3), l.rand.IntN(3)
	dead = min(dead, members)
	wf := heddle.NewWorkflow("load", heddle.WorkflowOptions{ID: id, Tolerance: heddle.Count(1)})
	first := wf.Add(job(l.task()))
	batch := wf.Batch("members", heddle.BatchOptions{Tolerance: heddle.Count(tolerated)}).After(first)
	for i := range members {
		k := l.task()
		k.Dead = i < dead
		batch.Add(job(k))
	}
	nested := batch.Batch("nested").After(batch.Add(job(l.task())))
	nested.Add(job(l.task()))
	wf.Add(job(l.task())).After(batch)
	wf.Add(job(l.task())).After(batch.On(heddle.Failed))
	wf.Add(job(l.task())).After(batch.On(heddle.Finished))
	// The batch may fail within the workflow's tolerance.
	s := l.addLocked(&submission{id: id, jobs: 1 + members + 2 + 3, want: heddle.Succeeded})
	l.mu.Unlock()
	if _, err := l.client.Submit(ctx, wf); err != nil {
		return err
	}
	l.acked(s, id)
	return nil
}

func (l *load) addLocked(s *submission) *submission {
	l.subs = append(l.subs, s)
	return s
}

// begin submits rounds of 20 lone jobs and one graph, until finish at the
// latest.
func (l *load) begin(rounds int) {
	ctx, cancel := context.WithCancel(context.Background())
	l.done = make(chan struct{})
	go func() {
		defer close(l.done)
		for i := 0; i < rounds && l.err == nil; i++ {
			if l.err = l.lone(ctx, 20); l.err == nil {
				l.err = l.graph(ctx, 10)
			}
		}
	}()
	l.t.Cleanup(func() {
		cancel()
		<-l.done
	})
}

// finish waits until everything is submitted.
func (l *load) finish() {
	l.t.Helper()
	select {
	case <-l.done:
	case <-time.After(patience):
		l.t.Fatalf("not all submitted after %v", patience)
	}
	if l.err != nil {
		l.t.Fatalf("submit: %v", l.err)
	}
}

// draw gives a number from low to high, for the test's own goroutine.
func (l *load) draw(low, high int) int {
	return low + l.faults.IntN(high-low+1)
}

// reach waits until so many handlers have started.
func (l *load) reach(v *events, starts int) {
	l.t.Helper()
	eventually(l.t, fmt.Sprintf("%d handlers have started", starts), patience, func() bool {
		select {
		case <-l.done:
			if l.err != nil {
				l.t.Fatalf("submit: %v", l.err)
			}
		default:
		}
		return v.starts("") >= starts
	})
}

// patience bounds what must happen by itself after the faults are over, on a
// machine that does other things too.
const patience = 60 * time.Second
