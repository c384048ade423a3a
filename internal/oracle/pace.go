package oracle

import (
	"fmt"
	"time"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// The statuses of reports: acknowledged, and refused for what they say.
var (
	ackDone    = heddlev1.ReportStatus_REPORT_STATUS_DONE.String()
	ackInvalid = heddlev1.ReportStatus_REPORT_STATUS_INVALID.String()
)

// fault is something that was done to a worker.
type fault struct {
	how      string
	from, to int64 // to 0: still so
}

// pace is what the first reading of the logs gathers: what was done to whom,
// and whether lone jobs started in time (I10).
type pace struct {
	bound  time.Duration // of I10; 0: not judged
	calm   time.Duration // after faults
	events int

	// faults by worker, in order.
	faults map[string][]fault
	// names of processes as small numbers.
	names map[string]int32

	// open faults of any sort, by target and how.
	open map[string]bool
	// workers: handlers that run, and their slots.
	running, slots map[string]int
	// epoch of the latest leader that was heard of.
	epoch uint64
	// notBefore: until then something was broken, or nobody led, or no worker
	// was free.
	notBefore int64
	waiting   map[string]int64
	// early are workflows whose first job has started before Submit had returned.
	early  map[string]bool
	latest time.Duration
	found  []Violation
}

// Hired announces a worker, the Target, with its slots as Jobs; Left is its
// orderly end. Without these events I10 is not judged.
const (
	Hired What = "hired"
	Left  What = "left"
)

func newPace(bound, calm time.Duration) *pace {
	return &pace{
		bound: bound, calm: calm, faults: make(map[string][]fault), names: make(map[string]int32), open: make(map[string]bool),
		running: make(map[string]int), slots: make(map[string]int), waiting: make(map[string]int64), early: make(map[string]bool),
	}
}

// name gives the number of a process.
func (p *pace) name(who string) int32 {
	n, known := p.names[who]
	if !known {
		n = int32(len(p.names))
		p.names[who] = n
	}
	return n
}

func (p *pace) see(e *Event) {
	p.events++
	p.name(e.Who)
	if e.Epoch > p.epoch { // another leader: who it was is not I10's matter
		p.epoch = e.Epoch
		p.notBefore = max(p.notBefore, e.Mono+int64(p.calm))
	}
	switch e.What {
	case Fault:
		p.faults[e.Target] = append(p.faults[e.Target], fault{how: e.How, from: e.Mono})
		if _, worker := p.slots[e.Target]; worker && e.How == FaultKill { // it does not come back
			delete(p.running, e.Target)
			delete(p.slots, e.Target)
			p.notBefore = max(p.notBefore, e.Mono+int64(p.calm))
			break
		}
		p.open[e.Target+" "+e.How] = true
	case Healed:
		list := p.faults[e.Target]
		for i := range list {
			if list[i].how == e.How && list[i].to == 0 {
				list[i].to = e.Mono
			}
		}
		delete(p.open, e.Target+" "+e.How)
		p.notBefore = max(p.notBefore, e.Mono+int64(p.calm))
	case Hired:
		p.slots[e.Target] = e.Jobs
		p.notBefore = max(p.notBefore, e.Mono+int64(p.calm))
	case Left:
		delete(p.running, e.Target)
		delete(p.slots, e.Target)
	case Start:
		p.running[e.Who]++
		p.started(e)
		p.saturated(e.Mono)
	case End:
		p.saturated(e.Mono)
		if p.running[e.Who] > 0 {
			p.running[e.Who]--
		}
	case Submitted:
		if e.Lone && p.bound > 0 && !p.early[e.Workflow] {
			p.waiting[e.Workflow] = e.Mono
		}
		delete(p.early, e.Workflow)
	}
}

// saturated notes that no worker is free.
func (p *pace) saturated(now int64) {
	for who, slots := range p.slots {
		if p.running[who] < slots {
			return
		}
	}
	p.notBefore = max(p.notBefore, now)
}

func (p *pace) started(e *Event) {
	if e.Node != 1 {
		return
	}
	since, is := p.waiting[e.Workflow]
	if !is {
		if e.Attempt == 1 {
			p.early[e.Workflow] = true
		}
		return
	}
	delete(p.waiting, e.Workflow)
	if len(p.open) > 0 || len(p.slots) == 0 {
		return
	}
	late := time.Duration(e.Mono - max(since, p.notBefore))
	p.latest = max(p.latest, late)
	if late > p.bound {
		p.found = append(p.found, Violation{Invariant: "I10", Sort: Late, Subject: e.Job().String(),
			Text: fmt.Sprintf("started %v after it could have on %s", late.Round(time.Millisecond), e.Who)})
	}
}

// killed gives when a worker was killed.
func (p *pace) killed(who string) (at int64, is bool) {
	for _, f := range p.faults[who] {
		if f.how == FaultKill {
			return f.from, true
		}
	}
	return 0, false
}

// silent is the longest that a worker was kept from its engines by one fault
// after the other, without a pause as long as gap between them.
func (p *pace) silent(who string, gap time.Duration) time.Duration {
	var longest, from, to int64
	for _, f := range p.faults[who] {
		if f.how != FaultStop && f.how != FaultCut {
			continue
		}
		end := f.to
		if end == 0 {
			return 1<<63 - 1
		}
		if from == 0 || f.from > to+int64(gap) {
			from = f.from
		}
		to = max(to, end)
		longest = max(longest, to-from)
	}
	return time.Duration(longest)
}

// Pauses measures how long no handler started: the longest time between two
// starts of which the second came in the window.
type Pauses struct{ starts []int64 }

// See takes an event in; events must come in order of time.
func (p *Pauses) See(e *Event) {
	if e.What == Start {
		p.starts = append(p.starts, e.Mono)
	}
}

// Longest gives the longest pause that ended within the window after an event's
// Mono; a pause that has not ended at the window's end counts as far as it goes.
func (p *Pauses) Longest(from int64, window time.Duration) time.Duration {
	to := from + int64(window)
	var before, longest int64
	for _, at := range p.starts {
		if at >= from && before != 0 {
			longest = max(longest, min(at, to)-before)
		}
		if at >= to {
			return time.Duration(longest)
		}
		before = at
	}
	if before != 0 {
		longest = max(longest, to-before)
	}
	return time.Duration(longest)
}
