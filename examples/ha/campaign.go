package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	"github.com/heddle-io/heddle/internal/oracle"
	heddle "github.com/heddle-io/heddle/sdk"
)

var (
	renderKind = heddle.NewKind[string, string]("render")
	sendKind   = heddle.NewKind[int, string]("send", heddle.JobOptions{
		Retry: &heddle.Retry{Attempts: 5, Backoff: heddle.Exponential, Initial: 50 * time.Millisecond},
	})
	countKind = heddle.NewKind[heddle.None, int]("count")
)

const (
	// mails of one campaign, and how many campaigns are under way at once.
	mails     = 50
	campaigns = 8
)

// build makes the graph: a letter, a mail to everybody, and then the count.
func build(id string) (wf *heddle.Workflow, jobs int) {
	wf = heddle.NewWorkflow("campaign", heddle.WorkflowOptions{ID: id})
	letter := wf.Add(renderKind.Job("the new looms are here", heddle.JobOptions{Name: "letter"}))
	batch := wf.Batch("mails").After(letter)
	for i := range mails {
		batch.Add(sendKind.Job(i))
	}
	wf.Add(countKind.Job(heddle.None{})).After(batch)
	return wf, mails + 2
}

// campaigns runs some campaigns at once, and begins the next as soon as one has
// ended, until ctx ends; then it waits for the last ones.
func (h *heddles) campaigns(ctx context.Context) error {
	// While there is no leader, or the submitter's node is away, calls are
	// repeated by the client.
	client, err := heddle.NewClient(heddle.ClientConfig{Addrs: h.cluster.URLs(), RetryFor: time.Minute, Logger: quiet})
	if err != nil {
		return err
	}
	defer client.Close()
	errs := make([]error, campaigns)
	var all sync.WaitGroup
	for i := range campaigns {
		all.Go(func() {
			for errs[i] == nil && ctx.Err() == nil {
				errs[i] = h.campaign(context.WithoutCancel(ctx), client)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (h *heddles) campaign(ctx context.Context, client *heddle.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	id := uuid.Must(uuid.NewV7()).String()
	wf, jobs := build(id)
	e := oracle.Event{What: oracle.Submitting, Workflow: id, Jobs: jobs, Want: heddle.Succeeded}
	h.journal.Write(e)
	run, err := client.Submit(ctx, wf)
	if err != nil {
		return fmt.Errorf("submit a campaign: %w", err)
	}
	e.What = oracle.Submitted
	h.journal.Write(e)
	if outcome, err := run.Wait(ctx); err != nil || outcome != heddle.Succeeded {
		return fmt.Errorf("campaign %s: ended %v: %w", id, outcome, err)
	}
	return nil
}

var quiet = slog.New(slog.DiscardHandler)

// workerMain is a worker process: its arguments are its name, the file of its
// journal, and the addresses of the engines.
func workerMain(ctx context.Context, args []string) error {
	if len(args) < 3 {
		return errors.New("usage: ha worker NAME JOURNAL ENGINES")
	}
	journal, err := oracle.OpenJournal(args[1], args[0])
	if err != nil {
		return err
	}
	defer journal.Close()
	// The witness writes down every start, every end and every answer.
	witness := oracle.NewWitness(journal)
	client, err := heddle.NewClient(heddle.ClientConfig{
		Addrs: args[2:], Interceptors: []connect.Interceptor{witness}, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	w := heddle.NewWorker(client, heddle.WorkerConfig{
		Name: args[0], Slots: 20, StopTimeout: time.Second, Middleware: []func(heddle.HandlerFunc) heddle.HandlerFunc{witness.Handler},
	})
	renderKind.Handle(w, func(_ context.Context, subject string) (string, error) { return "Dear you, " + subject, nil })
	sendKind.Handle(w, send)
	countKind.Handle(w, func(ctx context.Context, _ heddle.None) (int, error) {
		sent := 0
		for m, err := range sendKind.Results(ctx, "mails") {
			if err != nil {
				return 0, err
			}
			if m.Outcome == heddle.Succeeded {
				sent++
			}
		}
		return sent, nil
	})
	return w.Run(ctx)
}

// send takes as long as a mail server does; each seventh mail is put off once.
func send(ctx context.Context, mail int) (string, error) {
	t := time.NewTimer(time.Duration(20+mail%7*10) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if job := heddle.JobInfo(ctx); mail%7 == 0 && job.Attempt == 1 {
		return "", errors.New("come back later")
	}
	return fmt.Sprintf("mail %d", mail), nil
}
