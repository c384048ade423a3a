package raftsched

import (
	"errors"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// loop is the one goroutine of a reign that decides. It owns the dispatcher and
// all that is volatile: sessions' polls and heartbeats, running attempts,
// releases to come, reads under way. It never waits for I/O: reads, entries and
// the engine's transactions come back as messages.
type loop struct {
	r     *reign
	n     *Node
	cfg   *Config
	d     *dispatch.Dispatcher
	clock clock

	dispatching bool
	now         time.Time // of this turn

	routes   map[int32]dispatch.Route
	sessions map[uint64]*session
	// running has every lease of the state as this leader knows it.
	running map[fsm.JobID]attempt
	counts  map[int32]int // running attempts by route
	timed   int           // running attempts with a deadline

	schedule schedule
	reads    reads

	nextExpiry time.Time // when the sessions are looked through again
	nextSilent time.Time // when the attempts are
}

// attempt is a lease and what only its leader needs to know of it.
type attempt struct {
	id       uint64
	session  uint64
	turn     int32
	route    int32 // 0: unknown
	ordinal  uint32
	ending   bool  // its release is piled up or proposed
	deadline int64 // microseconds of the database clock; 0: none
}

func newLoop(r *reign) *loop {
	l := &loop{
		r: r, n: r.n, cfg: &r.n.cfg,
		d:        dispatch.New(dispatch.Config{Window: r.n.cfg.Window}),
		clock:    clock{base: time.Now()},
		routes:   map[int32]dispatch.Route{},
		sessions: map[uint64]*session{},
		running:  map[fsm.JobID]attempt{},
		counts:   map[int32]int{},
	}
	l.now = l.clock.base
	l.schedule.fetching = map[pollKey]int{}
	return l
}

// run until the reign is over.
func (l *loop) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var items []func()
	var due time.Time // when this turn had to begin at the latest; zero: any time
	for {
		select {
		case <-l.r.inbox.wake:
		case <-timer.C:
		case <-l.r.over:
			return
		}
		items = l.r.inbox.take(items)
		l.now = time.Now()
		if !due.IsZero() && l.now.Sub(due) > l.cfg.SessionTTL/heldUpPart {
			l.heldUp()
		}
		for _, f := range items {
			f()
		}
		if wake, ok := l.turn(); ok {
			due = wake
			timer.Reset(max(wake.Sub(l.now), 0))
		} else {
			due = time.Time{}
			timer.Stop()
		}
	}
}

// turn does what the time and the news ask for, and tells when it must run
// again without any.
func (l *loop) turn() (wake time.Time, ok bool) {
	at := func(t time.Time) {
		if !t.IsZero() && (!ok || t.Before(wake)) {
			wake, ok = t, true
		}
	}
	if !l.dispatching || l.r.ctx.Err() != nil {
		l.dispatching = false
		at(l.pile(nil)) // releases still go out
		return wake, ok
	}
	at(l.expireSessions())
	at(l.endSilent())
	at(l.read())
	if l.schedule.flight == nil {
		at(l.propose())
	}
	if t, later := l.d.Next(l.clock.now()); later && l.clock.known {
		// At or before now: it waits for the entry in flight or a database that
		// does not answer, which wake the loop themselves, or for the pace.
		d := time.Duration(t-l.clock.now()) * time.Microsecond
		if d > 0 {
			at(l.now.Add(d))
		} else if l.schedule.flight == nil && !l.now.Before(l.reads.after) {
			at(l.now.Add(max(l.schedule.nextEntry.Sub(l.now), pause)))
		}
	}
	return wake, ok
}

// learn the dictionary and the pauses.
func (l *loop) learn(routes []dispatch.Route, queues []string, workflows []fsm.WorkflowID) {
	l.setRoutes(routes)
	for _, q := range queues {
		l.d.PauseQueue(q, true)
	}
	for _, w := range workflows {
		l.d.PauseWorkflow(w, true)
	}
}

func (l *loop) setRoutes(routes []dispatch.Route) {
	for _, r := range routes {
		l.routes[r.ID] = r
	}
	l.d.SetRoutes(routes)
}

// adoptLeases takes over leases that stand, with the ordinals of their grants.
func (l *loop) adoptLeases(held []LeaseFact, ordinals []uint32) {
	stands := make([]bool, len(held))
	l.n.replica.read(func(s *fsm.State) {
		for i := range held {
			lease, ok := s.Lease(held[i].Lease.Job)
			stands[i] = ok && lease.ID == held[i].Lease.ID
		}
	})
	for i := range held {
		if !stands[i] {
			continue // its session was closed since it was looked up
		}
		f := &held[i]
		a := attempt{id: f.Lease.ID, session: f.Lease.Session, turn: f.Lease.Turn, ordinal: ordinals[i]}
		if f.Row != nil {
			a.route = f.Row.Lane.Route
			a.deadline = l.deadline(f.Row, f.Lease.GrantedAt)
		}
		l.start(f.Lease.Job, a)
		l.d.Leased(f.Lease, f.Row)
		if f.Row != nil && l.cfg.CancelTold != nil && l.cfg.CancelTold(f.Row.Flags) {
			l.tell([]fsm.JobID{f.Lease.Job})
		}
	}
}

// begin dispatching: the state, the rows and the streams are known.
func (l *loop) begin() {
	var sessions []fsm.Session
	l.n.replica.read(func(s *fsm.State) { sessions = s.Sessions() })
	for _, se := range sessions {
		s := l.session(se)
		s.deadline = l.now.Add(l.cfg.SessionTTL)
		s.closing = se.Closing || s.leaving
	}
	l.nextExpiry = l.now
	l.dispatching = true
	l.r.ready.Store(true)
	for _, s := range l.sessions {
		if !s.closing && s.snapshot != nil {
			l.takeBack(s, s.snapshot)
		}
		s.snapshot = nil
	}
}

// start, stop: every lease enters and leaves running here.
func (l *loop) start(job fsm.JobID, a attempt) {
	l.stop(job)
	l.running[job] = a
	l.counts[a.route]++
	if a.deadline != 0 {
		l.timed++
	}
}

func (l *loop) stop(job fsm.JobID) {
	a, ok := l.running[job]
	if !ok {
		return
	}
	delete(l.running, job)
	if l.counts[a.route]--; l.counts[a.route] == 0 {
		delete(l.counts, a.route)
	}
	if a.deadline != 0 {
		l.timed--
	}
}

// deadline of an attempt, by which its holder should have reported: its own
// timeout or the end of all attempts, and the grace.
func (l *loop) deadline(row *dispatch.Row, granted int64) int64 {
	end := row.DeadlineAt
	if l.cfg.TimeoutOf != nil && len(row.Opts) > 0 {
		if t := l.cfg.TimeoutOf(row.Opts); t > 0 {
			if own := granted + t.Microseconds(); end == 0 || own < end {
				end = own
			}
		}
	}
	if end == 0 {
		return 0
	}
	return end + l.cfg.SilentGrace.Microseconds()
}

// failed ends the reign: an entry was not committed.
func (l *loop) failed(err error) {
	if !errors.Is(err, ErrNotLeader) {
		l.r.end(errors.Join(errCommit, err))
	}
}

const (
	pause       = 2 * time.Millisecond
	silentEvery = time.Second
	againAfter  = 30 * time.Second // an end that was not written is asked for again
)

// endSilent ends the attempts whose holders should have reported long ago.
func (l *loop) endSilent() time.Time {
	if l.timed == 0 {
		return time.Time{}
	}
	if l.now.Before(l.nextSilent) {
		return l.nextSilent
	}
	var ends []End
	now := l.clock.now()
	for job, a := range l.running {
		if a.deadline != 0 && a.deadline <= now && !a.ending {
			a.deadline = now + againAfter.Microseconds()
			l.running[job] = a
			ends = append(ends, l.endOf(job, a, EndTimeout))
		}
	}
	l.tellSink(ends)
	l.nextSilent = l.now.Add(max(silentEvery, time.Duration(len(l.running))*20*time.Microsecond))
	return l.nextSilent
}

func (l *loop) endOf(job fsm.JobID, a attempt, why EndReason) End {
	e := End{Reason: why, Lease: fsm.Lease{Job: job, ID: a.id, Session: a.session, Turn: a.turn}}
	l.n.replica.read(func(s *fsm.State) {
		if lease, ok := s.Lease(job); ok && lease.ID == a.id {
			e.Lease = lease
		}
	})
	if s := l.sessions[a.session]; s != nil {
		e.Worker = s.worker
	}
	return e
}

func (l *loop) tellSink(ends []End) {
	if len(ends) > 0 {
		l.r.spawn(func() { l.n.sink.End(ends) })
	}
}
