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

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/internal/oracle"
	heddle "github.com/heddle-io/heddle/sdk"
)

// Task is what a job of this package's workload does.
type Task struct {
	// Busy is how long it works, in milliseconds.
	Busy int `json:"busy,omitempty"`
	// Fail is how many attempts fail first; Dead tasks fail for good.
	Fail int  `json:"fail,omitempty"`
	Dead bool `json:"dead,omitempty"`
	// Snooze tasks put themselves off now and then.
	Snooze bool `json:"snooze,omitempty"`
	// Now jobs are added to the batch while it runs, Then jobs with its success.
	Now  int `json:"now,omitempty"`
	Then int `json:"then,omitempty"`
}

// taskKind allows for more losses than any schedule has.
var taskKind = heddle.NewKind[Task, string]("task", heddle.JobOptions{
	Retry: &heddle.Retry{Attempts: 12, Backoff: heddle.Fixed, Initial: 50 * time.Millisecond, Jitter: -1},
})

// workerConfig of a worker process, in configEnv.
type workerConfig struct {
	Name    string
	URLs    []string
	Journal string
	Slots   int
}

// configEnv carries the configuration of a part.
const configEnv = "HEDDLE_CHAOS_CONFIG"

// playWorker is the worker process.
func playWorker() error {
	var c workerConfig
	if err := json.Unmarshal([]byte(os.Getenv(configEnv)), &c); err != nil {
		return fmt.Errorf("configuration of the worker: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	journal, err := oracle.OpenJournal(c.Journal, c.Name)
	if err != nil {
		return err
	}
	defer journal.Close()
	witness := oracle.NewWitness(journal)
	client, err := heddle.NewClient(heddle.ClientConfig{
		Addrs: c.URLs, Interceptors: []connect.Interceptor{witness}, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	w := heddle.NewWorker(client, heddle.WorkerConfig{
		Name: c.Name, Slots: c.Slots, StopTimeout: time.Second, Middleware: []func(heddle.HandlerFunc) heddle.HandlerFunc{witness.Handler},
	})
	taskKind.Handle(w, func(ctx context.Context, k Task) (string, error) { return k.run(ctx, journal) })
	return w.Run(ctx)
}

func (k Task) run(ctx context.Context, journal *oracle.Journal) (string, error) {
	info := heddle.JobInfo(ctx)
	job := oracle.Job{Workflow: info.WorkflowID, Node: int32(info.Node)}
	if k.Now > 0 {
		grow := oracle.Event{What: oracle.Growing, Workflow: job.Workflow, Node: job.Node, Key: fmt.Sprintf("now %d", job.Node), Jobs: k.Now}
		journal.Write(grow)
		err := heddle.AddNow(ctx, grow.Key, func(g *heddle.Group) {
			for range k.Now {
				g.Add(taskKind.Job(Task{Busy: 1}))
			}
		})
		if err != nil {
			return "", fmt.Errorf("add jobs: %w", err)
		}
		grow.What = oracle.Grown
		journal.Write(grow)
	}
	t := time.NewTimer(time.Duration(k.Busy) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	switch {
	case k.Dead:
		return "", heddle.NoRetry(errors.New("dead"))
	case info.Attempt <= k.Fail:
		return "", fmt.Errorf("attempt %d fails", info.Attempt)
	case k.Snooze && rand.IntN(2) == 0:
		return "", heddle.Snooze(20 * time.Millisecond)
	}
	if k.Then > 0 {
		journal.Write(oracle.GrowsThen(job, k.Then))
		g := heddle.Then(ctx)
		for range k.Then {
			g.Add(taskKind.Job(Task{Busy: 1}))
		}
	}
	return "done", nil
}
