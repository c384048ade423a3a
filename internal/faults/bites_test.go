package faults

import (
	"slices"
	"strings"
	"testing"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	heddle "github.com/heddle-io/heddle/sdk"
)

// story is a sound run of one graph: node 1 fails once and succeeds, the batch
// 2 after it has the members 3 and 4, the second of which was lost once with
// its worker, and 5 comes after the batch. A lone job beside it was given back
// once.
func story() *oracle {
	const g, lone = "graph", "lone"
	o := &oracle{
		killed: map[string]bool{"k": true},
		subs: []*submission{
			{id: g, acked: true, jobs: 4, want: heddle.Succeeded},
			{id: lone, acked: true, lone: true, jobs: 1, want: heddle.Succeeded},
			{id: "unheard", jobs: 7},
		},
		tables: &tables{
			finished: make(map[job]*finished), open: make(map[job]string), tries: make(map[job]map[int16]int),
			batches: map[job]*batch{
				{g, 0}: {lo: 1, hi: 5, parent: -1, state: 2, outcome: heddle.Succeeded, total: 3, succeeded: 3},
				{g, 2}: {lo: 3, hi: 4, state: 2, outcome: heddle.Succeeded, total: 2, succeeded: 2},
			},
			edges: []edge{{g, 1, 2, heddle.Succeeded}, {g, 2, 5, heddle.Succeeded}},
		},
	}
	finish := func(j job, batch int32, attempt int, k task, tries map[int16]int) {
		f := &finished{job: j, attempt: attempt, outcome: heddle.Succeeded, args: k}
		if j.workflow == g {
			f.batch = &batch
		}
		o.tables.finished[j], o.tables.tries[j] = f, tries
	}
	finish(job{g, 1}, 0, 2, task{Fail: 1}, map[int16]int{howFailed: 1})
	finish(job{g, 3}, 2, 1, task{}, nil)
	finish(job{g, 4}, 2, 2, task{}, map[int16]int{howLost: 1})
	finish(job{g, 5}, 0, 1, task{}, nil)
	finish(job{lone, 1}, 0, 1, task{}, map[int16]int{howReleased: 1})
	o.runs(job{g, 1}, "a", heddlev1.Ending_ENDING_FAILED)
	o.runs(job{g, 1}, "b", heddlev1.Ending_ENDING_SUCCEEDED)
	o.runs(job{g, 3}, "a", heddlev1.Ending_ENDING_SUCCEEDED)
	o.runs(job{g, 4}, "k", heddlev1.Ending_ENDING_UNSPECIFIED)
	o.runs(job{g, 4}, "a", heddlev1.Ending_ENDING_SUCCEEDED)
	o.runs(job{g, 5}, "a", heddlev1.Ending_ENDING_SUCCEEDED)
	o.runs(job{lone, 1}, "a", heddlev1.Ending_ENDING_RELEASED)
	o.runs(job{lone, 1}, "b", heddlev1.Ending_ENDING_SUCCEEDED)
	return o
}

// runs appends one run of a job; without an ending its worker dies in it.
func (o *oracle) runs(j job, worker string, ending heddlev1.Ending) {
	at := int64(len(o.events))
	e := event{Workflow: j.workflow, Node: j.node, Worker: worker}
	lease := uint64(100 + at)
	add := func(what string, change func(*event)) {
		e := e
		at++
		e.At, e.What = at, what
		if change != nil {
			change(&e)
		}
		o.events = append(o.events, e)
	}
	add("grant", func(e *event) { e.Lease = lease })
	add("start", nil)
	if ending != heddlev1.Ending_ENDING_UNSPECIFIED {
		add("end", nil)
		add("ack", func(e *event) { e.Lease, e.Ending, e.Status = lease, ending.String(), ackDone })
	}
}

// The oracle sees each fault that is put into a sound story, and none in the
// story itself.
func TestOracleBites(t *testing.T) {
	if sound := story(); true {
		if sound.judge(); len(sound.faults) != 0 {
			t.Fatalf("the sound story: %q", sound.faults)
		}
	}
	const g = "graph"
	for what, c := range map[string]struct {
		name string
		harm func(*oracle)
	}{
		"a job of an acknowledged workflow is gone": {"I8", func(o *oracle) { delete(o.tables.finished, job{g, 5}) }},
		"an acknowledged workflow is gone":          {"I8", func(o *oracle) { delete(o.tables.finished, job{"lone", 1}) }},
		"half of a workflow nobody acknowledged": {"I8", func(o *oracle) {
			o.tables.finished[job{"unheard", 1}] = &finished{job: job{"unheard", 1}, attempt: 1, outcome: heddle.Succeeded}
		}},
		"a wrong outcome":             {"ended", func(o *oracle) { o.tables.batches[job{g, 0}].outcome = heddle.Failed }},
		"a job open and finished":     {"I1", func(o *oracle) { o.tables.open[job{g, 5}] = "" }},
		"a job blocked for ever":      {"I12", func(o *oracle) { o.tables.open[job{g, 6}] = "" }},
		"a cascade that is left":      {"cascades", func(o *oracle) { o.tables.cascades = 1 }},
		"a counter one too high":      {"I3", func(o *oracle) { o.tables.batches[job{g, 2}].succeeded++ }},
		"a member not counted":        {"I3", func(o *oracle) { o.tables.batches[job{g, 0}].total-- }},
		"run again after the end":     {"I9", func(o *oracle) { o.runs(job{g, 3}, "b", heddlev1.Ending_ENDING_SUCCEEDED) }},
		"granted again after the end": {"I9", func(o *oracle) { o.runs(job{g, 3}, "k", heddlev1.Ending_ENDING_UNSPECIFIED) }},
		"an acknowledged end is gone": {"I9", func(o *oracle) { delete(o.tables.finished, job{g, 3}) }},
		"an attempt charged too many": {"I7", func(o *oracle) { o.tables.finished[job{g, 3}].attempt++ }},
		"a failure that was not":      {"I7", func(o *oracle) { o.tables.finished[job{g, 1}].args.Fail = 0 }},
		"lost, and nobody was killed": {"I7", func(o *oracle) { delete(o.killed, "k") }},
		"a start that left no trace":  {"started", func(o *oracle) { o.tables.tries[job{"lone", 1}] = nil }},
		"a finished job nobody ran":   {"started", func(o *oracle) { o.dropEvents(job{g, 3}) }},
		"a skipped job that ran":      {"skipped", func(o *oracle) { o.tables.finished[job{g, 3}].outcome = heddle.Skipped }},
		"on two workers at once":      {"I5", func(o *oracle) { o.swap(job{"lone", 1}, "end", "start") }},
		"a continuation before its parent": {"I4", func(o *oracle) {
			o.tables.edges = append(o.tables.edges, edge{g, 5, 1, heddle.Succeeded})
		}},
		"members before the batch's parent": {"I4", func(o *oracle) {
			o.tables.edges = append(o.tables.edges, edge{g, 5, 2, heddle.Succeeded})
		}},
	} {
		o := story()
		c.harm(o)
		o.judge()
		if !slices.ContainsFunc(o.faults, func(f string) bool { return strings.Contains(f, c.name) }) {
			t.Errorf("%s: nothing about %s in %q", what, c.name, o.faults)
		}
	}
}

// dropEvents removes what is known of a job.
func (o *oracle) dropEvents(j job) {
	o.events = slices.DeleteFunc(o.events, func(e event) bool { return e.job() == j })
}

// swap exchanges the first event of one sort with the next one of the other.
func (o *oracle) swap(j job, one, other string) {
	at := func(what string, from int) int {
		return from + slices.IndexFunc(o.events[from:], func(e event) bool { return e.job() == j && e.What == what })
	}
	first := at(one, 0)
	second := at(other, first)
	o.events[first], o.events[second] = o.events[second], o.events[first]
}
