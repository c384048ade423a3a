package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

// demoSlots is how many jobs of the demo run at once: few enough to watch.
const demoSlots = 12

// workDemo runs the jobs of the demo until ctx ends.
func workDemo(ctx context.Context, url string, log *slog.Logger) error {
	client, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{url}, RetryFor: 2 * time.Second, Logger: log})
	if err != nil {
		return err
	}
	defer client.Close()
	w := heddle.NewWorker(client, heddle.WorkerConfig{Queues: []string{demoQueue}, Slots: demoSlots, Name: "demo", StopTimeout: time.Second})
	for _, kind := range []string{demoPrepare, demoImage, demoMail, demoReport} {
		heddle.NewKind[demoArgs, demoResult](kind).Handle(w, runDemo)
	}
	return w.Run(ctx)
}

// demoResult is the result of every job of the demo.
type demoResult struct {
	Done    string `json:"done"`
	Attempt int    `json:"attempt"`
}

// runDemo takes its time, and fails as it is told to.
func runDemo(ctx context.Context, a demoArgs) (demoResult, error) {
	t := time.NewTimer(time.Duration(a.Millis) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return demoResult{}, context.Cause(ctx)
	}
	attempt := heddle.JobInfo(ctx).Attempt
	switch {
	case attempt == 1 && a.Refused:
		return demoResult{}, heddle.NoRetry(fmt.Errorf("550 mailbox unavailable: %s", a.What))
	case attempt == 1 && a.Busy:
		return demoResult{}, errors.New("451 server is busy, try again later")
	}
	return demoResult{Done: a.What, Attempt: attempt}, nil
}
