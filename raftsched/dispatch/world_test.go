package dispatch

import (
	"fmt"
	"slices"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// world is a slow, obvious stand-in for everything around a dispatcher: the
// jobs table, the leases, reads and transactions that take their time, hints
// that are late, doubled or lost. Every match is checked against the facts.
type world struct {
	choose func(n int, what string) int
	d      *Dispatcher
	now    int64

	table  map[fsm.JobID]*Row // available rows, as committed
	status map[fsm.JobID]string
	leases map[fsm.JobID]*modelLease
	polls  map[uint64]map[uint64]Poll // by session
	lonely map[uint64]fsm.JobID       // sessions that run a job alone

	inFlight []*errand
	held     map[HoldID]modelHold
	pausedQ  map[string]bool
	pausedW  map[fsm.WorkflowID]bool
	heldL    map[Lane]bool
	config   map[uint64]Poll // what a session serves
	routes   map[int32]Route
	jobs     int
	pollNo   uint64
	sent     int // matches
	err      error
}

type modelLease struct {
	session uint64
	row     Row
	granted bool
}

type modelHold struct {
	id     fsm.WorkflowID
	lo, hi int32
}

// errand is something under way: act does it in the database, hand tells the
// dispatcher. Other errands may come between.
type errand struct {
	act  func()
	hand func()
	done bool
}

func newWorld(choose func(int, string) int, c Config) *world {
	w := &world{
		choose:  choose,
		d:       New(c),
		now:     1_000_000_000_000,
		table:   map[fsm.JobID]*Row{},
		status:  map[fsm.JobID]string{},
		leases:  map[fsm.JobID]*modelLease{},
		polls:   map[uint64]map[uint64]Poll{},
		lonely:  map[uint64]fsm.JobID{},
		held:    map[HoldID]modelHold{},
		pausedQ: map[string]bool{},
		pausedW: map[fsm.WorkflowID]bool{},
		heldL:   map[Lane]bool{},
		config:  map[uint64]Poll{},
		routes:  map[int32]Route{},
	}
	var routes []Route
	for i := range int32(4) {
		r := Route{ID: i + 1, Queue: []string{"a", "b"}[i/2], Kind: []string{"x", "y"}[i%2]}
		w.routes[r.ID] = r
		routes = append(routes, r)
	}
	w.d.SetRoutes(routes)
	w.config[1] = Poll{Session: 1, Queues: []Queue{{Name: "a"}, {Name: "b"}}, Kinds: []string{"x", "y"}}
	w.config[2] = Poll{Session: 2, Queues: w.config[1].Queues, Kinds: w.config[1].Kinds}
	w.config[3] = Poll{Session: 3, Queues: []Queue{{Name: "b", Weight: 2}, {Name: "a", Weight: 1}}, Kinds: []string{"x"}}
	return w
}

func (w *world) failf(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

// send starts an errand; a read or transaction begins its mark before.
func (w *world) send(act, hand func()) {
	w.inFlight = append(w.inFlight, &errand{act: act, hand: hand})
}

// progress moves one errand on.
func (w *world) progress() {
	if len(w.inFlight) == 0 {
		return
	}
	i := w.choose(len(w.inFlight), "errand")
	w.step(i)
}

func (w *world) step(i int) {
	e := w.inFlight[i]
	if !e.done {
		e.done = true
		if e.act != nil {
			e.act()
			return
		}
	}
	w.inFlight = slices.Delete(w.inFlight, i, i+1)
	e.hand()
}

func (w *world) newRow() Row {
	w.jobs++
	var id fsm.WorkflowID
	id[15] = byte(w.choose(5, "workflow"))
	batch := int32(0)
	id[0], id[1] = byte(w.choose(3, "id")), byte(w.jobs>>8)
	if w.choose(3, "lone") == 0 {
		id[14] = byte(w.jobs)
		batch = -1
	} else {
		id[0], id[1] = 0, 0
	}
	node := int32(w.jobs)
	if batch < 0 {
		node = loneNode
		id[13] = byte(w.jobs >> 8)
	}
	keys := []string{"", "k", "m"}
	r := Row{
		Job:      fsm.JobID{Workflow: id, Node: node},
		Lane:     Lane{Route: int32(w.choose(4, "route") + 1), Key: keys[w.choose(3, "key")]},
		Priority: int16(w.choose(2, "priority") + 1),
		RunAt:    w.now + int64(w.choose(12, "run at")-8)*100_000,
		Batch:    batch,
	}
	if w.choose(12, "far") == 0 {
		r.RunAt += 10_000_000
	}
	if w.choose(15, "losses") == 0 {
		r.Losses = 2
	}
	return r
}

// match takes matches and checks each against the facts.
func (w *world) match(limit int) []Match {
	matches := w.d.Match(w.now, limit, nil)
	if len(matches) > limit {
		w.failf("%d matches, limit %d", len(matches), limit)
	}
	got := map[[2]uint64]int{}
	for _, m := range matches {
		w.sent++
		w.check(m, got)
		w.leases[m.Row.Job] = &modelLease{session: m.Session, row: m.Row}
		if m.Row.Losses >= 2 {
			w.lonely[m.Session] = m.Row.Job
		}
	}
	for k := range got {
		delete(w.polls[k[0]], k[1])
	}
	return matches
}

func (w *world) check(m Match, got map[[2]uint64]int) {
	id := m.Row.Job
	r := w.table[id]
	switch {
	case w.leases[id] != nil:
		w.failf("%v matched while it is held", id)
	case r == nil:
		w.failf("%v turn %d matched; it is not in the table (%s)", id, m.Row.Turn, w.status[id])
	case r.Turn != m.Row.Turn:
		w.failf("%v matched with turn %d; the table has %d", id, m.Row.Turn, r.Turn)
	case r.cursor() != m.Row.cursor() || r.stream() != m.Row.stream():
		w.failf("%v matched as it was before a command moved it", id)
	case m.Row.RunAt > w.now:
		w.failf("%v matched %d us early", id, m.Row.RunAt-w.now)
	case w.pausedW[id.Workflow]:
		w.failf("%v matched though its workflow is paused", id)
	case w.heldL[m.Row.Lane]:
		w.failf("%v matched though its lane is held", id)
	}
	for _, h := range w.held {
		if h.id == id.Workflow && h.lo <= id.Node && id.Node <= h.hi {
			w.failf("%v matched though it is held", id)
		}
	}
	route := w.routes[m.Row.Lane.Route]
	p, ok := w.polls[m.Session][m.Poll]
	if !ok {
		w.failf("%v matched with poll %d of session %d, which does not wait", id, m.Poll, m.Session)
		return
	}
	if w.pausedQ[route.Queue] || !slices.ContainsFunc(p.Queues, func(q Queue) bool { return q.Name == route.Queue }) || !slices.Contains(p.Kinds, route.Kind) {
		w.failf("%v of %s/%s matched with session %d", id, route.Queue, route.Kind, m.Session)
	}
	k := [2]uint64{m.Session, m.Poll}
	got[k]++
	if got[k] > p.Max {
		w.failf("poll %d got %d, takes %d", m.Poll, got[k], p.Max)
	}
	if with, alone := w.lonely[m.Session]; alone {
		w.failf("%v matched beside %v, which runs alone", id, with)
	}
	if m.Row.Losses >= 2 {
		for other, l := range w.leases {
			if l.session == m.Session {
				w.failf("%v must run alone, its session holds %v", id, other)
			}
		}
	}
}

func (w *world) drop(id fsm.JobID) {
	if l := w.leases[id]; l != nil && w.lonely[l.session] == id {
		delete(w.lonely, l.session)
	}
	delete(w.leases, id)
}

// answer is the fate of a match: applied or not.
func (w *world) answer(m Match) {
	w.send(nil, func() {
		if w.choose(6, "rejected") == 0 {
			w.drop(m.Row.Job)
			w.d.Rejected(m.Row.Job)
			return
		}
		w.leases[m.Row.Job].granted = true
		w.d.Granted(m.Row.Job)
	})
}

// consistent checks the dispatcher's own bookkeeping.
func (d *Dispatcher) consistent() error {
	rows, ready := 0, 0
	for i, s := range d.all {
		if s.nth != i || d.streams[s.id] != s {
			return fmt.Errorf("stream %v is out of its lists", s.id)
		}
		live := s.window.live()
		rows += len(live)
		for i, sl := range live {
			if i > 0 && live[i-1].pos.Compare(sl.pos) >= 0 {
				return fmt.Errorf("stream %v is out of order at %d", s.id, i)
			}
			if e := d.index[sl.pos.Job]; e.job != sl.job || sl.job.state != waiting || sl.job.stream != s {
				return fmt.Errorf("%v in a window is not indexed as waiting", sl.pos.Job)
			}
		}
		if s.next != nil {
			ready++
			if len(live) == 0 {
				return fmt.Errorf("stream %v is in its band without a row", s.id)
			}
		}
		if s.timer >= 0 && d.timers[s.timer] != s {
			return fmt.Errorf("stream %v is out of the timers", s.id)
		}
	}
	if rows != d.rows || ready != d.ready {
		return fmt.Errorf("rows %d counted %d, ready %d counted %d", rows, d.rows, ready, d.ready)
	}
	held, polls := 0, 0
	for _, s := range d.sessions {
		held += s.held
		polls += len(s.polls)
	}
	if held != d.granting+d.leased || polls != d.polls {
		return fmt.Errorf("held %d, granting %d, leased %d; polls %d counted %d", held, d.granting, d.leased, polls, d.polls)
	}
	return nil
}
