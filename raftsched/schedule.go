package raftsched

import (
	"context"
	"slices"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// schedule is what becomes of matches and releases: entries of the log, one in
// flight at a time. While one is in flight the next one fills; that is the
// batching.
type schedule struct {
	flight    *flight
	pace      pace
	nextEntry time.Time // not before this

	releases []fsm.Release
	released []fsm.Lease // of the same leases, in the same order
	since    time.Time   // the oldest of them
	urgent   bool        // they free jobs to be granted again

	waiting []func() // run when the entry in flight has landed
	spare   []dispatch.Match
	// fetching counts, by poll, answers that wait for arguments.
	fetching map[pollKey]int
}

// pace spreads entries, for the disk's endurance and not for its speed: over
// time there is at most one per interval. Entries with many grants keep to it
// strictly, since waiting fills the next one; those with few are somebody's
// latency, and go out at once as long as entries have been saved up.
type pace struct {
	saved float64
	at    time.Time
}

const (
	paceSaved = 500 // entries that may be saved up
	paceFew   = 64  // grants of an entry that does not wait
)

// next tells when the entry after this one may be proposed.
func (p *pace) next(now time.Time, interval time.Duration, grants int) time.Time {
	if p.at.IsZero() {
		p.saved = paceSaved
	} else if interval > 0 {
		p.saved = min(p.saved+float64(now.Sub(p.at))/float64(interval), paceSaved)
	}
	p.at = now
	p.saved = max(p.saved-1, 0)
	if grants <= paceFew && p.saved >= 1 {
		return now
	}
	return now.Add(interval)
}

// pollKey names a poll.
type pollKey struct{ session, poll uint64 }

// flight is an entry that has been proposed.
type flight struct {
	matches []dispatch.Match
	// order of the grants in the entry, poll by poll: indexes of matches.
	order    []int32
	released []fsm.Lease
	at       int64
	// wanted grants, by their place in the entry: their rows do not carry their
	// arguments, which are under way.
	wanted []int
	args   *payloads
}

// payloads are arguments under way.
type payloads struct {
	arrived bool
	bodies  map[int][]byte
	waiting []func() // answers
}

// propose matches polls with jobs and proposes their grants, at most one entry
// at a time and at the pace. It tells when to try again.
func (l *loop) propose() time.Time {
	s := &l.schedule
	if l.now.Before(s.nextEntry) {
		return s.nextEntry
	}
	var matches []dispatch.Match
	if l.clock.known {
		matches = l.d.Match(l.clock.now(), l.cfg.MaxGrants, s.spare[:0])
	}
	return l.pile(matches)
}

// pile proposes grants with the releases that have piled up; releases alone
// only when they are many, old or urgent.
func (l *loop) pile(matches []dispatch.Match) time.Time {
	s := &l.schedule
	if s.flight != nil {
		return time.Time{}
	}
	if len(matches) == 0 {
		if len(s.releases) == 0 {
			return time.Time{}
		}
		if due := s.since.Add(l.cfg.ReleaseDelay); len(s.releases) < l.cfg.ReleaseLimit && !s.urgent && l.now.Before(due) {
			return due
		}
	}
	l.launch(matches)
	return time.Time{}
}

// launch proposes an entry.
func (l *loop) launch(matches []dispatch.Match) {
	s := &l.schedule
	f := &flight{matches: matches, released: s.released, at: l.clock.now()}
	entry := &fsm.Schedule{Epoch: l.r.epoch.Load(), At: f.at, Releases: s.releases}
	if len(matches) > 0 {
		f.order = byPoll(matches)
		entry.Grants = make([]fsm.Grant, len(matches))
		for i, k := range f.order {
			m := &matches[k]
			entry.Grants[i] = fsm.Grant{Job: m.Row.Job, Session: m.Session, Poll: m.Poll, Turn: m.Row.Turn}
			if m.Row.Args == nil && l.n.store.ArgsInPayloads(m.Row.Flags) {
				f.wanted = append(f.wanted, i)
			}
		}
	}
	s.releases, s.released, s.urgent = nil, nil, false
	s.flight = f
	s.nextEntry = s.pace.next(l.now, l.cfg.EntryInterval, len(matches))
	l.fetch(f) // beside the commit
	l.r.proposer.propose(entry, func(res *fsm.Result, err error) {
		l.r.put(func(l *loop) { l.land(f, res, err) })
	})
}

// byPoll orders matches so that those of one poll stand together: the entry
// then names it once.
func byPoll(matches []dispatch.Match) []int32 {
	groups := map[pollKey]int32{}
	group := make([]int32, len(matches))
	var starts []int32
	for i := range matches {
		key := pollKey{matches[i].Session, matches[i].Poll}
		g, ok := groups[key]
		if !ok {
			g = int32(len(starts))
			groups[key] = g
			starts = append(starts, 0)
		}
		group[i] = g
		starts[g]++
	}
	var sum int32
	for g, n := range starts {
		starts[g], sum = sum, sum+n
	}
	order := make([]int32, len(matches))
	for i, g := range group {
		order[starts[g]] = int32(i)
		starts[g]++
	}
	return order
}

// land takes the outcome of the entry in flight.
func (l *loop) land(f *flight, res *fsm.Result, err error) {
	s := &l.schedule
	s.flight = nil
	if err == nil && res.Refused {
		err = ErrFenced // another reign has begun
	}
	if err != nil {
		l.failed(err)
		return
	}
	for _, lease := range f.released {
		if a, ok := l.running[lease.Job]; ok && a.id == lease.ID {
			l.stop(lease.Job)
		}
	}
	l.reread(l.uncounted(f.released))
	l.answer(f, res)
	waiting := s.waiting
	s.waiting = nil
	for _, w := range waiting {
		w()
	}
	if cap(f.matches) > 0 {
		clear(f.matches)
		s.spare = f.matches[:0]
	}
}

// answer the polls with what was accepted.
func (l *loop) answer(f *flight, res *fsm.Result) {
	rejected, now := res.Rejected, l.clock.now()
	at := func(i int) *dispatch.Match { return &f.matches[f.order[i]] }
	for i := 0; i < len(f.order); {
		session, poll := at(i).Session, at(i).Poll
		j := i + 1
		for j < len(f.order) && at(j).Session == session && at(j).Poll == poll {
			j++
		}
		grants := make([]Grant, 0, j-i)
		var late []int // positions in grants whose arguments are under way
		var from []int
		for ; i < j; i++ {
			m := at(i)
			if len(rejected) > 0 && rejected[0] == int32(i) {
				rejected = rejected[1:]
				l.d.Rejected(m.Row.Job)
				continue
			}
			l.d.Granted(m.Row.Job)
			l.start(m.Row.Job, attempt{
				id: res.Index, session: session, turn: m.Row.Turn, route: m.Row.Lane.Route, ordinal: uint32(i),
				deadline: l.deadline(&m.Row, now),
			})
			if len(f.wanted) > 0 {
				if _, ok := slices.BinarySearch(f.wanted, i); ok {
					late, from = append(late, len(grants)), append(from, i)
				}
			}
			grants = append(grants, Grant{
				Lease: fsm.Lease{Job: m.Row.Job, ID: res.Index, Session: session, Turn: m.Row.Turn, Poll: poll, GrantedAt: f.at},
				Row:   m.Row, Route: l.routes[m.Row.Lane.Route],
			})
		}
		if len(late) > 0 && !f.args.arrived {
			l.schedule.fetching[pollKey{session, poll}]++
			l.count(grants, false)
			f.args.waiting = append(f.args.waiting, func() {
				fill(grants, late, from, f.args)
				key := pollKey{session, poll}
				if l.schedule.fetching[key]--; l.schedule.fetching[key] == 0 {
					delete(l.schedule.fetching, key)
				}
				l.count(grants, true)
				l.deliver(session, poll, grants)
			})
			continue
		}
		if len(late) > 0 {
			fill(grants, late, from, f.args)
		}
		l.deliver(session, poll, grants)
	}
}

// count lets the timeouts of granted attempts run from now on, or not run until
// their arguments have come and the poll is answered.
func (l *loop) count(grants []Grant, run bool) {
	for i := range grants {
		g := &grants[i]
		a, ok := l.running[g.Lease.Job]
		if !ok || a.id != g.Lease.ID || a.ending {
			continue
		}
		a.deadline = 0
		if run {
			a.deadline = l.deadline(&g.Row, l.clock.now())
		}
		l.start(g.Lease.Job, a)
	}
}

func fill(grants []Grant, late, from []int, args *payloads) {
	for k, g := range late {
		grants[g].Row.Args = args.bodies[from[k]]
	}
}

// deliver hands grants to the poll that waits for them. A poll that nobody
// waits for any more, or that its worker has closed, gets nothing: its grants
// are taken back, uncounted.
func (l *loop) deliver(session, poll uint64, grants []Grant) {
	s := l.sessions[session]
	if s == nil || s.closing {
		return // the session's end takes care of its leases
	}
	w := s.polls[poll]
	delete(s.polls, poll)
	if w != nil && !w.gone && poll > s.pollsClosed {
		w.answer <- pollAnswer{grants: grants, epoch: l.r.epoch.Load()}
		return
	}
	if w != nil {
		w.answer <- pollAnswer{epoch: l.r.epoch.Load()}
	}
	for i := range grants {
		l.takeBackLease(grants[i].Lease.Job, grants[i].Lease.ID)
	}
}

// fetch reads the arguments that rows do not carry, beside the commit.
func (l *loop) fetch(f *flight) {
	if len(f.wanted) == 0 {
		return
	}
	f.args = &payloads{}
	jobs := make([]fsm.JobID, len(f.wanted))
	for k, i := range f.wanted {
		jobs[k] = f.matches[f.order[i]].Row.Job
	}
	l.r.spawn(func() {
		bodies, err := retry(l.r.ctx, func(ctx context.Context) ([][]byte, error) { return l.n.store.Payloads(ctx, jobs) })
		if err != nil {
			return // the reign has ended
		}
		l.r.put(func(l *loop) {
			f.args.bodies = make(map[int][]byte, len(bodies))
			for k, i := range f.wanted {
				if k < len(bodies) {
					f.args.bodies[i] = bodies[k]
				}
			}
			f.args.arrived = true
			for _, w := range f.args.waiting {
				w()
			}
			f.args.waiting = nil
		})
	})
}

// ended piles up the release of a lease whose fact is written. It goes out with
// the next entry; nothing hangs on when.
func (l *loop) ended(job fsm.JobID, id uint64) {
	a, ok := l.running[job]
	if !ok || a.id != id || a.ending {
		return
	}
	l.release(job, a, fsm.Lease{Job: job, ID: id, Turn: a.turn})
}

// takeBackLease releases a lease that never reached its worker, uncounted. Its
// row is read again when the release has been applied.
func (l *loop) takeBackLease(job fsm.JobID, id uint64) {
	a, ok := l.running[job]
	if !ok || a.id != id || a.ending {
		return
	}
	// Its session marks it as no end: see uncounted.
	l.release(job, a, fsm.Lease{Job: job, ID: id, Turn: a.turn, Session: a.session})
	l.schedule.urgent = true
}

func (l *loop) release(job fsm.JobID, a attempt, lease fsm.Lease) {
	s := &l.schedule
	a.ending = true
	l.running[job] = a
	if len(s.releases) == 0 {
		s.since = l.now
	}
	s.releases = append(s.releases, fsm.Release{ID: a.id, Ordinal: a.ordinal})
	s.released = append(s.released, lease)
}

// uncounted picks those of the releases that were no end.
func (l *loop) uncounted(released []fsm.Lease) []fsm.Lease {
	var out []fsm.Lease
	for i := range released {
		if released[i].Session != 0 {
			out = append(out, released[i])
		}
	}
	return out
}

// releaseAll proposes what has piled up: the reign ends, and the next one need
// not look these leases up.
func (l *loop) releaseAll() {
	if s := &l.schedule; s.flight == nil && len(s.releases) > 0 {
		l.launch(nil)
	}
}

// afterFlight runs f when no entry is in flight that was matched before now.
func (l *loop) afterFlight(f func()) {
	if l.schedule.flight == nil {
		f()
		return
	}
	l.schedule.waiting = append(l.schedule.waiting, f)
}
