package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/internal/oracle"
	heddle "github.com/heddle-io/heddle/sdk"
)

// task is what a job of these tests does.
type task struct {
	// Fail is how many attempts fail first.
	Fail int `json:"fail,omitempty"`
	// Dead tasks fail for good.
	Dead bool `json:"dead,omitempty"`
	// Busy is how long it works, in milliseconds.
	Busy int `json:"busy,omitempty"`
	// Hold is the number of attempts that wait for the release.
	Hold int `json:"hold,omitempty"`
	// Stuck tasks do not listen to their context while they are held.
	Stuck bool `json:"stuck,omitempty"`
	// Poison kills the worker's process.
	Poison bool `json:"poison,omitempty"`
	// Big is the size of its result in bytes.
	Big int `json:"big,omitempty"`
}

var (
	taskKind = heddle.NewKind[task, string]("task", heddle.JobOptions{
		Retry: &heddle.Retry{Attempts: 5, Backoff: heddle.Fixed, Initial: 10 * time.Millisecond, Jitter: -1},
	})
	// oddKind has a handler, and nobody submits it.
	oddKind = heddle.NewKind[heddle.None, heddle.None]("odd")
)

// workerConfig of a worker process.
type workerConfig struct {
	Name    string
	Addr    string
	Journal string
	Slots   int
	Queues  []string
	// StopTimeout and StopGrace as in the SDK.
	StopTimeout, StopGrace time.Duration
}

// workerMain is the worker process.
func workerMain() int {
	var c workerConfig
	partConfig(&c)
	j, err := oracle.OpenJournal(c.Journal, c.Name)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	witness := oracle.NewWitness(j)
	released := make(chan struct{})
	var release sync.Once
	go listen(func(line string) {
		if line == "release" {
			release.Do(func() { close(released) })
		}
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client, err := heddle.NewClient(heddle.ClientConfig{
		Addrs: []string{c.Addr}, Interceptors: []connect.Interceptor{witness},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	w := heddle.NewWorker(client, heddle.WorkerConfig{
		Name: c.Name, Slots: c.Slots, Queues: c.Queues, StopTimeout: c.StopTimeout, StopGrace: c.StopGrace,
		Middleware: []func(heddle.HandlerFunc) heddle.HandlerFunc{witness.Handler},
	})
	taskKind.Handle(w, func(ctx context.Context, k task) (string, error) {
		if k.Poison {
			j.Write(event{What: oracle.Fault, How: oracle.FaultKill, Target: c.Name})
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return k.run(ctx, heddle.JobInfo(ctx).Attempt, released)
	})
	oddKind.Do(w, func(context.Context, heddle.None) error { return nil })
	if err := w.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 4
	}
	return 0
}

func (k task) run(ctx context.Context, attempt int, released <-chan struct{}) (string, error) {
	if attempt <= k.Hold {
		done := ctx.Done()
		if k.Stuck {
			done = nil
		}
		select {
		case <-released:
		case <-done:
			return "", context.Cause(ctx)
		}
	}
	if k.Busy > 0 {
		t := time.NewTimer(time.Duration(k.Busy) * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	switch {
	case k.Dead:
		return "", heddle.NoRetry(errors.New("dead"))
	case attempt <= k.Fail:
		return "", fmt.Errorf("attempt %d fails", attempt)
	case k.Big > 0:
		return strings.Repeat("x", k.Big), nil
	}
	return "done", nil
}

// hire starts a worker process.
func hire(t testing.TB, s *server, v *events, name string, slots int, change func(*workerConfig)) *process {
	t.Helper()
	c := workerConfig{Name: name, Addr: s.url(), Journal: v.path(name), Slots: slots, StopTimeout: 100 * time.Millisecond, StopGrace: 10 * time.Second}
	if change != nil {
		change(&c)
	}
	p := play(t, partWorker, name, c)
	p.killing = func() { v.boss.Write(event{What: oracle.Fault, How: oracle.FaultKill, Target: name}) }
	return p
}
