package faults

import (
	"fmt"
	"slices"
	"testing"
	"time"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	heddle "github.com/heddle-io/heddle/sdk"
)

// oracle judges a test from its event log and the tables, after everything has
// settled.
type oracle struct {
	events []event
	tables *tables
	subs   []*submission
	// killed names the workers whose processes were killed: what they held was
	// lost with them.
	killed map[string]bool

	// faults found.
	faults []string
}

// judge checks all it can.
func judge(t testing.TB, dsn string, v *events, subs []*submission, killed ...string) {
	t.Helper()
	o := &oracle{events: v.read(), tables: readTables(t, dsn), subs: subs, killed: make(map[string]bool)}
	for _, name := range killed {
		o.killed[name] = true
	}
	o.judge()
	for i, fault := range o.faults {
		if i == 20 {
			t.Errorf("and %d more", len(o.faults)-i)
			break
		}
		t.Error(fault)
	}
	t.Logf("judged %d submissions, %d jobs, %d events", len(subs), len(o.tables.finished), len(o.events))
}

func (o *oracle) judge() {
	o.nothingLost()
	o.oneRow()
	o.countersOfBatches()
	o.acknowledgedOnce()
	o.attemptsCounted()
	o.neverTwiceAtOnce()
	o.parentsFirst()
}

// fault notes a violation.
func (o *oracle) fault(format string, args ...any) {
	o.faults = append(o.faults, fmt.Sprintf(format, args...))
}

// nothingLost: each acknowledged submission exists entirely and has ended as
// it must; one that was not acknowledged exists entirely or not at all (I8).
func (o *oracle) nothingLost() {
	jobs := make(map[string]int)
	for j := range o.tables.finished {
		jobs[j.workflow]++
	}
	for _, s := range o.subs {
		n := jobs[s.id]
		if !s.acked && n == 0 {
			continue
		}
		if n != s.jobs {
			o.fault("workflow %s (acknowledged: %v) has %d finished jobs, want %d (I8)", s.id, s.acked, n, s.jobs)
			continue
		}
		var outcome heddle.Outcome
		if s.lone {
			outcome = o.tables.finished[job{s.id, 1}].outcome
		} else if root := o.tables.batches[job{s.id, 0}]; root != nil {
			outcome = root.outcome
		}
		if outcome != s.want {
			o.fault("workflow %s ended %v, want %v", s.id, outcome, s.want)
		}
	}
}

// oneRow: a job is open or finished, and only one of them (I1); after settling
// nothing is open (I12).
func (o *oracle) oneRow() {
	for j, text := range o.tables.open {
		if o.tables.finished[j] != nil {
			o.fault("job %v is open and finished (I1)", j)
		} else {
			o.fault("job %v is open for ever: %s (I12)", j, text)
		}
	}
	if o.tables.cascades != 0 {
		o.fault("%d cascades are left", o.tables.cascades)
	}
}

// countersOfBatches: they equal the members by outcome (I3).
func (o *oracle) countersOfBatches() {
	count := make(map[job]*batch)
	in := func(workflow string, parent int32) *batch {
		at := job{workflow, parent}
		if count[at] == nil {
			count[at] = &batch{}
		}
		return count[at]
	}
	add := func(b *batch, outcome heddle.Outcome) {
		b.total++
		switch outcome {
		case heddle.Succeeded:
			b.succeeded++
		case heddle.Failed:
			b.failed++
		case heddle.Cancelled:
			b.cancelled++
		case heddle.Skipped:
			b.skips++
		}
	}
	for j, f := range o.tables.finished {
		if f.batch != nil {
			add(in(j.workflow, *f.batch), f.outcome)
		}
	}
	for at, b := range o.tables.batches {
		if at.node != 0 {
			add(in(at.workflow, b.parent), b.outcome)
		}
	}
	for at, b := range o.tables.batches {
		have, want := *b, batch{}
		if c := count[at]; c != nil {
			want = *c
		}
		have.parent, have.lo, have.hi, have.state, have.outcome = 0, 0, 0, 0, 0
		if have != want {
			o.fault("batch %v counts %+v, its members are %+v (I3)", at, have, want)
		}
	}
}

// acknowledgedOnce: after a final end was acknowledged, the job was not granted
// again (I9). A lease is the log index of its grant, so this needs no clock.
func (o *oracle) acknowledgedOnce() {
	final := make(map[job]uint64)
	for i := range o.events {
		e := &o.events[i]
		if e.What != "ack" || e.Status != ackDone {
			continue
		}
		switch e.Ending {
		case heddlev1.Ending_ENDING_SUCCEEDED.String(), heddlev1.Ending_ENDING_FAILED_NO_RETRY.String():
			if before, twice := final[e.job()]; twice && before != e.Lease {
				o.fault("job %v was acknowledged as finished under leases %d and %d (I9)", e.job(), before, e.Lease)
			}
			final[e.job()] = e.Lease
			if o.tables.finished[e.job()] == nil {
				o.fault("job %v was acknowledged as finished, and is not in the history (I9)", e.job())
			}
		}
	}
	for i := range o.events {
		e := &o.events[i]
		if lease, ended := final[e.job()]; ended && e.What == "grant" && e.Lease > lease {
			o.fault("job %v was granted (lease %d) after its end was acknowledged (lease %d) (I9)", e.job(), e.Lease, lease)
		}
	}
}

// attemptsCounted: the attempts charged to a job are its reported failures and
// the sessions lost with it, and none else (I7). What must have failed is known
// from its arguments; a session can only be lost by killing its worker.
func (o *oracle) attemptsCounted() {
	starts := make(map[job]int)
	doomed := make(map[job]int) // starts on workers that were killed
	for i := range o.events {
		if e := &o.events[i]; e.What == "start" {
			starts[e.job()]++
			if o.killed[e.Worker] {
				doomed[e.job()]++
			}
		}
	}
	for j, f := range o.tables.finished {
		tries := o.tables.tries[j]
		lost, released := tries[howLost], tries[howReleased]
		counted := tries[howFailed] + lost + tries[howTimeout]
		if f.outcome == heddle.Skipped {
			if f.attempt != 0 || starts[j] != 0 {
				o.fault("skipped job %v has %d attempts and %d starts", j, f.attempt, starts[j])
			}
			continue
		}
		// The last attempt is the one that finished it; a job that was lost for
		// the last time has no other.
		if f.attempt != counted+1 {
			o.fault("job %v ended at attempt %d with %d counted before (%v) (I7)", j, f.attempt, counted, tries)
		}
		if f.args.Poison || f.args.Big > 0 {
			continue // they end otherwise than by what their arguments say
		}
		planned := f.args.Fail
		if f.args.Dead {
			planned = 0
		}
		// A lost attempt may have been one of those that were to fail.
		if failed := tries[howFailed]; failed > planned || failed < planned-lost || tries[howTimeout] != 0 {
			o.fault("job %v was charged %v, its handler failed %d times (I7)", j, tries, planned)
		}
		if lost > doomed[j] && len(o.killed) == 0 {
			o.fault("job %v was lost %d times, and no worker was killed (I7)", j, lost)
		}
		// Every start ends in an outcome that is written somewhere, but for those
		// that died with their worker.
		if n := starts[j] - doomed[j]; n > counted-lost+released+1 || n+doomed[j] < counted-lost+1 {
			o.fault("job %v started %d times (%d on killed workers), with attempts %v", j, starts[j], doomed[j], tries)
		}
	}
}

// neverTwiceAtOnce: a start comes after the end of the start before, unless
// that one died with its worker (I5).
func (o *oracle) neverTwiceAtOnce() {
	running := make(map[job]string)
	for i := range o.events {
		e := &o.events[i]
		switch e.What {
		case "start":
			if on, is := running[e.job()]; is && !o.killed[on] {
				o.fault("job %v started on %s while it ran on %s (I5)", e.job(), e.Worker, on)
			}
			running[e.job()] = e.Worker
		case "end":
			if running[e.job()] == e.Worker {
				delete(running, e.job())
			}
		}
	}
}

// parentsFirst: no start before the last end of every parent (I4).
func (o *oracle) parentsFirst() {
	first, last := make(map[job]int64), make(map[job]int64)
	for i := range o.events {
		switch e := &o.events[i]; e.What {
		case "start":
			if _, seen := first[e.job()]; !seen {
				first[e.job()] = e.At
			}
		case "end":
			last[e.job()] = e.At
		}
	}
	byWorkflow := make(map[string][]int32)
	for j := range first {
		byWorkflow[j.workflow] = append(byWorkflow[j.workflow], j.node)
	}
	// The jobs inside a node: itself, or the members of a batch.
	within := func(workflow string, node int32) []int32 {
		b := o.tables.batches[job{workflow, node}]
		if b == nil {
			return []int32{node}
		}
		return slices.DeleteFunc(slices.Clone(byWorkflow[workflow]), func(n int32) bool { return n < b.lo || n > b.hi })
	}
	for _, e := range o.tables.edges {
		var ended int64
		for _, n := range within(e.workflow, e.parent) {
			ended = max(ended, last[job{e.workflow, n}])
		}
		for _, n := range within(e.workflow, e.child) {
			if at, started := first[job{e.workflow, n}]; started && at < ended {
				o.fault("job %s/%d started %v before its parent %d ended (I4)", e.workflow, n, time.Duration(ended-at), e.parent)
			}
		}
	}
}
