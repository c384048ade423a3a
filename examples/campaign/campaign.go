package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

// campaign is the arguments of the jobs that are about all of it.
type campaign struct {
	ID      string
	Subject string
}

// email is the arguments of one mail.
type email struct {
	Campaign, Address, Name string
}

// letter is what render makes: a subject and a text with {name} in it.
type letter struct{ Subject, Text string }

// receipt is the result of one mail.
type receipt struct {
	MessageID string
	// Attempt that delivered it, from 1.
	Attempt int
	// Known tells that the ledger had it: an attempt before this one had sent
	// it and died before it could say so.
	Known bool
}

// counts is the result of the summary.
type counts struct{ Sent, Refused, Retried int }

var (
	renderKind = heddle.NewKind[campaign, letter]("campaign.render")
	sendKind   = heddle.NewKind[email, receipt]("campaign.send", heddle.JobOptions{
		Queue: "bulk",
		Retry: &heddle.Retry{Attempts: 6, Backoff: heddle.Exponential, Initial: 200 * time.Millisecond, Max: 2 * time.Second},
	})
	finishKind    = heddle.NewKind[campaign, heddle.None]("campaign.finish")
	complaintKind = heddle.NewKind[campaign, []string]("campaign.refused")
	summaryKind   = heddle.NewKind[campaign, counts]("campaign.summary")
)

// build makes the graph:
//
//	letter ─▶ emails (a batch, a job each) ─┬─ succeeded ─▶ finish ──┬─▶ summary
//	                                        └─ failed ────▶ refused ─┘
//
// The batch succeeds as long as no more than tolerance percent of it fail.
func build(c campaign, to []recipient, tolerance float64) *heddle.Workflow {
	wf := heddle.NewWorkflow("campaign")
	text := wf.Add(renderKind.Job(c, heddle.JobOptions{Name: "letter"}))
	emails := wf.Batch("emails", heddle.BatchOptions{Tolerance: heddle.Percent(tolerance)}).After(text)
	emails.AddAll(func(yield func(heddle.Job) bool) {
		for _, r := range to {
			if !yield(sendKind.Job(email{Campaign: c.ID, Address: r.Address, Name: r.Name})) {
				return
			}
		}
	})
	finish := wf.Add(finishKind.Job(c, heddle.JobOptions{Name: "finish"})).After(emails)
	refused := wf.Add(complaintKind.Job(c, heddle.JobOptions{Name: "refused"})).After(emails.On(heddle.Failed))
	wf.Add(summaryKind.Job(c, heddle.JobOptions{Name: "summary"})).
		After(finish.On(heddle.Always), refused.On(heddle.Always))
	return wf
}

// office is what the handlers need.
type office struct {
	post    *postOffice
	ledger  *ledger
	letters sync.Map // by campaign: read once per worker, not once per mail
}

func (o *office) register(w heddle.Registry) {
	renderKind.Handle(w, o.render)
	sendKind.Handle(w, o.send)
	finishKind.Do(w, o.finish)
	complaintKind.Handle(w, o.complain)
	summaryKind.Handle(w, o.summarise)
}

func (o *office) render(_ context.Context, c campaign) (letter, error) {
	return letter{Subject: c.Subject, Text: "Dear {name},\n\nthe new looms are here.\n"}, nil
}

// send delivers one mail. It may run twice for the same mail: a worker that
// dies after the mail server said yes and before its report has arrived leaves
// a job that runs again. So it asks the ledger first and writes the ledger
// right after; what is left is the moment between the two.
func (o *office) send(ctx context.Context, e email) (receipt, error) {
	job := heddle.JobInfo(ctx)
	r := receipt{MessageID: fmt.Sprintf("<%s.%s>", e.Campaign, e.Address), Attempt: job.Attempt}
	known, err := o.ledger.sent(ctx, r.MessageID)
	if err != nil {
		return r, err
	}
	if known {
		r.Known = true
		return r, nil
	}
	text, err := o.letter(ctx, e.Campaign)
	if err != nil {
		return r, err
	}
	if err := o.post.deliver(ctx, e.Address, r.MessageID, text.Subject, text.textFor(e.Name)); err != nil {
		if refusedForGood(err) {
			return r, heddle.NoRetry(err)
		}
		return r, err // put off: the policy says when to come back
	}
	return r, o.ledger.record(ctx, r.MessageID)
}

// letter reads the result of the job "letter", which the batch waited for.
func (o *office) letter(ctx context.Context, campaign string) (letter, error) {
	if known, ok := o.letters.Load(campaign); ok {
		return known.(letter), nil
	}
	text, err := renderKind.Result(ctx, "letter")
	if err == nil {
		o.letters.Store(campaign, text)
	}
	return text, err
}

// finish marks the campaign finished and tells the administrator.
func (o *office) finish(ctx context.Context, c campaign) error {
	if err := o.ledger.finish(ctx, c.ID); err != nil {
		return err
	}
	return o.post.deliver(ctx, administrator, "<"+c.ID+".finished>", "campaign finished", "All mails are out.\n")
}

// complain lists the addresses that were refused.
func (o *office) complain(ctx context.Context, c campaign) ([]string, error) {
	var refused []string
	for m, err := range sendKind.Results(ctx, "emails") {
		if err != nil {
			return nil, err
		}
		if m.Outcome != heddle.Succeeded {
			refused = append(refused, m.Error)
		}
	}
	return refused, nil
}

// summarise streams the results of the batch, of whatever size it is.
func (o *office) summarise(ctx context.Context, c campaign) (counts, error) {
	var sum counts
	for m, err := range sendKind.Results(ctx, "emails") {
		switch {
		case err != nil:
			return sum, err
		case m.Outcome != heddle.Succeeded:
			sum.Refused++
		default:
			sum.Sent++
			if m.Value.Attempt > 1 {
				sum.Retried++
			}
		}
	}
	return sum, nil
}
