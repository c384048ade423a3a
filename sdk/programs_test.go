package heddle_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
	"github.com/heddle-io/heddle/sdk/sdktest"
)

// The programs of the SDK's design, as a user would write them, run by sdktest.

type Campaign struct{ ID string }
type Email struct{ Campaign, To string }
type Receipt struct{ MessageID string }
type Letter struct{ Subject, HTML string }

var (
	Render = heddle.NewKind[Campaign, Letter]("letter.render")
	Send   = heddle.NewKind[Email, Receipt]("email.send", heddle.JobOptions{Queue: "bulk"})
	Report = heddle.NewKind[Campaign, heddle.None]("campaign.report")
	Alert  = heddle.NewKind[Campaign, heddle.None]("campaign.alert")
)

// campaignWorkflow renders once, sends to everybody, reports at the end, and
// alerts if more than 2 % fail.
func campaignWorkflow(id string, to iter.Seq[string]) *heddle.Workflow {
	wf := heddle.NewWorkflow("campaign")
	letter := wf.Add(Render.Job(Campaign{id}, heddle.JobOptions{Name: "letter"}))
	emails := wf.Batch("emails", heddle.BatchOptions{Tolerance: heddle.Percent(2)}).After(letter)
	emails.AddAll(func(yield func(heddle.Job) bool) {
		for addr := range to {
			if !yield(Send.Job(Email{Campaign: id, To: addr})) {
				return
			}
		}
	})
	wf.Add(Report.Job(Campaign{id}, heddle.JobOptions{Name: "report"})).After(emails.On(heddle.Finished))
	wf.Add(Alert.Job(Campaign{id}, heddle.JobOptions{Name: "alert"})).After(emails.On(heddle.Failed))
	return wf
}

var errBounced, errBusy = errors.New("bounced"), errors.New("busy")

// post is a mail server that refuses some and is busy now and then.
type post struct{ sent, lost int64 }

func (p *post) smtp(_ context.Context, to string, attempt int) (string, error) {
	switch {
	case strings.HasPrefix(to, "gone"):
		return "", errBounced
	case strings.HasPrefix(to, "busy") && attempt == 1:
		return "", errBusy
	}
	return "m-" + to, nil
}

func (p *post) send(ctx context.Context, e Email) (Receipt, error) {
	id, err := p.smtp(ctx, e.To, heddle.JobInfo(ctx).Attempt)
	switch {
	case errors.Is(err, errBounced):
		return Receipt{}, heddle.NoRetry(err)
	case errors.Is(err, errBusy):
		return Receipt{}, heddle.RetryAfter(err, time.Minute)
	case err != nil && errors.Is(context.Cause(ctx), heddle.ErrShutdown):
		return Receipt{}, err // goes back to the front of its queue, uncounted
	}
	return Receipt{id}, err
}

// report streams the results of a batch of any size.
func (p *post) report(ctx context.Context, _ Campaign) error {
	for m, err := range Send.Results(ctx, "emails") {
		if err != nil {
			return err
		}
		if m.Outcome == heddle.Succeeded {
			p.sent++
		} else {
			p.lost++
		}
	}
	heddle.Progress(ctx, p.sent, p.sent+p.lost, "sent")
	return nil
}

func register(w heddle.Registry, p *post) {
	Render.Handle(w, func(context.Context, Campaign) (Letter, error) {
		return Letter{Subject: "News", HTML: "<p>Hello</p>"}, nil
	})
	Send.Handle(w, p.send)
	Report.Do(w, p.report)
	Alert.Do(w, func(context.Context, Campaign) error { return nil })
}

func TestCampaign(t *testing.T) {
	addrs := slices.Repeat([]string{"a", "b", "busy"}, 66)
	for name, c := range map[string]struct {
		to    []string
		want  map[string]heddle.Outcome
		calls int
	}{
		"within tolerance": {append(addrs, "gone", "gone"), map[string]heddle.Outcome{"emails": heddle.Succeeded, "report": heddle.Succeeded, "alert": heddle.Skipped, "": heddle.Succeeded}, 200 + 66},
		"beyond tolerance": {append(addrs, "gone", "gone", "gone", "gone", "gone"), map[string]heddle.Outcome{"emails": heddle.Failed, "report": heddle.Succeeded, "alert": heddle.Succeeded, "": heddle.Failed}, 203 + 66},
	} {
		t.Run(name, func(t *testing.T) {
			e, p := sdktest.New(t), &post{}
			register(e, p)
			run := e.Submit(campaignWorkflow("1", slices.Values(c.to)))
			e.Drain()
			run.Want(c.want)
			if p.sent != 198 || p.lost != int64(len(c.to)-198) {
				t.Errorf("%d sent, %d lost", p.sent, p.lost)
			}
			if n := len(sdktest.Calls(e, Send)); n != c.calls {
				t.Errorf("%d attempts, want %d", n, c.calls)
			}
		})
	}
}

type Quote struct{ Carrier string }
type Price struct{ Cents int }

var (
	Ask  = heddle.NewKind[Quote, Price]("quote.ask")
	Pick = heddle.NewKind[heddle.None, string]("quote.pick")
)

// quotes asks three carriers and goes on with the first two answers.
func quotes() *heddle.Workflow {
	wf := heddle.NewWorkflow("quotes")
	var asks []heddle.Parent
	for _, name := range []string{"dhl", "ups", "gls"} {
		asks = append(asks, wf.Add(Ask.Job(Quote{name}, heddle.JobOptions{Name: name})))
	}
	wf.Add(Pick.Job(heddle.None{}, heddle.JobOptions{Name: "pick"})).AfterAtLeast(2, asks...)
	return wf
}

func pick(ctx context.Context, _ heddle.None) (best string, err error) {
	least := 0
	for _, name := range []string{"dhl", "ups", "gls"} {
		p, err := Ask.Result(ctx, name) // ErrNoResult: not ended, or not well
		if err == nil && (best == "" || p.Cents < least) {
			best, least = name, p.Cents
		}
	}
	return best, nil
}

func TestFanIn(t *testing.T) {
	e := sdktest.New(t)
	Ask.Handle(e, func(_ context.Context, q Quote) (Price, error) {
		switch q.Carrier {
		case "dhl":
			return Price{700}, nil
		case "ups":
			return Price{}, heddle.NoRetry(errors.New("closed"))
		}
		return Price{650}, nil
	})
	Pick.Handle(e, pick)
	run := e.Submit(quotes())
	e.Drain()
	run.Want(map[string]heddle.Outcome{"pick": heddle.Succeeded, "ups": heddle.Failed})
	if best := sdktest.Result(run, Pick, "pick"); best != "gls" {
		t.Errorf("picked %q", best)
	}
}

type Page struct {
	URL   string
	Depth int
}

var (
	Crawl = heddle.NewKind[Page, int]("crawl.page")
	Index = heddle.NewKind[heddle.None, heddle.None]("crawl.index")
)

// crawlWorkflow: the batch grows while it runs; the index starts when no page is
// left.
func crawlWorkflow(root string) *heddle.Workflow {
	wf := heddle.NewWorkflow("crawl")
	pages := wf.Batch("pages", heddle.BatchOptions{Tolerance: heddle.Percent(10)})
	pages.Add(Crawl.Job(Page{root, 3}))
	wf.Add(Index.Job(heddle.None{}, heddle.JobOptions{Name: "index"})).After(pages)
	return wf
}

func crawl(ctx context.Context, p Page) (int, error) {
	links := []string{p.URL + "/a", p.URL + "/b"}
	then := heddle.Then(ctx) // committed with this job's success, in its batch
	for _, l := range links {
		if p.Depth > 0 {
			then.Add(Crawl.Job(Page{l, p.Depth - 1}))
		}
	}
	return len(links), nil
}

func TestCrawl(t *testing.T) {
	e := sdktest.New(t)
	Crawl.Handle(e, crawl)
	sdktest.Stub(e, Index, heddle.None{})
	run := e.Submit(crawlWorkflow("http://x"))
	e.Drain()
	run.Want(map[string]heddle.Outcome{"pages": heddle.Succeeded, "index": heddle.Succeeded, "": heddle.Succeeded})
	if n := len(sdktest.Calls(e, Crawl)); n != 15 {
		t.Errorf("%d pages", n)
	}
}
