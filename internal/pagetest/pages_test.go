package pagetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

// furnished is a site on which something of everything is to be seen.
func furnished(t *testing.T) (s *site, done, failed, running *heddle.Run) {
	t.Helper()
	s = newSite(t)
	c := s.crew("mailer-1", 20)
	c.ways(func(kind string, n int) error {
		switch {
		case kind == "mail.send" && n%10 == 0:
			return errRefused
		case kind == "mail.send" && n%25 == 1:
			return fmt.Errorf("451 mailbox %d is busy, try again", n)
		}
		return nil
	})
	done = s.submit(campaign(200, 20))
	s.ended(done, heddle.Succeeded)
	failed = s.submit(campaign(60, 0))
	s.ended(failed, heddle.Failed)
	s.submit(render.Job("later", heddle.JobOptions{RunAt: time.Now().Add(time.Hour)}))
	s.submit(charge.Job(7, heddle.JobOptions{Queue: "unserved"}))
	t.Cleanup(c.hold())
	running = s.submit(campaign(120, 5))
	return s, done, failed, running
}

// Every page shows real data, in both themes, on wide and narrow screens, and
// axe finds nothing serious on any.
func TestEveryPage(t *testing.T) {
	s, done, failed, running := furnished(t)
	for _, p := range []struct {
		name, path string
		sees       []string
	}{
		{"overview", "/", []string{"Overview", "mail.send", "… mailbox unavailable"}},
		{"jobs", "/jobs", []string{"Jobs", "mail.send"}},
		{"jobs-failed", "/jobs?state=failed", []string{"mail.send", "550 mailbox unavailable"}},
		{"job-failed", "/jobs/" + failed.ID() + "/3", []string{"mail.send", "550 mailbox unavailable"}},
		{"batches", "/batches", []string{"mails", "finish"}},
		{"batch", "/batches/" + failed.ID() + "/2", []string{"mails", "failed"}},
		{"workflows", "/workflows", []string{"spring campaign"}},
		{"workflow-graph", "/workflows/" + done.ID(), []string{"spring campaign", "mail.send", "letter"}},
		{"workflow-running", "/workflows/" + running.ID(), []string{"spring campaign", "running"}},
		{"workflow-failed", "/workflows/" + failed.ID(), []string{"spring campaign", "failed"}},
		{"workflow-timeline", "/workflows/" + done.ID() + "?view=timeline", []string{"mail.send"}},
		{"workflow-table", "/workflows/" + done.ID() + "?view=table", []string{"mail.send", "letter"}},
		{"workflow-events", "/workflows/" + done.ID() + "?view=events", []string{"submitted"}},
		{"recurring", "/recurring", []string{"Recurring"}},
		{"queues", "/queues", []string{"default", "billing", "unserved", "/s"}},
		{"workers", "/workers", []string{"mailer-1", "of 20 slots"}},
		{"cluster", "/cluster", []string{"Cluster", "leader"}},
		{"operations", "/operations", []string{"Operations"}},
	} {
		t.Run(p.name, func(t *testing.T) {
			for view, l := range map[string]look{"light": wide, "dark": wide.inTheDark(), "narrow": narrow} {
				tab := open(t, s.url, p.path, l)
				tab.sees(p.sees...)
				tab.settled()
				tab.picture(p.name + "-" + view)
				tab.accessible()
				if over := ask[float64](tab, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
					t.Errorf("%s: the page is %v px wider than the screen", view, over)
				}
				tab.close()
			}
		})
	}
}

// An address that is none is said to be none, and the page goes on.
func TestNoSuchPage(t *testing.T) {
	s := newSite(t)
	p := open(t, s.url, "/nowhere/at/all", wide)
	p.sees("not")
	p.click("Jobs")
	p.until(`location.pathname.endsWith("/jobs")`)
	p = open(t, s.url, "/workflows/01900000-0000-7000-8000-000000000000", wide)
	p.sees("not found")
}

// Without anything in it the page teaches.
func TestEmpty(t *testing.T) {
	s := newSite(t)
	p := open(t, s.url, "/jobs", wide)
	p.sees("curl")
	p.picture("empty-jobs")
	if !strings.Contains(p.text(), "Submit") {
		t.Errorf("the empty page does not show how to submit a job:\n%s", p.text())
	}
}
