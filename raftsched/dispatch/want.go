package dispatch

// Scan asks for the next streams that have rows, in order.
type Scan struct {
	After LanePriority
	First bool // from the start; After says nothing
	Limit int
}

// Wants is what the dispatcher asks its owner to read. Loads and Sweeps are two
// batches for the store; each is answered by Loaded under a mark begun before
// the read.
type Wants struct {
	Loads  []Load // somebody waits for these: refills, new streams, hints
	Sweeps []Load // the periodic search for rows that nobody told of
	Scan   *Scan  // nil: none now; answered by Found
	Routes bool   // said once: rows named routes that are not in the dictionary; SetRoutes
}

// scan is the state of the round robin search for streams.
type scan struct {
	after LanePriority
	asked bool
	due   int64
}

// Wants says what to read now. A load is asked for once, until it is answered:
// by Loaded, also if the read failed; a scan likewise by Found.
func (d *Dispatcher) Wants(now int64) Wants {
	d.now = now
	d.fire()
	d.rest()
	w := Wants{Routes: d.routesWanted}
	d.routesWanted = false
	if d.active == 0 {
		return w
	}
	rows := 0
	for n := d.todo.len(); n > 0 && rows < maxAsked && len(w.Loads) < maxLoads; n-- {
		s := d.todo.pop()
		s.inTodo = false
		if d.needs(s) {
			l := d.askLoad(s)
			w.Loads = append(w.Loads, l)
			rows += l.Limit
		}
	}
	rows = 0
	for d.fault != faultNoSweeps && d.round.len() > 0 && rows < maxAsked && len(w.Sweeps) < maxLoads {
		// Whatever is due soon goes along, so that one batch serves all.
		s := *d.round.front()
		if !s.dead && !dueBy(now+d.config.SweepEvery/4, s.due, d.config.SweepEvery) {
			break
		}
		d.round.pop()
		s.inRound = false
		if s.dead || !s.served() {
			continue // woken, it joins again
		}
		l := d.askSweep(s)
		w.Sweeps = append(w.Sweeps, l)
		rows += l.Limit
	}
	if !d.scan.asked && dueBy(now, d.scan.due, d.config.ScanEvery) {
		d.scan.asked = true
		w.Scan = &Scan{After: d.scan.after, First: d.scan.after == (LanePriority{}), Limit: scanLimit}
	}
	return w
}

// dueBy says whether something that recurs every span is due. An instant
// further ahead than two spans comes from a clock that was set back since.
func dueBy(now, due, span int64) bool { return due <= now || due > now+2*span }

// needs says whether a stream needs a load now.
func (d *Dispatcher) needs(s *stream) bool {
	return !s.dead && !s.load.asked && s.served() && (d.hungry(s) || s.searchNow())
}

// searchNow: a search is wanted, and did not go on for too long already.
func (s *stream) searchNow() bool { return s.searchWanted && s.pages < maxPages }

// askLoad makes the load of a stream that needs one. Refills and searches take
// turns.
func (d *Dispatcher) askLoad(s *stream) Load {
	limit := d.limit()
	s.searched = s.searchNow() && !(s.searched && d.hungry(s))
	s.load = reading{asked: true, after: s.cursor}
	if s.searched {
		s.load.after, s.searchWanted = s.searchAt, false
		limit = min(limit, firstPage<<s.pages)
	} else {
		limit = max(1, limit-s.window.len())
	}
	return Load{Lane: s.id, After: s.load.after, Limit: limit}
}

// askSweep makes the load of a periodic sweep: from the stream's start, or from
// where the last search broke off.
func (d *Dispatcher) askSweep(s *stream) Load {
	s.sweep = reading{asked: true}
	if s.searchWanted {
		if s.pages >= maxPages && s.end {
			s.end = false // what is known is much: look behind it too
			d.consider(s)
		}
		s.sweep.after, s.searchWanted = s.searchAt, false
	}
	s.pages = 0
	return Load{Lane: s.id, After: s.sweep.after, Limit: min(d.limit(), firstPage), Sweep: true}
}

// consider lists a stream among those to be read now if it needs a read.
func (d *Dispatcher) consider(s *stream) {
	if !s.inTodo && d.needs(s) {
		s.inTodo = true
		d.todo.push(s)
	}
}

// joinRound adds a stream to those that are swept periodically. While its sweep
// is under way it waits for the answer.
func (d *Dispatcher) joinRound(s *stream) {
	if !s.inRound && !s.sweep.asked {
		s.inRound = true
		d.round.push(s)
	}
}

// wantSearch notes that a search is to begin at pos, or in front of it.
func (s *stream) wantSearch(pos Cursor) {
	if !s.searchWanted || pos.Compare(s.searchAt) < 0 {
		s.searchWanted, s.searchAt = true, pos
	}
}

// search has a stream searched now, from pos on.
func (d *Dispatcher) search(s *stream, pos Cursor) {
	s.pages = 0
	s.wantSearch(pos)
	d.consider(s)
}

// Hint says that another node added rows to these streams. It is a wake-up: the
// rows are read (C4).
func (d *Dispatcher) Hint(lanes []LanePriority) {
	for _, id := range lanes {
		d.hint(id)
	}
}

func (d *Dispatcher) hint(id LanePriority) {
	s := d.find(id)
	switch {
	case s == nil:
		d.discover(id)
	case !s.end && s.wake == 0 && !s.load.asked:
		d.consider(s) // more is known to lie behind the window: refills get there
	default:
		d.search(s, Cursor{})
	}
}

// Found answers a scan with the streams in order. ok false: the scan failed.
func (d *Dispatcher) Found(scan Scan, lanes []LanePriority, ok bool) {
	if !d.scan.asked {
		return
	}
	d.scan.asked = false
	d.scan.due = d.now + d.config.ScanEvery
	if !ok {
		return
	}
	d.scan.after = LanePriority{}
	if len(lanes) >= scan.Limit {
		d.scan.after = lanes[len(lanes)-1]
	}
	for _, id := range lanes {
		if d.find(id) == nil {
			d.discover(id)
		}
	}
}

// Next is the next instant at which Match or Wants may have something new to
// say without an event in between; false: there is none. An instant that has
// passed means now.
func (d *Dispatcher) Next(now int64) (wake int64, ok bool) {
	wake = noTimer
	if d.polls > 0 {
		if d.unmatched {
			return now, true
		}
		if len(d.timers) > 0 {
			wake = d.timers[0].timerAt
		}
		for _, j := range d.apart {
			if j.row.RunAt > d.now {
				wake = min(wake, j.row.RunAt)
				break
			}
		}
	}
	if d.active > 0 {
		if d.todo.len() > 0 || d.routesWanted {
			return now, true
		}
		if d.round.len() > 0 {
			wake = min(wake, wakeAt(now, (*d.round.front()).due, d.config.SweepEvery))
		}
		if !d.scan.asked {
			wake = min(wake, wakeAt(now, d.scan.due, d.config.ScanEvery))
		}
	}
	return wake, wake != noTimer
}

func wakeAt(now, due, span int64) int64 {
	if dueBy(now, due, span) {
		return now
	}
	return due
}
