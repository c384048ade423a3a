package main

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// The kinds of the demo's jobs, and their queue.
const (
	demoQueue   = "demo"
	demoPrepare = "demo.prepare"
	demoImage   = "demo.image"
	demoMail    = "demo.mail"
	demoReport  = "demo.report"
)

// demoArgs are the arguments of every job of the demo.
type demoArgs struct {
	What string `json:"what"`
	// Millis is how long the job takes.
	Millis int `json:"millis"`
	// Busy: the first attempt fails, and the next one may not. Refused: it fails
	// for good, until somebody retries it.
	Busy    bool `json:"busy,omitempty"`
	Refused bool `json:"refused,omitempty"`
}

// demo builds the workflow that the page offers where there is none yet: a mail
// campaign in three regions, of which one runs into addresses that refuse mail.
//
//	audience ─┬─▶ images (batch) ─┬─▶ mails (batch) ─┬─ succeeded ─▶ thanks ──────────┬─▶ summary
//	letter ───┘                   │    europe        └─ failed ────▶ refused ─▶ clean ─┘
//	                              │    americas
//	                              │    asia
//	                              └─▶ reminder (45 s later)
func demo() ([]byte, error) {
	b := &demoGraph{}
	b.job("", "audience", demoPrepare, demoArgs{What: "choose who gets the mail", Millis: 900})
	b.job("", "letter", demoPrepare, demoArgs{What: "write the letter", Millis: 1400})
	b.batch("", "images", after("audience"), after("letter"))
	for i := range 16 {
		b.job("images", fmt.Sprintf("loom-%02d", i+1), demoImage, demoArgs{What: "scale an image", Millis: 300 + 137*i%700})
	}
	b.batch("", "mails", after("images"))
	for _, r := range []struct {
		name          string
		mails         int
		busy, refused int // every so-manieth; 0: none
	}{{"europe", 70, 9, 0}, {"americas", 50, 11, 0}, {"asia", 55, 0, 13}} {
		at := "mails/" + r.name
		b.batch("mails", r.name)
		b.job(at, "warm-up", demoPrepare, demoArgs{What: "open connections to " + r.name, Millis: 700})
		b.batch(at, "all", after(at+"/warm-up"))
		for i := 1; i <= r.mails; i++ {
			b.job(at+"/all", "", demoMail, demoArgs{
				What: fmt.Sprintf("mail %d to %s", i, r.name), Millis: 400 + 271*i%1600,
				Busy: r.busy > 0 && i%r.busy == 0, Refused: r.refused > 0 && i%r.refused == 0,
			})
		}
	}
	reminder := b.job("", "reminder", demoMail, demoArgs{What: "remind who has not answered", Millis: 500}, after("images"))
	reminder.GetJob().Options.Delay = durationpb.New(45 * time.Second)
	b.job("", "thanks", demoReport, demoArgs{What: "thank the team", Millis: 600}, after("mails"))
	b.job("", "refused", demoReport, demoArgs{What: "list the addresses that refused", Millis: 1200}, after("mails", heddlev1.Outcome_OUTCOME_FAILED))
	b.job("", "clean", demoReport, demoArgs{What: "take them off the list", Millis: 800}, after("refused"))
	always := []heddlev1.Outcome{heddlev1.Outcome_OUTCOME_SUCCEEDED, heddlev1.Outcome_OUTCOME_FAILED, heddlev1.Outcome_OUTCOME_CANCELLED, heddlev1.Outcome_OUTCOME_SKIPPED}
	b.job("", "summary", demoReport, demoArgs{What: "sum it up", Millis: 500}, after("thanks", always...), after("clean", always...))
	if b.err != nil {
		return nil, b.err
	}
	return protojson.Marshal(&heddlev1.SubmitRequest{Submissions: []*heddlev1.Submission{{
		Name: "spring-campaign", Work: &heddlev1.Submission_Graph{Graph: &heddlev1.Graph{Nodes: b.nodes}},
	}}})
}

// demoGraph gathers nodes.
type demoGraph struct {
	nodes []*heddlev1.NodeSpec
	err   error
}

func after(path string, on ...heddlev1.Outcome) *heddlev1.ParentRef {
	return &heddlev1.ParentRef{Path: path, On: on}
}

func (b *demoGraph) add(in, name string, after []*heddlev1.ParentRef) *heddlev1.NodeSpec {
	n := &heddlev1.NodeSpec{In: in, Name: name, After: after}
	b.nodes = append(b.nodes, n)
	return n
}

func (b *demoGraph) batch(in, name string, after ...*heddlev1.ParentRef) {
	b.add(in, name, after).Node = &heddlev1.NodeSpec_Batch{Batch: &heddlev1.BatchSpec{}}
}

func (b *demoGraph) job(in, name, kind string, args demoArgs, after ...*heddlev1.ParentRef) *heddlev1.NodeSpec {
	body, err := json.Marshal(args)
	if err != nil {
		b.err = err
	}
	n := b.add(in, name, after)
	n.Node = &heddlev1.NodeSpec_Job{Job: &heddlev1.JobSpec{
		Kind: kind, Queue: demoQueue, ArgsJson: string(body),
		Options: &heddlev1.JobOptions{Retry: &heddlev1.RetryPolicy{
			Attempts: 4, Backoff: heddlev1.Backoff_BACKOFF_FIXED, Initial: durationpb.New(4 * time.Second),
		}},
	}}
	return n
}
