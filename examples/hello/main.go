// Command hello shows three jobs: one that runs at once, one that runs later,
// and one that fails twice before it succeeds.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/heddle-io/heddle/examples/internal/local"
	heddle "github.com/heddle-io/heddle/sdk"
)

// A kind ties a name to the types of its arguments and its result. Producers
// and workers share it.
var (
	greet = heddle.NewKind[string, string]("hello.greet")
	flaky = heddle.NewKind[heddle.None, int]("hello.flaky", heddle.JobOptions{
		Retry: &heddle.Retry{Attempts: 5, Backoff: heddle.Fixed, Initial: 100 * time.Millisecond},
	})
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	l, err := local.Start(ctx, "127.0.0.1:0", 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Stop()) }()
	fmt.Fprintf(out, "engine: %[1]s  admin page: %[1]s/\n", l.URL)

	c, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{l.URL}})
	if err != nil {
		return err
	}
	defer c.Close()
	w := heddle.NewWorker(c, heddle.WorkerConfig{Slots: 8})
	greet.Handle(w, func(_ context.Context, name string) (string, error) { return "hello, " + name, nil })
	flaky.Handle(w, func(ctx context.Context, _ heddle.None) (int, error) {
		job := heddle.JobInfo(ctx)
		if job.Attempt < 3 {
			return 0, fmt.Errorf("attempt %d did not work out", job.Attempt)
		}
		return job.Attempt, nil
	})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- w.Run(ctx) }()

	// Fire and forget: the job is in Postgres when Submit returns.
	if _, err := c.Submit(ctx, greet.Job("whoever it is")); err != nil {
		return err
	}
	// Submit and wait for the result.
	text, err := greet.Call(ctx, c, "world")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, text)
	// Not before half a second from now.
	start := time.Now()
	if text, err = greet.Call(ctx, c, "later", heddle.JobOptions{Delay: 500 * time.Millisecond}); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s (on time: %v)\n", text, time.Since(start) >= 500*time.Millisecond)
	// Fails twice.
	attempt, err := flaky.Call(ctx, c, heddle.None{})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "succeeded in attempt", attempt)

	stop() // the worker finishes what it runs
	return <-worked
}
