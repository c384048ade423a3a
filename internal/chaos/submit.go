package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/heddle-io/heddle/internal/oracle"
	heddle "github.com/heddle-io/heddle/sdk"
)

// submitterConfig of a submitter process, in configEnv.
type submitterConfig struct {
	Name    string
	URLs    []string
	Journal string
	Seed    uint64
	// Pause between two rounds: 20 lone jobs and a graph of about 20 jobs each.
	Pause time.Duration
}

// submitter submits a seeded mixture of everything: lone jobs, and graphs with
// batches, nested ones, joins, failures within the tolerance and beyond it, jobs
// that grow their graph. Some graphs it cancels, some it retries.
type submitter struct {
	c       submitterConfig
	rand    *rand.Rand
	client  *heddle.Client
	journal *oracle.Journal
	// steer are graphs to cancel or retry, later.
	steer []steered
}

type steered struct {
	run    *heddle.Run
	cancel bool
	round  int // when
}

// playSubmitter is the submitter process. It ends in order with SIGTERM.
func playSubmitter() error {
	var c submitterConfig
	if err := json.Unmarshal([]byte(os.Getenv(configEnv)), &c); err != nil {
		return fmt.Errorf("configuration of the submitter: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	journal, err := oracle.OpenJournal(c.Journal, c.Name)
	if err != nil {
		return err
	}
	defer journal.Close()
	client, err := heddle.NewClient(heddle.ClientConfig{Addrs: c.URLs, RetryFor: 5 * time.Minute, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	defer client.Close()
	s := &submitter{c: c, rand: rand.New(rand.NewPCG(c.Seed, 1)), client: client, journal: journal}
	for round := 0; ctx.Err() == nil; round++ {
		if err := s.round(ctx, round); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-time.After(c.Pause):
		case <-ctx.Done():
		}
	}
	return nil
}

func (s *submitter) round(ctx context.Context, round int) error {
	if err := s.lone(ctx, 20); err != nil {
		return err
	}
	submit := s.graph
	if s.rand.IntN(60) == 0 {
		submit = s.large
	}
	if err := submit(ctx, round); err != nil {
		return err
	}
	later := s.steer[:0]
	for _, g := range s.steer {
		if g.round > round {
			later = append(later, g)
			continue
		}
		if err := s.command(ctx, g); err != nil {
			return err
		}
	}
	s.steer = later
	return nil
}

// task draws one: mostly short, some of them fail or wait for a while.
func (s *submitter) task() Task {
	k := Task{Busy: s.rand.IntN(20)}
	switch s.rand.IntN(20) {
	case 0, 1:
		k.Fail = 1 + s.rand.IntN(2)
	case 2:
		k.Snooze = true
	case 3:
		k.Busy = 500 + s.rand.IntN(1500)
	}
	return k
}

// lone submits n lone jobs together.
func (s *submitter) lone(ctx context.Context, n int) error {
	works := make([]heddle.Work, n)
	for i := range works {
		works[i] = taskKind.Job(s.task())
	}
	runs, err := s.client.SubmitAll(ctx, works...)
	events := make([]oracle.Event, 0, n)
	for _, r := range runs {
		if r != nil {
			events = append(events, oracle.Event{What: oracle.Submitted, Workflow: r.ID(), Node: 1, Lone: true, Jobs: 1, Want: heddle.Succeeded})
		}
	}
	s.journal.Write(events...)
	if err != nil {
		return fmt.Errorf("submit %d jobs: %w", n, err)
	}
	return nil
}

// graph submits one graph: a first job, a batch whose members fail now and then
// with one inside it, an empty gate behind any of two jobs, and continuations
// on success, failure and end.
func (s *submitter) graph(ctx context.Context, round int) error {
	id := uuid.Must(uuid.NewV7()).String()
	members := 1 + s.rand.IntN(20)
	dead, tolerated := min(s.rand.IntN(3), members), s.rand.IntN(3)
	wf := heddle.NewWorkflow("chaos", heddle.WorkflowOptions{ID: id, Tolerance: heddle.Count(1)})
	add := func(g interface {
		Add(heddle.Job) *heddle.Node
	}, k Task) *heddle.Node {
		return g.Add(taskKind.Job(k))
	}
	jobs := 0
	count := func(n *heddle.Node) *heddle.Node { jobs++; return n }
	first := count(add(wf, s.task()))
	batch := wf.Batch("members", heddle.BatchOptions{Tolerance: heddle.Count(tolerated)}).After(first)
	for i := range members {
		k := s.task()
		k.Dead = i < dead
		if i == dead {
			k.Now, k.Then = s.rand.IntN(3), s.rand.IntN(3)
		}
		count(add(batch, k))
	}
	inner := batch.Batch("inner").After(count(add(batch, s.task())))
	count(add(inner, s.task()))
	gate := wf.Batch("gate").AfterAny(count(add(wf, s.task())), count(add(wf, s.task())))
	count(add(wf, s.task())).After(gate)
	count(add(wf, s.task())).After(batch)
	count(add(wf, s.task())).After(batch.On(heddle.Failed))
	count(add(wf, s.task())).After(batch.On(heddle.Finished))
	// The batch may fail within the workflow's tolerance.
	run, err := s.send(ctx, wf, id, jobs)
	if err != nil {
		return err
	}
	switch s.rand.IntN(8) {
	case 0:
		s.steer = append(s.steer, steered{run, true, round + s.rand.IntN(3)})
	case 1:
		if dead > 0 {
			s.steer = append(s.steer, steered{run, false, round + 10})
		}
	}
	return nil
}

// large submits a graph with a batch that starts, is skipped or is cancelled in
// chunks.
func (s *submitter) large(ctx context.Context, round int) error {
	const members = 2_500
	id := uuid.Must(uuid.NewV7()).String()
	wf := heddle.NewWorkflow("large", heddle.WorkflowOptions{ID: id, Tolerance: heddle.Count(1)})
	fate := s.rand.IntN(3)
	batch := wf.Batch("members").After(wf.Add(taskKind.Job(Task{Busy: 300, Dead: fate == 0})))
	for range members {
		batch.Add(taskKind.Job(Task{}))
	}
	wf.Add(taskKind.Job(Task{})).After(batch.On(heddle.Always))
	run, err := s.send(ctx, wf, id, members+2)
	if err == nil && fate == 1 {
		s.steer = append(s.steer, steered{run, true, round + 1})
	}
	return err
}

// send submits a graph, and writes that down before and after.
func (s *submitter) send(ctx context.Context, wf *heddle.Workflow, id string, jobs int) (*heddle.Run, error) {
	e := oracle.Event{What: oracle.Submitting, Workflow: id, Jobs: jobs, Want: heddle.Succeeded}
	s.journal.Write(e)
	run, err := s.client.Submit(ctx, wf)
	if err != nil {
		return nil, fmt.Errorf("submit a graph: %w", err)
	}
	e.What = oracle.Submitted
	s.journal.Write(e)
	return run, nil
}

// command cancels or retries a graph. It may be refused: the graph may not be so
// far, or further.
func (s *submitter) command(ctx context.Context, g steered) error {
	e := oracle.Event{What: oracle.Commanding, Workflow: g.run.ID(), How: "retry"}
	if g.cancel {
		e.How = "cancel"
	}
	s.journal.Write(e)
	var err error
	if g.cancel {
		err = g.run.Cancel(ctx)
	} else {
		_, err = g.run.Retry(ctx, heddle.RetryOptions{})
	}
	if err != nil && !errors.Is(err, heddle.ErrRefused) && !errors.Is(err, heddle.ErrUnavailable) {
		return fmt.Errorf("%s %s: %w", e.How, g.run.ID(), err)
	}
	return nil
}
