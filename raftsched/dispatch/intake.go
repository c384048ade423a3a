package dispatch

import "github.com/heddle-io/heddle/raftsched/fsm"

// Walked hands in what a walk found: of each stream its first rows. It ends the
// mark.
func (d *Dispatcher) Walked(m Mark, answers []Loaded) {
	if d.marks.isOpen(m) {
		for i := range answers {
			a := &answers[i]
			s := d.find(a.Lane)
			if s == nil {
				s = d.create(a.Lane)
			}
			if s != nil {
				d.absorb(s, Cursor{}, a, m)
				d.place(s)
				d.consider(s)
			}
		}
	}
	d.End(m)
}

// Loaded hands in the answers to loads, in their order, and ends the mark. No
// answers at all: the read failed, and the loads will be wanted again at once;
// it is for the caller to wait a little before asking.
func (d *Dispatcher) Loaded(m Mark, loads []Load, answers []Loaded) {
	valid := d.marks.isOpen(m)
	for i := range loads {
		l := &loads[i]
		s := d.find(l.Lane)
		if s == nil {
			continue // dropped meanwhile
		}
		under := &s.load
		if l.Sweep {
			under = &s.sweep
		}
		if !under.asked || under.after != l.After {
			continue // answered twice
		}
		r := *under
		*under = reading{}
		if l.Sweep {
			s.due = d.now + d.config.SweepEvery
			d.joinRound(s)
		}
		switch {
		case i >= len(answers) || !valid:
			if l.Sweep || s.searched {
				d.search(s, r.after)
			}
		default:
			d.absorb(s, r.after, &answers[i], m)
			if r.missed {
				d.search(s, r.missedAt)
			}
			if l.Sweep && r.after == (Cursor{}) && len(answers[i].Rows) == 0 && s.empty() {
				d.drop(s) // a scan finds it, should it come to life again
				continue
			}
		}
		d.place(s)
		d.consider(s)
	}
	d.End(m)
}

// empty: there is nothing in the stream, as far as is known, and no read of it
// is under way or wanted.
func (s *stream) empty() bool { return s.end && s.window.len() == 0 && s.quiet() }

// absorb takes the rows that a read found behind after, which is at most the
// cursor: a refill begins at the cursor, a search in front of it. Unknown rows
// enter the window wherever they belong.
func (d *Dispatcher) absorb(s *stream, after Cursor, a *Loaded, m Mark) {
	if !s.end && after.Compare(s.cursor) > 0 {
		return // the cursor moved back meanwhile: a gap lies between
	}
	rows, beyond := d.near(a)
	whole := a.End && beyond == nil
	refill := after == s.cursor
	lastFresh := false
	last := after
	for i := range rows {
		row := &rows[i]
		pos := row.cursor()
		if !refill && !s.end && pos.Compare(s.cursor) > 0 && s.window.len() >= d.limit() {
			last, whole, beyond = s.cursor, false, nil // the window is full: leave the rest
			break
		}
		v, e := d.judge(row, m)
		if v == fresh {
			d.enter(s, row, e)
		}
		lastFresh, last = v == fresh, pos
	}
	reached := whole || beyond != nil || last.Compare(s.cursor) >= 0
	switch {
	case whole:
		// What comes later is due after the read began, or is committed late: so
		// the cursor may pass the dead entries of the index.
		s.end, s.wake = true, 0
		s.advance(last)
		s.advance(Cursor{RunAt: a.Now})
	case beyond != nil:
		s.end, s.wake = false, beyond.RunAt-d.config.Horizon/2
		s.advance(beyond.cursor().before())
	case reached:
		s.end, s.wake = false, 0
		s.advance(last)
	case lastFresh:
		// Nobody knew the last row: more of the kind may follow it. What the
		// window has behind them waits its turn in the database.
		for s.window.len() > 0 && s.window.back().pos.Compare(last) > 0 {
			d.evictBack(s)
		}
		s.cutTo(last)
	default:
		s.pages++
		s.wantSearch(last)
	}
	if reached {
		s.pages = 0
	}
	d.trim(s)
	d.shrink()
}

// advance moves the cursor on to pos, never back.
func (s *stream) advance(pos Cursor) {
	if pos.Compare(s.cursor) > 0 {
		s.cursor = pos
	}
}

// near splits rows, which are in order, at the horizon: beyond is the first row
// behind it.
func (d *Dispatcher) near(a *Loaded) (near []Row, beyond *Row) {
	if d.now == 0 {
		d.now = a.Now
	}
	horizon := max(d.now, a.Now) + d.config.Horizon
	n := len(a.Rows)
	for n > 0 && a.Rows[n-1].RunAt > horizon {
		n--
	}
	if n < len(a.Rows) {
		beyond = &a.Rows[n]
	}
	return a.Rows[:n], beyond
}

// Commit hands in what a committed transaction of the leader, begun at m,
// changed, and ends the mark: leases whose fact is written, jobs that are no
// longer available without having been leased, and rows that became ready.
func (d *Dispatcher) Commit(m Mark, ended []fsm.Lease, gone []JobTurn, ready []Row) {
	valid := d.marks.isOpen(m)
	d.marks.close(m) // its own rows are newer than the ends it writes
	for i := range ended {
		d.Ended(ended[i].Job, ended[i].Turn)
	}
	for i := range gone {
		d.Gone(gone[i].Job, gone[i].Turn)
	}
	for i := range ready {
		row := &ready[i]
		id := LanePriority{Lane: row.Lane, Priority: row.Priority}
		if !valid {
			d.hint(id)
			continue
		}
		if v, e := d.judge(row, m); v == fresh {
			d.admit(id, row, e)
		}
	}
	d.purge()
}

// admit lets a fresh row into its window if the window reaches so far; else it
// is left to the next load.
func (d *Dispatcher) admit(id LanePriority, row *Row, e entry) {
	s := d.find(id)
	if s == nil {
		if s = d.create(id); s == nil {
			return
		}
		s.end = !d.partial // unknown streams have nothing in the database
	}
	pos := row.cursor()
	far := row.RunAt > d.now+d.config.Horizon
	switch {
	case far && (s.end || s.wake != 0):
		if s.end || pos.Compare(s.cursor) <= 0 {
			s.end, s.cursor = false, pos.before()
			s.wake = row.RunAt - d.config.Horizon/2
		}
		s.miss(pos)
	case s.end || pos.Compare(s.cursor) <= 0:
		d.enter(s, row, e)
		if s.end {
			s.advance(pos)
		}
		d.trim(s)
		d.shrink()
	default:
		s.miss(pos)
	}
	d.place(s)
	d.consider(s)
}

// Ended: an outcome of the job's turn is in the database. For what a
// transaction writes together with ready rows, Commit is the way.
func (d *Dispatcher) Ended(id fsm.JobID, turn int32) {
	e := d.index[id]
	j := e.job
	switch {
	case j == nil || turn < j.row.Turn: // unknown, or the life before
	case j.state == waiting || j.state == apart:
		d.takeOut(j)
		d.recycle(j)
		j = nil
	case j.state == granting:
		// Written under a lease that was given back: the grant on its way comes
		// too late, and keeps the job until its own end or rejection.
		j.gone, j.again = true, true
	default:
		again, stream := j.again, j.row.stream()
		d.unlease(j)
		d.recycle(j)
		j = nil
		if again {
			d.hint(stream)
		}
	}
	d.remember(id, e, j, turn)
}

// Gone: the job, not leased, is no longer available as of a turn.
func (d *Dispatcher) Gone(id fsm.JobID, turn int32) {
	e := d.index[id]
	j := e.job
	switch {
	case j == nil || turn < j.row.Turn:
	case j.state == waiting || j.state == apart:
		d.takeOut(j)
		d.recycle(j)
		j = nil
	default: // its holder will learn it from the report's turn
		j.gone = true
	}
	d.remember(id, e, j, turn)
}

// stream names the row's stream.
func (r *Row) stream() LanePriority { return LanePriority{Lane: r.Lane, Priority: r.Priority} }

// unlease takes a job out of its session's count.
func (d *Dispatcher) unlease(j *job) {
	s := j.session
	if j.state == leased {
		d.leased--
	} else {
		d.granting--
	}
	s.held--
	if s.held == 0 {
		s.alone = false
		if s.gone {
			delete(d.sessions, s.id)
		}
	}
}

// Granted: the grant of a match was applied; the job is leased.
func (d *Dispatcher) Granted(id fsm.JobID) {
	if j := d.index[id].job; j != nil && j.state == granting {
		j.state = leased
		j.row.Args, j.row.Opts = nil, nil
		d.granting--
		d.leased++
	}
}

// Rejected: the grant of a match was not applied; the row is ready again.
func (d *Dispatcher) Rejected(id fsm.JobID) {
	if j := d.index[id].job; j != nil && j.state == granting {
		row, gone, again := j.row, j.gone, j.again
		d.unlease(j)
		d.release(j)
		switch {
		case !gone:
			d.takeBack(&row)
		case again:
			d.hint(row.stream())
		}
	}
}

// Returned: the lease was released uncounted and nothing was written; the row
// is ready again at its old place, the front.
func (d *Dispatcher) Returned(row Row) {
	e := d.index[row.Job]
	switch j := e.job; {
	case j == nil:
		if e.at != 0 && e.turn >= row.Turn {
			return
		}
	case j.state == waiting || j.state == apart || row.Turn < j.row.Turn:
		return
	default:
		gone := j.gone
		d.unlease(j)
		d.release(j)
		if gone {
			return
		}
	}
	d.takeBack(&row)
}

// takeBack lets a row from memory in again.
func (d *Dispatcher) takeBack(row *Row) {
	if !d.barred(row, 0) && !expired(row, d.now) {
		d.admit(row.stream(), row, d.index[row.Job])
	}
}

// Released: the lease was released without an end that is known here. Whatever
// the row is now is read from the database.
func (d *Dispatcher) Released(id fsm.JobID) {
	e := d.index[id]
	if j := e.job; j != nil && (j.state == granting || j.state == leased) {
		stream, turn := j.row.stream(), j.row.Turn
		d.unlease(j)
		d.recycle(j)
		d.remember(id, e, nil, turn)
		d.hint(stream)
	}
}

// Leased tells of a lease that the takeover found. row is the job's, nil if
// there is none any more.
func (d *Dispatcher) Leased(l fsm.Lease, row *Row) {
	e := d.index[l.Job]
	if j := e.job; j != nil {
		if j.state == granting || j.state == leased {
			return
		}
		d.takeOut(j)
		d.recycle(j)
		e.job = nil
	}
	s := d.sessions[l.Session]
	if s == nil {
		s = newSession(l.Session)
		d.sessions[l.Session] = s
	}
	j := d.blank()
	if row != nil {
		j.row = *row
		j.row.Args, j.row.Opts = nil, nil
	}
	j.row.Job, j.row.Turn = l.Job, l.Turn
	j.state, j.session = leased, s
	s.held++
	s.alone = s.alone || j.row.Losses >= aloneFrom
	d.leased++
	e.job = j
	d.index[l.Job] = e
}
