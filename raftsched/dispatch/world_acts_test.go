package dispatch

import (
	"fmt"
	"slices"
	"sort"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// submit inserts rows: on the leader in a transaction with a mark, elsewhere
// with a hint that may be lost or doubled.
func (w *world) submit() {
	n := 1 + w.choose(12, "rows")
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = w.newRow()
		if i > 0 && w.choose(2, "same lane") == 0 {
			rows[i].Lane, rows[i].Priority = rows[0].Lane, rows[0].Priority
		}
	}
	insert := func() {
		for i := range rows {
			r := rows[i]
			w.table[r.Job] = &r
		}
	}
	if w.choose(2, "leader") == 0 {
		m := w.d.Begin()
		w.send(insert, func() { w.d.Commit(m, nil, nil, rows) })
		return
	}
	var lanes []LanePriority
	for i := range rows {
		lanes = append(lanes, rows[i].stream())
	}
	copies := w.choose(3, "hints")
	w.send(insert, func() {
		for range copies {
			w.send(nil, func() { w.d.Hint(lanes) })
		}
	})
}

func (w *world) poll() {
	s := uint64(w.choose(3, "session") + 1)
	p := w.config[s]
	w.pollNo++
	p.Poll, p.Max = w.pollNo, 1+w.choose(6, "max")
	if w.polls[s] == nil {
		w.polls[s] = map[uint64]Poll{}
	}
	w.polls[s][p.Poll] = p
	w.d.Poll(p)
}

func (w *world) closePolls() {
	s := uint64(w.choose(3, "session") + 1)
	w.d.ClosePolls(s, w.pollNo)
	clear(w.polls[s])
}

// read answers what the dispatcher wants, each batch as an errand of its own.
func (w *world) read() {
	wants := w.d.Wants(w.now)
	for _, loads := range [][]Load{wants.Loads, wants.Sweeps} {
		if len(loads) == 0 {
			continue
		}
		m := w.d.Begin()
		var answers []Loaded
		fails, twice := w.choose(12, "read fails") == 0, w.choose(12, "twice") == 0
		w.send(func() {
			if !fails {
				answers = w.load(loads)
			}
		}, func() {
			w.d.Loaded(m, loads, answers)
			if twice {
				w.d.Loaded(m, loads, answers)
			}
		})
	}
	if s := wants.Scan; s != nil {
		var found []LanePriority
		ok := w.choose(8, "scan fails") != 0
		w.send(func() { found = w.lanes(*s) }, func() { w.d.Found(*s, found, ok) })
	}
}

func (w *world) load(loads []Load) []Loaded {
	var answers []Loaded
	for _, l := range loads {
		a := Loaded{Lane: l.Lane, Now: w.now}
		for _, r := range w.table {
			if r.stream() == l.Lane && r.cursor().Compare(l.After) > 0 {
				a.Rows = append(a.Rows, *r)
			}
		}
		sort.Slice(a.Rows, func(i, j int) bool { return a.Rows[i].cursor().Compare(a.Rows[j].cursor()) < 0 })
		if len(a.Rows) >= l.Limit {
			a.Rows = a.Rows[:l.Limit]
		} else {
			a.End = true
		}
		answers = append(answers, a)
	}
	return answers
}

func compareLanes(a, b LanePriority) int {
	switch {
	case a.Route != b.Route:
		return int(a.Route - b.Route)
	case a.Key < b.Key:
		return -1
	case a.Key > b.Key:
		return 1
	}
	return int(a.Priority - b.Priority)
}

func (w *world) lanes(s Scan) []LanePriority {
	var all []LanePriority
	for _, r := range w.table {
		if id := r.stream(); s.First || compareLanes(id, s.After) > 0 {
			all = append(all, id)
		}
	}
	slices.SortFunc(all, compareLanes)
	all = slices.Compact(all)
	return all[:min(len(all), s.Limit)]
}

// leased picks a granted lease; nil if there is none.
func (w *world) leased() *modelLease {
	var all []*modelLease
	for _, l := range w.leases {
		if l.granted {
			all = append(all, l)
		}
	}
	if len(all) == 0 {
		return nil
	}
	sort.Slice(all, func(i, j int) bool { return all[i].row.cursor().Compare(all[j].row.cursor()) < 0 })
	return all[w.choose(len(all), "lease")]
}

// finish ends a lease in some way.
func (w *world) finish() {
	l := w.leased()
	if l == nil {
		return
	}
	l.granted = false // nobody else finishes it
	id, turn := l.row.Job, l.row.Turn
	how := w.choose(5, "how")
	if how == 4 {
		w.send(nil, func() {
			w.drop(id)
			if w.choose(2, "row at hand") == 0 {
				w.d.Released(id)
			} else {
				w.d.Returned(l.row)
			}
		})
		return
	}
	m := w.d.Begin()
	var ready []Row
	w.send(func() {
		if how >= 2 { // snoozed or to be retried
			r := *w.table[id]
			r.Turn++
			r.Losses = 0
			r.RunAt = w.now + int64(w.choose(10, "retry in"))*200_000 - 400_000
			w.table[id] = &r
			ready = []Row{r}
			return
		}
		delete(w.table, id)
		w.status[id] = fmt.Sprintf("ended with turn %d", turn)
	}, func() {
		w.drop(id)
		w.d.Commit(m, []fsm.Lease{{Job: id, Turn: turn}}, nil, ready)
	})
}

// cancel removes the unleased jobs of a workflow under a hold, or moves them
// (another priority), as commands do.
func (w *world) cancel() {
	var id fsm.WorkflowID
	id[15] = byte(w.choose(5, "workflow"))
	hold := modelHold{id: id, lo: 0, hi: 1<<31 - 1}
	if w.choose(2, "nodes") == 0 {
		hold.lo = int32(w.choose(w.jobs+1, "lo"))
		hold.hi = hold.lo + int32(w.choose(4, "span"))
	}
	h := w.d.HoldNodes(id, hold.lo, hold.hi)
	w.held[h] = hold
	m := w.d.Begin()
	var gone []JobTurn
	remove := w.choose(2, "remove") == 0
	priority := int16(w.choose(2, "priority") + 1)
	w.send(func() {
		for job, r := range w.table {
			if job.Workflow != id || job.Node < hold.lo || job.Node > hold.hi || w.leases[job] != nil {
				continue
			}
			if remove {
				delete(w.table, job)
				w.status[job] = "cancelled"
				gone = append(gone, JobTurn{Job: job, Turn: r.Turn})
			} else {
				moved := *r
				moved.Priority = priority
				w.table[job] = &moved
			}
		}
	}, func() {
		w.d.Commit(m, nil, gone, nil)
		delete(w.held, h)
		w.d.ReleaseHold(h)
	})
}

func (w *world) pause() {
	on := w.choose(2, "on") == 0
	switch w.choose(3, "what") {
	case 0:
		q := []string{"a", "b"}[w.choose(2, "queue")]
		w.pausedQ[q] = on
		w.d.PauseQueue(q, on)
	case 1:
		var id fsm.WorkflowID
		id[15] = byte(w.choose(5, "workflow"))
		w.pausedW[id] = on
		w.d.PauseWorkflow(id, on)
	case 2:
		l := Lane{Route: int32(w.choose(4, "route") + 1), Key: []string{"", "k"}[w.choose(2, "key")]}
		w.heldL[l] = on
		w.d.HoldLane(l, on)
	}
}

// act does one random thing.
func (w *world) act() {
	switch n := w.choose(40, "act"); {
	case n < 5:
		w.submit()
	case n < 9:
		w.poll()
	case n < 15:
		w.read()
	case n < 20:
		for _, m := range w.match(1 + w.choose(8, "limit")) {
			w.answer(m)
		}
	case n < 24:
		w.finish()
	case n < 25:
		w.cancel()
	case n < 26:
		w.pause()
	case n < 27:
		w.closePolls()
	case n < 29:
		w.now += int64(w.choose(20, "time")) * 50_000
	case n < 30:
		w.now -= int64(w.choose(4, "back")) * 50_000
	default:
		w.progress()
	}
}

// settle lets everything under way arrive, lifts all pauses, and runs until
// nothing is left to run; it fails if something stays behind.
func (w *world) settle() {
	for len(w.inFlight) > 0 && w.err == nil {
		w.step(0)
	}
	for q := range w.pausedQ {
		w.d.PauseQueue(q, false)
	}
	for id := range w.pausedW {
		w.d.PauseWorkflow(id, false)
	}
	for l := range w.heldL {
		w.d.HoldLane(l, false)
	}
	clear(w.pausedQ)
	clear(w.pausedW)
	clear(w.heldL)
	for job, l := range w.leases {
		if l.granted {
			w.end(job)
		}
	}
	last := w.now
	for _, r := range w.table {
		last = max(last, r.RunAt)
	}
	patience := int64(2_000_000) // I10
	if w.d.config.MaxStreams < 24 {
		patience = 60_000_000 // scans find what there was no room for
	}
	for ; len(w.table) > 0 && w.now < last+patience && w.err == nil; w.now += 100_000 {
		for s := range uint64(3) {
			w.pollNo++
			p := w.config[s+1]
			p.Poll, p.Max = w.pollNo, 100
			if w.polls[s+1] == nil {
				w.polls[s+1] = map[uint64]Poll{}
			}
			w.polls[s+1][p.Poll] = p
			w.d.Poll(p)
		}
		for range 6 {
			wants := w.d.Wants(w.now)
			for _, loads := range [][]Load{wants.Loads, wants.Sweeps} {
				m := w.d.Begin()
				w.d.Loaded(m, loads, w.load(loads))
			}
			if s := wants.Scan; s != nil {
				w.d.Found(*s, w.lanes(*s), true)
			}
			for _, m := range w.match(1000) {
				w.d.Granted(m.Row.Job)
				w.end(m.Row.Job)
			}
		}
	}
	if len(w.table) > 0 {
		for _, r := range w.table {
			w.failf("%d jobs were never matched, among them %+v, stats %+v", len(w.table), *r, w.d.Stats())
			break
		}
	}
	if w.err == nil {
		w.quiet()
	}
}

func (w *world) end(id fsm.JobID) {
	l := w.leases[id]
	m := w.d.Begin()
	delete(w.table, id)
	w.status[id] = "ended at last"
	w.drop(id)
	w.d.Commit(m, []fsm.Lease{{Job: id, Turn: l.row.Turn}}, nil, nil)
}

// quiet checks that nothing is remembered once nothing is under way.
func (w *world) quiet() {
	s := w.d.Stats()
	if s.Past != 0 || s.Marks != 0 || s.Granting != 0 || s.Leased != 0 || s.Rows != 0 {
		w.failf("left behind: %+v", s)
	}
	if n := len(w.d.index); n != 0 {
		w.failf("%d jobs left in the index", n)
	}
	if len(w.d.bars) != 0 || len(w.d.graphs) != 0 || w.d.ready != 0 {
		w.failf("left behind: %d bars, %d graphs, %d ready streams", len(w.d.bars), len(w.d.graphs), w.d.ready)
	}
}

// live runs a whole history.
func (w *world) live(steps int) error {
	for range steps {
		w.act()
		if w.err == nil {
			w.err = w.d.consistent()
		}
		if w.err != nil {
			return w.err
		}
	}
	w.settle()
	return w.err
}
