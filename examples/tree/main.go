// Command tree shows nested batches, a failure branch, and a retry that takes
// the failure back: what had been skipped because of it runs after all.
//
//	release ┬ build ┬ linux      ─ succeeded ─▶ publish
//	        │       └ darwin
//	        └ test ─ failed ─▶ rollback
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"

	"github.com/heddle-io/heddle/examples/internal/local"
	heddle "github.com/heddle-io/heddle/sdk"
)

var step = heddle.NewKind[string, heddle.None]("tree.step", heddle.JobOptions{Retry: &heddle.Retry{Attempts: 1}})

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tree:", err)
		os.Exit(1)
	}
}

func graph() *heddle.Workflow {
	wf := heddle.NewWorkflow("release")
	release := wf.Batch("release")
	build := release.Batch("build")
	build.Add(step.Job("linux", heddle.JobOptions{Name: "linux"}))
	build.Add(step.Job("darwin", heddle.JobOptions{Name: "darwin"}))
	release.Add(step.Job("test", heddle.JobOptions{Name: "test"})).After(build)
	wf.Add(step.Job("publish", heddle.JobOptions{Name: "publish"})).After(release)
	wf.Add(step.Job("rollback", heddle.JobOptions{Name: "rollback"})).After(release.On(heddle.Failed))
	return wf
}

func run(ctx context.Context, out io.Writer) (err error) {
	l, err := local.Start(ctx, "127.0.0.1:0", 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Stop()) }()
	fmt.Fprintf(out, "admin page: %s/\n", l.URL)
	c, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{l.URL}})
	if err != nil {
		return err
	}
	defer c.Close()

	var mended atomic.Bool
	w := heddle.NewWorker(c, heddle.WorkerConfig{Slots: 4})
	step.Do(w, func(_ context.Context, name string) error {
		if name == "test" && !mended.Load() {
			return errors.New("the test server is down")
		}
		return nil
	})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- w.Run(ctx) }()

	r, err := c.Submit(ctx, graph())
	if err != nil {
		return err
	}
	outcome, err := r.Wait(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "first:", outcome)
	if err := show(ctx, out, r); err != nil {
		return err
	}

	mended.Store(true)
	if _, err := r.Retry(ctx, heddle.RetryOptions{Path: "release/test"}); err != nil {
		return err
	}
	if outcome, err = r.Wait(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "after the retry:", outcome)
	if err := show(ctx, out, r); err != nil {
		return err
	}
	stop()
	return <-worked
}

// show prints how the jobs that matter have ended.
func show(ctx context.Context, out io.Writer, r *heddle.Run) error {
	for _, path := range []string{"release/build/linux", "release/test", "publish", "rollback"} {
		outcome, err := r.Wait(ctx, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-20s %s\n", path, outcome)
	}
	return nil
}
