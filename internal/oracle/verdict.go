package oracle

import (
	"fmt"
	"strings"
	"time"
)

// Sort says which promise of the user's a violation breaks.
type Sort string

// The sorts of violations.
const (
	// Lost: something acknowledged is gone (I8, I9), or never comes to its end
	// (I12).
	Lost Sort = "lost"
	// Twice: a job ran beside itself, or again after its end (I5, I9).
	Twice Sort = "run twice"
	// Charged: an attempt was counted that nobody made (I7).
	Charged Sort = "charged"
	// Order: something ran before what it waits for (I4).
	Order Sort = "order"
	// Tables contradict themselves or the log (I1, I2, I3).
	Tables Sort = "tables"
	// Fence: an older reign wrote after a newer one had taken over (I6).
	Fence Sort = "fence"
	// Late: a job did not start although a worker was free (I10).
	Late Sort = "late"
)

// Violation is one broken promise.
type Violation struct {
	// Invariant as in ARCHITECTURE.md: "I5".
	Invariant string
	Sort      Sort
	// Subject is the job, batch, workflow or worker it is about.
	Subject string
	// Text says what is wrong.
	Text string
	// Runs of the job, if it is about one.
	Runs []string
}

func (v Violation) String() string {
	s := fmt.Sprintf("%s (%s) %s: %s", v.Invariant, v.Sort, v.Subject, v.Text)
	if len(v.Runs) > 0 {
		s += "\n\t" + strings.Join(v.Runs, "\n\t")
	}
	return s
}

// maxViolations bounds what is kept of them; the rest is only counted.
const maxViolations = 1000

// Verdict is what Judge found.
type Verdict struct {
	// Violations, at most 1,000; Count counts all, by their sort.
	Violations []Violation
	Count      map[Sort]int

	// What was looked at.
	Submissions, Jobs, Runs, Events int
	// Losses are the attempts that were counted because a session was lost,
	// rightly or not.
	Losses int
	// Latest is the longest that a lone job waited for its start although a
	// worker was free and nothing was broken.
	Latest time.Duration
}

// Sound: nothing was found.
func (v *Verdict) Sound() bool { return len(v.Violations) == 0 }

func (v *Verdict) String() string {
	return fmt.Sprintf("%d submissions, %d jobs, %d runs, %d events, %d lost attempts, latest start %v: %d violations",
		v.Submissions, v.Jobs, v.Runs, v.Events, v.Losses, v.Latest.Round(time.Millisecond), v.total())
}

func (v *Verdict) total() int {
	n := 0
	for _, c := range v.Count {
		n += c
	}
	return n
}

func (v *Verdict) add(found ...Violation) {
	if v.Count == nil {
		v.Count = make(map[Sort]int)
	}
	for _, f := range found {
		v.Count[f.Sort]++
		if len(v.Violations) < maxViolations {
			v.Violations = append(v.Violations, f)
		}
	}
}
