package dispatch

import (
	"slices"
	"testing"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// rig is a world without chance: reads are answered at once, nothing is lost.
type rig struct {
	*world
	t *testing.T
}

const second = int64(1_000_000)

func newRig(t *testing.T, c Config) *rig {
	t.Helper()
	w := newWorld(func(int, string) int { return 0 }, c)
	w.d.now = w.now
	t.Cleanup(func() {
		t.Helper()
		if w.err == nil {
			w.err = w.d.consistent()
		}
		if w.err != nil {
			t.Error(w.err)
		}
	})
	return &rig{world: w, t: t}
}

// row makes a lone job of a route, named after its number, due n us ago.
func (r *rig) row(route int32, n int64) Row {
	r.jobs++
	var id fsm.WorkflowID
	id[0], id[1] = byte(r.jobs>>8), byte(r.jobs)
	return Row{Job: fsm.JobID{Workflow: id, Node: loneNode}, Lane: Lane{Route: route}, Priority: 2, RunAt: r.now - n, Batch: -1}
}

// rows makes n rows of a route in order, all due.
func (r *rig) rows(route int32, n int) []Row {
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = r.row(route, int64(n-i))
	}
	return rows
}

// store puts rows into the table, unknown to the dispatcher.
func (r *rig) store(rows ...Row) {
	for _, row := range rows {
		r.table[row.Job] = &row
	}
}

// ready commits rows on the leader.
func (r *rig) ready(rows ...Row) {
	r.store(rows...)
	r.d.Commit(r.d.Begin(), nil, nil, rows)
}

// answer reads what is wanted once, and says what it was.
func (r *rig) serve() Wants {
	w := r.d.Wants(r.now)
	for _, loads := range [][]Load{w.Loads, w.Sweeps} {
		if len(loads) > 0 {
			m := r.d.Begin()
			r.d.Loaded(m, loads, r.load(loads))
		}
	}
	if w.Scan != nil {
		r.d.Found(*w.Scan, r.lanes(*w.Scan), true)
	}
	return w
}

// serveAll reads until nothing is wanted now.
func (r *rig) serveAll() {
	r.t.Helper()
	for range 1_000 {
		if w := r.serve(); len(w.Loads) == 0 && len(w.Sweeps) == 0 && w.Scan == nil {
			return
		}
	}
	r.t.Fatal("the dispatcher asks for ever")
}

// polls adds a poll of a session for jobs of all four routes, unless queues and
// kinds are given.
func (r *rig) wait(session uint64, most int, queues ...Queue) uint64 {
	r.pollNo++
	p := Poll{Session: session, Poll: r.pollNo, Max: most, Queues: queues, Kinds: []string{"x", "y"}}
	if len(queues) == 0 {
		p.Queues = []Queue{{Name: "a"}, {Name: "b"}}
	}
	r.add(p)
	return p.Poll
}

func (r *rig) add(p Poll) {
	if r.polls[p.Session] == nil {
		r.polls[p.Session] = map[uint64]Poll{}
	}
	r.polls[p.Session][p.Poll] = p
	r.d.Poll(p)
}

// take matches, grants, and gives the rows.
func (r *rig) take(limit int) []Row {
	var rows []Row
	for _, m := range r.match(limit) {
		r.d.Granted(m.Row.Job)
		r.leases[m.Row.Job].granted = true
		rows = append(rows, m.Row)
	}
	return rows
}

func (r *rig) wantRows(got, want []Row) {
	r.t.Helper()
	if !slices.EqualFunc(got, want, func(a, b Row) bool { return a.Job == b.Job }) {
		r.t.Fatalf("got  %v\nwant %v", names(got), names(want))
	}
}

func names(rows []Row) (out []string) {
	for _, row := range rows {
		out = append(out, row.Job.String()[:4])
	}
	return out
}

func keyed(row Row, key string) Row {
	row.Lane.Key = key
	return row
}
