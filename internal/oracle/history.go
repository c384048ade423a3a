package oracle

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	heddle "github.com/heddle-io/heddle/sdk"
)

// flow is what the logs and the tables say of one workflow.
type flow struct {
	id uuid.UUID

	// by the logs
	announced, acked bool
	lone             bool
	jobs             int // it must have at least
	want             heddle.Outcome
	commanded        bool
	grown            map[string]*growth

	nodes map[int32]*job

	// by the tables
	outcome heddle.Outcome // of the root; 0: none
	rooted  bool
	batches map[int32]*batch
	edges   []edge
}

// growth is an addition under a key.
type growth struct {
	jobs  int
	acked bool
}

// batch of a workflow, but for the root.
type batch struct{ parent int32 }

type edge struct{ parent, child int32 }

// job is what is known of one job.
type job struct {
	runs []run

	// by the tables
	row      rowState
	turn     int
	attempt  int
	outcome  heddle.Outcome
	byWorker bool // its end was reported, or its session lost
	batch    int32
	tries    [howEnd]int
	// gone names the workers from which the engine took the job back; lostWith
	// those among them that were lost.
	gone, lostWith []string
}

// rowState is where the row of a job is.
type rowState uint8

const (
	rowNone rowState = iota
	rowOpen
	rowFinished
)

// How attempts end that do not finish their job, as in the table of attempts.
const (
	howFailed   = 1
	howLost     = 2
	howSnoozed  = 3
	howReleased = 4
	howTimeout  = 5
	howEnd      = 6
)

// run is one stay of a job with a worker, under one lease.
type run struct {
	lease      uint64
	who        int32
	attempt    int16
	ok         bool
	acked      heddlev1.Ending // 0: not acknowledged
	start, end int64           // 0: not seen
}

// final tells the endings after which a job does not run again.
func final(e heddlev1.Ending) bool {
	return e == heddlev1.Ending_ENDING_SUCCEEDED || e == heddlev1.Ending_ENDING_FAILED_NO_RETRY || e == heddlev1.Ending_ENDING_CANCELLED
}

// thenKey is the key of what a job adds with its success.
func thenKey(node int32) string { return fmt.Sprintf("%s%d", thenPrefix, node) }

func isThen(key string) bool { return strings.HasPrefix(key, thenPrefix) }

const thenPrefix = "then "

// GrowsThen announces that a job adds n jobs if it succeeds.
func GrowsThen(j Job, n int) Event {
	return Event{What: Growing, Workflow: j.Workflow, Node: j.Node, Key: thenKey(j.Node), Jobs: n}
}

// share is the part of the workflows that one reading looks at.
type share struct {
	n, of int
	flows map[uuid.UUID]*flow
	runs  int
	found []Violation
	pace  *pace
	who   []string // names by number
}

func (s *share) has(id uuid.UUID) bool { return int(id[15])%s.of == s.n }

func (s *share) flow(id uuid.UUID) *flow {
	f := s.flows[id]
	if f == nil {
		f = &flow{id: id, nodes: make(map[int32]*job)}
		s.flows[id] = f
	}
	return f
}

func (f *flow) job(node int32) *job {
	j := f.nodes[node]
	if j == nil {
		j = &job{}
		f.nodes[node] = j
	}
	return j
}

// under gives the run under a lease.
func (j *job) under(lease uint64) *run {
	for i := range j.runs {
		if j.runs[i].lease == lease {
			return &j.runs[i]
		}
	}
	j.runs = append(j.runs, run{lease: lease})
	return &j.runs[len(j.runs)-1]
}

func (s *share) violation(invariant string, sort Sort, subject string, j *job, format string, args ...any) {
	v := Violation{Invariant: invariant, Sort: sort, Subject: subject, Text: fmt.Sprintf(format, args...)}
	if j != nil {
		for _, r := range j.runs {
			v.Runs = append(v.Runs, s.describe(r))
		}
	}
	s.found = append(s.found, v)
}

func (s *share) describe(r run) string {
	text := fmt.Sprintf("lease %d on %s, attempt %d: ", r.lease, s.who[r.who], r.attempt)
	if r.start == 0 {
		text += "never started"
	} else {
		text += fmt.Sprintf("started at %v", time.Duration(r.start))
	}
	switch {
	case r.end == 0:
		text += ", no end"
	case r.ok:
		text += fmt.Sprintf(", ended well at %v", time.Duration(r.end))
	default:
		text += fmt.Sprintf(", ended with an error at %v", time.Duration(r.end))
	}
	if r.acked != 0 {
		text += ", acknowledged " + r.acked.String()
	}
	return text
}

// see takes an event of the logs in.
func (s *share) see(e *Event) {
	if e.Workflow == "" {
		return
	}
	id, err := uuid.Parse(e.Workflow)
	if err != nil || !s.has(id) {
		return
	}
	f := s.flow(id)
	switch e.What {
	case Submitting, Submitted:
		f.announced = true
		f.acked = f.acked || e.What == Submitted
		f.jobs, f.lone, f.want = e.Jobs, e.Lone, e.Want
	case Commanding:
		f.commanded = true
	case Growing:
		f.growth(e.Key).jobs = e.Jobs
	case Grown:
		f.growth(e.Key).acked = true
	case Start:
		j := f.job(e.Node)
		r := j.under(e.Lease)
		if r.start != 0 {
			s.violation("I5", Twice, e.Job().String(), j, "started twice under lease %d, again on %s", e.Lease, e.Who)
			return
		}
		s.runs++
		r.start, r.who, r.attempt = e.Mono, s.pace.name(e.Who), int16(e.Attempt)
	case End:
		r := f.job(e.Node).under(e.Lease)
		r.end, r.ok = e.Mono, e.How == HowOK
	case Ack:
		r := f.job(e.Node).under(e.Lease)
		if e.Status == ackInvalid {
			r.ok = false // the worker reports a failure instead
		}
		if !e.Acknowledged() {
			return
		}
		if r.start == 0 {
			r.who = s.pace.name(e.Who)
		}
		r.acked = heddlev1.Ending(heddlev1.Ending_value[e.Ending])
		if g := f.grown[thenKey(e.Node)]; g != nil && r.acked == heddlev1.Ending_ENDING_SUCCEEDED {
			g.acked = true
		}
	}
}

func (f *flow) growth(key string) *growth {
	if f.grown == nil {
		f.grown = make(map[string]*growth)
	}
	g := f.grown[key]
	if g == nil {
		g = &growth{}
		f.grown[key] = g
	}
	return g
}
