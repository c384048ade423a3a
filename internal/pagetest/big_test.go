package pagetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	heddle "github.com/heddle-io/heddle/sdk"
)

// A workflow of 100,000 jobs is one picture, at once and in few elements, and
// nothing of it is cut off silently.
func TestHundredThousand(t *testing.T) {
	const jobs = 100_000
	s := newSite(t)
	wf := heddle.NewWorkflow("newsletter")
	letter := wf.Add(render.Job("news", heddle.JobOptions{Name: "letter"}))
	mails := wf.Batch("mails").After(letter)
	for i := range jobs {
		mails.Add(mail.Job(i))
	}
	wf.Add(report.Job("done", heddle.JobOptions{Name: "report"})).After(mails.On(heddle.Finished))
	r := s.submit(wf)

	body, err := json.Marshal(map[string]any{"workflowId": r.ID()})
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(s.url+"/heddle.v1.WorkflowService/Graph", "application/json", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK || len(answer) >= 100_000 {
		t.Errorf("the graph's answer: %s, %d bytes, want fewer than 100,000 (%v)", res.Status, len(answer), err)
	}

	p := open(t, s.url, "/workflows", wide)
	p.sees("newsletter")
	begun := time.Now()
	p.click("newsletter")
	p.until(`document.querySelector("svg .card") !== null`)
	first := time.Since(begun)
	t.Logf("first picture after %v, answer %d bytes", first.Round(time.Millisecond), len(answer))
	if first > 1500*time.Millisecond {
		t.Errorf("the first picture came after %v, want 1.5 s", first)
	}
	p.sees("×100K")
	if n := ask[int](p, `document.querySelectorAll("svg .card *, svg .card").length`); n >= 600 {
		t.Errorf("%d elements in cards, want fewer than 600", n)
	}
	p.picture("workflow-100k")

	s.crew("mailer", 500)
	p.sees("of 100,002 jobs")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if outcome, err := r.Wait(ctx); err != nil || outcome != heddle.Succeeded {
		t.Fatal(outcome, err)
	}
	p.sees("100,002 of 100,002 jobs", "succeeded")
	p.click("Timeline")
	p.sees("mail.send")
	p.settled()
	p.picture("timeline-100k")
	p.click("Table")
	p.sees("letter.render")
	p.click("Events")
	p.sees("newsletter succeeded", "report succeeded on mailer")
}

// The page shows a campaign as it runs, without anyone asking again.
func TestLiveProgress(t *testing.T) {
	s := newSite(t)
	c := s.crew("mailer", 8)
	release := c.hold()
	r := s.submit(campaign(40, 0))
	p := open(t, s.url, "/workflows/"+r.ID(), wide)
	p.sees("0 of 45 jobs", "running")
	release()
	p.sees("45 of 45 jobs")
	s.ended(r, heddle.Succeeded)
	p.sees("succeeded")
	if n := ask[int](p, `performance.getEntriesByType("resource").filter((e) => e.name.includes("LiveService/Watch")).length`); n > 1 {
		t.Errorf("%d streams were opened, want at most one that is still open", n)
	}
}

// The graph is walked along its edges with the keyboard, opened and closed.
func TestKeyboardWalk(t *testing.T) {
	s := newSite(t)
	s.crew("mailer", 8)
	r := s.submit(campaign(40, 0))
	s.ended(r, heddle.Succeeded)
	p := open(t, s.url, "/workflows/"+r.ID(), wide)
	p.sees("letter", "mail.send")
	at := func(name string) {
		t.Helper()
		p.until(fmt.Sprintf(`(document.activeElement?.textContent || "").trim().startsWith(%q)`, name))
	}
	p.clickAt(`[...document.querySelectorAll("svg [role=button]")].find((e) => e.textContent.trim().startsWith("letter"))`)
	at("letter")
	p.types(kb.ArrowRight)
	at("mails")
	p.types(kb.ArrowLeft)
	at("letter")
	p.types(kb.ArrowRight)
	p.types(kb.ArrowRight)
	p.until(`/^(finish|list refusals|summary)/.test((document.activeElement?.textContent || "").trim())`)
	p.until(`location.search.includes("sel=")`)
	p.types("?")
	p.sees("keys")
	p.picture("keys")
	p.types(escape)
	p.types("g")
	p.types("q")
	p.until(`location.pathname.endsWith("/queues")`)
	p.types("/")
	p.until(`document.activeElement?.tagName === "INPUT"`)
	p.types("kind:mail.send" + enter)
	p.until(`location.pathname.endsWith("/jobs")`)
	p.sees("mail.send")
}
