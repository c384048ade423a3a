package pagetest

import (
	"fmt"
	"testing"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

// agree answers the question on the screen with yes.
func (p *page) agree(question string) {
	p.t.Helper()
	p.sees(question)
	p.press(`dialog[open] button[type=submit]`)
	p.until(`document.querySelector("dialog[open]") === null`)
}

// failOne has one mail of a campaign fail.
func failOne(kind string, n int) error {
	if kind == "mail.send" && n == 3 {
		return errRefused
	}
	return nil
}

// A failed branch is retried on the page: the failure is taken back, what was
// skipped because of it runs, and what ran on the failure stays as it is.
func TestRetryRevivesTheGraph(t *testing.T) {
	s := newSite(t)
	c := s.crew("mailer", 10)
	c.ways(failOne)
	r := s.submit(campaign(5, 0))
	s.ended(r, heddle.Failed)
	skipped := func() int {
		return s.count(`select count(*) from heddle.finished_jobs where workflow_id = $1 and outcome = 8`, r.ID())
	}
	if n := skipped(); n != 2 {
		t.Fatalf("%d jobs are skipped, want the 2 of batch finish", n)
	}
	p := open(t, s.url, "/workflows/"+r.ID(), wide)
	p.sees("spring campaign", "1 failed", "2 skipped")
	c.ways(nil)
	p.click("Retry failed")
	p.agree("Retry all that failed in spring campaign")
	p.sees("will run again", "10 succeeded")
	p.misses("skipped")
	s.ended(r, heddle.Succeeded)
	if n := skipped(); n != 0 {
		t.Errorf("%d jobs are still skipped", n)
	}
	if n := s.count(`select count(*) from heddle.audit where workflow_id = $1 and action = 'retry' and author = 'anonymous'`, r.ID()); n != 1 {
		t.Errorf("%d retries are in the audit, want 1", n)
	}
}

// What can be done to one job, and what it does in Postgres.
func TestJobActions(t *testing.T) {
	s := newSite(t)
	c := s.crew("mailer", 10)
	c.ways(failOne)
	failed := s.submit(campaign(5, 0))
	s.ended(failed, heddle.Failed)
	var node int
	if err := s.db.QueryRow(t.Context(), `select node from heddle.finished_jobs where workflow_id = $1 and outcome = 2`, failed.ID()).Scan(&node); err != nil {
		t.Fatal(err)
	}

	p := open(t, s.url, fmt.Sprintf("/jobs/%s/%d", failed.ID(), node), wide)
	p.sees("mail.send", "550 mailbox unavailable")
	p.click("Dismiss")
	p.sees("Dismiss mail.send?")
	p.types("by hand, <b>on the telephone</b>")
	p.agree("Dismiss mail.send?")
	p.sees("Dismissed mail.send")
	s.ended(failed, heddle.Succeeded)
	if n := s.count(`select count(*) from heddle.audit where workflow_id = $1 and note = 'by hand, <b>on the telephone</b>'`, failed.ID()); n != 1 {
		t.Errorf("the note is %d times in the audit, want once", n)
	}

	later := s.submit(render.Job("later", heddle.JobOptions{RunAt: time.Now().Add(time.Hour)}))
	p.visit("/jobs/" + later.ID())
	p.sees("scheduled")
	p.click("Run now")
	s.ended(later, heddle.Succeeded)
	p.sees("succeeded")

	p.click("Delete")
	p.agree("Delete the job")
	p.until(`location.pathname.endsWith("/jobs")`)
	if n := s.count(`select count(*) from heddle.finished_jobs where workflow_id = $1`, later.ID()); n != 0 {
		t.Errorf("the deleted job is still there")
	}

	t.Cleanup(c.hold())
	running := s.submit(charge.Job(1))
	p.visit("/jobs/" + running.ID())
	p.sees("running", "mailer")
	p.click("Cancel")
	p.agree("Cancel the job")
	s.ended(running, heddle.Cancelled)
	p.sees("cancelled")
}

// Queues, workers and workflows are held back and let go.
func TestPauseAndDrain(t *testing.T) {
	s := newSite(t)
	p := open(t, s.url, "/queues", wide)
	first := s.submit(charge.Job(1))
	p.sees("billing", "No connected worker serves billing")
	p.press(`[aria-label="Actions on billing"] button`)
	p.agree("Pause the queue billing?")
	p.sees("paused")
	s.crew("mailer", 4)
	if n := s.count(`select count(*) from heddle.queues where name = 'billing' and paused_at is not null`); n != 1 {
		t.Fatal("the queue is not paused in the database")
	}
	p.click("Resume")
	s.ended(first, heddle.Succeeded)

	p.visit("/workers")
	p.sees("mailer", "billing")
	p.click("Drain")
	p.agree("Drain mailer?")
	p.sees("No worker")

	r := s.submit(campaign(3, 0))
	p.visit("/workflows/" + r.ID())
	p.click("Pause")
	p.sees("paused")
	s.crew("second", 4)
	p.click("Resume")
	s.ended(r, heddle.Succeeded)
	p.sees("succeeded")

	t.Cleanup(s.crew("third", 4).hold())
	long := s.submit(campaign(50, 0))
	p.visit("/workflows/" + long.ID())
	p.click("Cancel")
	p.agree("Cancel the workflow")
	s.ended(long, heddle.Cancelled)
	p.sees("cancelled")
}

// What can be done to a batch: retry what failed in it, seal it; and to a job
// that others wait for: give up on it.
func TestBatchActions(t *testing.T) {
	s := newSite(t)
	c := s.crew("mailer", 10)
	c.ways(failOne)
	failed := s.submit(campaign(5, 0))
	s.ended(failed, heddle.Failed)
	p := open(t, s.url, "/batches/"+failed.ID()+"/2", wide)
	p.sees("mails", "1 failed")
	c.ways(nil)
	p.click("Retry failed")
	p.agree("Retry all that failed in mails?")
	p.sees("will run again", "5 succeeded")
	s.ended(failed, heddle.Succeeded)

	wf := heddle.NewWorkflow("open end")
	batch := wf.Batch("guests", heddle.BatchOptions{Open: true})
	batch.Add(mail.Job(1))
	open1 := s.submit(wf)
	p.visit("/batches/" + open1.ID() + "/1")
	p.sees("guests", "1 succeeded", "running")
	p.click("Seal")
	p.agree("Seal guests?")
	s.ended(open1, heddle.Succeeded)

	c.ways(failOne)
	wf = heddle.NewWorkflow("held")
	first := wf.Add(mail.Job(3, heddle.JobOptions{Name: "first"})).HoldOnFailure()
	wf.Add(report.Job("then", heddle.JobOptions{Name: "then"})).After(first)
	held := s.submit(wf)
	p.visit("/jobs/" + held.ID() + "/1")
	p.sees("failed", "550 mailbox unavailable")
	p.click("Give up")
	p.agree("Give up on")
	s.ended(held, heddle.Failed)
	if n := s.count(`select count(*) from heddle.finished_jobs where workflow_id = $1 and outcome = 8`, held.ID()); n != 1 {
		t.Errorf("%d jobs are skipped, want the 1 that waited", n)
	}

	p.visit("/workflows/" + held.ID())
	p.click("Delete")
	p.agree("Delete the workflow held?")
	p.until(`location.pathname.endsWith("/workflows")`)
	if n := s.count(`select count(*) from heddle.workflows where id = $1`, held.ID()); n != 0 {
		t.Error("the deleted workflow is still there")
	}
}

// Ten thousand failed jobs of one workflow are chosen by their filter and
// retried as one operation, which is shown as it goes and keeps its author.
func TestBulkRetry(t *testing.T) {
	const jobs = 10_000
	s := newSite(t)
	c := s.crew("mailer", 200)
	c.ways(func(kind string, _ int) error {
		if kind == "card.charge" {
			return errRefused
		}
		return nil
	})
	wf := heddle.NewWorkflow("charges")
	all := wf.Batch("all")
	for i := range jobs {
		all.Add(charge.Job(i))
	}
	r := s.submit(wf)
	s.ended(r, heddle.Failed)
	c.ways(nil)

	p := open(t, s.url, "/jobs?state=failed&q=kind:card.charge", wide)
	p.sees("card.charge", "550 mailbox unavailable")
	p.press(`thead input[type=checkbox]`)
	p.click("Choose all that match")
	p.sees("All that match are chosen")
	p.picture("bulk-chosen")
	p.press(`[aria-label="Chosen jobs"] button.small`)
	p.sees("Retry 10,000 jobs?")
	p.types("the card service is back")
	p.agree("Retry 10,000 jobs?")
	p.click("Watch it")
	p.sees("Retry", "the card service is back", "anonymous")
	p.sees("10,000", "done")
	p.picture("operation")
	s.ended(r, heddle.Succeeded)
	if n := s.count(`select count(*) from heddle.finished_jobs where workflow_id = $1 and outcome = 1`, r.ID()); n != jobs {
		t.Errorf("%d jobs have succeeded, want %d", n, jobs)
	}
}

// What is chosen, filtered and opened is in the address, and comes back with it.
func TestAddressRestoresAll(t *testing.T) {
	s, done, _, _ := furnished(t)
	p := open(t, s.url, "/jobs", wide)
	p.sees("mail.send")
	p.press(`[role=tab][aria-selected=false]:nth-of-type(8), a[href*="state=failed"]`)
	p.until(`new URLSearchParams(location.search).get("state") === "failed"`)
	p.sees("550 mailbox unavailable")
	p.visit(p.address())
	p.sees("550 mailbox unavailable")
	p.visit("/workflows/" + done.ID())
	p.sees("mail.send")
	p.click("Timeline")
	p.until(`location.search.includes("view=timeline")`)
	address := p.address()
	again := open(t, s.url, address, wide)
	again.sees("mail.send")
	again.until(`document.querySelector("[role=tab][aria-selected=true], nav [aria-current]") !== null`)
	if got := again.address(); got != address {
		t.Errorf("the address %q became %q", address, got)
	}
}
