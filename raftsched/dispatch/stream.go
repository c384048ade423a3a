package dispatch

// stream is what is known of one LanePriority: its window, which reaches up to
// the cursor, and the reads it waits for.
//
// What lies up to the cursor is in the window, or was seen and is granting,
// leased, apart or kept back by a hold, or was committed late and is found by a
// sweep. What lies behind it is in the database; end says that nothing does.
type stream struct {
	id    LanePriority
	route *route
	level int // of the queue
	group *group

	window window
	cursor Cursor
	end    bool
	held   bool // its lane is held
	dead   bool // dropped from the dispatcher

	next, prev *stream // in its band, while it has a due row

	wake    int64 // when rows beyond the horizon come near; 0: there are none known
	timerAt int64
	timer   int // its place in the timer heap, -1: none

	load     reading // a refill, or a search that is wanted at once
	searched bool    // the last one was a search: they alternate
	sweep    reading // a periodic search

	searchWanted bool
	searchAt     Cursor
	pages        int // searches in a row that went on where the last one stopped

	due     int64 // of the next periodic sweep
	inRound bool  // in the dispatcher's round of periodic sweeps
	inTodo  bool  // in the dispatcher's list of streams that need a read now

	nth, routeNth int // places in the dispatcher's and the route's lists
}

// reading is a read of a stream that is under way.
type reading struct {
	asked bool
	after Cursor
	// Rows were left in the database that it may not see, from missedAt on.
	missed   bool
	missedAt Cursor
}

// miss notes that a row at pos was left in the database.
func (r *reading) miss(pos Cursor) {
	if pos = pos.before(); r.asked && (!r.missed || pos.Compare(r.missedAt) < 0) {
		r.missed, r.missedAt = true, pos
	}
}

// miss notes that a row at pos was left in the database, for the reads under
// way.
func (s *stream) miss(pos Cursor) {
	s.load.miss(pos)
	s.sweep.miss(pos)
}

// quiet: no read of the stream is under way or wanted.
func (s *stream) quiet() bool { return !s.load.asked && !s.sweep.asked && !s.searchWanted }

// limit is how many rows a stream may keep: a share of all.
func (d *Dispatcher) limit() int {
	n := max(1, len(d.all))
	return max(min(d.config.Window, d.config.MaxRows/n), min(minWindow, d.config.Window))
}

// find gives a known stream. Rows come in runs of one stream.
func (d *Dispatcher) find(id LanePriority) *stream {
	if s := d.latest; s != nil && s.id == id {
		return s
	}
	s := d.streams[id]
	if s != nil {
		d.latest = s
	}
	return s
}

// create makes a stream; nil if its route is unknown or there is no room.
func (d *Dispatcher) create(id LanePriority) *stream {
	r := d.routes[id.Route]
	if r == nil {
		d.routesWanted = true
		if d.strays == nil {
			d.strays = map[LanePriority]struct{}{}
		}
		if len(d.strays) < maxStrays {
			d.strays[id] = struct{}{}
		}
		return nil
	}
	if len(d.all) >= d.config.MaxStreams && !d.evict() {
		d.partial = true
		return nil
	}
	i := r.queue.level(id.Priority)
	lv := r.queue.levels[i]
	g := lv.groups[id.Key]
	if g == nil {
		g = &group{level: lv, key: id.Key}
		g.streams = g.only[:0]
		lv.groups[id.Key] = g
	}
	s := &stream{id: id, route: r, level: i, group: g,
		timer: -1, nth: len(d.all), routeNth: len(r.streams), due: d.now + d.config.SweepEvery}
	_, s.held = d.heldLanes[id.Lane]
	g.streams = append(g.streams, s)
	r.streams = append(r.streams, s)
	d.all = append(d.all, s)
	d.streams[id] = s
	d.latest = s
	d.joinRound(s)
	return s
}

// discover makes a stream that is to be read from its start.
func (d *Dispatcher) discover(id LanePriority) {
	if s := d.create(id); s != nil {
		d.consider(s)
	}
}

// drop forgets a stream and its rows.
func (d *Dispatcher) drop(s *stream) {
	for s.window.len() > 0 {
		d.evictBack(s)
	}
	d.place(s)
	s.wake = 0
	d.setTimer(s, noTimer)
	s.dead = true
	delete(d.streams, s.id)
	if d.latest == s {
		d.latest = nil
	}
	last := d.all[len(d.all)-1]
	d.all[s.nth], last.nth = last, s.nth
	d.all[len(d.all)-1] = nil
	d.all = d.all[:len(d.all)-1]
	r := s.route
	last = r.streams[len(r.streams)-1]
	r.streams[s.routeNth], last.routeNth = last, s.routeNth
	r.streams[len(r.streams)-1] = nil
	r.streams = r.streams[:len(r.streams)-1]
	g := s.group
	for i, other := range g.streams {
		if other == s {
			last := len(g.streams) - 1
			g.streams[i], g.streams[last] = g.streams[last], nil
			g.streams = g.streams[:last]
			break
		}
	}
	if len(g.streams) == 0 {
		delete(g.level.groups, g.key)
	}
}

// evict looks at a few streams in turn for one to make room: nobody serves it,
// or it is empty. Scans find it again.
func (d *Dispatcher) evict() bool {
	for range min(16, len(d.all)) {
		d.hand = (d.hand + 1) % len(d.all)
		s := d.all[d.hand]
		if !s.quiet() {
			continue
		}
		empty := s.end && s.window.len() == 0
		if empty || s.route.active == 0 {
			d.partial = d.partial || !empty
			d.drop(s)
			return true
		}
	}
	return false
}

// trim drops the last rows of a window that is too long; they stay behind the
// cursor, in the database.
func (d *Dispatcher) trim(s *stream) {
	if limit := d.limit(); s.window.len() > limit {
		for s.window.len() > limit {
			d.evictBack(s)
		}
		s.cutTo(s.window.back().pos)
	}
}

// cutTo moves the cursor back to pos; the window has nothing behind it.
func (s *stream) cutTo(pos Cursor) {
	s.cursor, s.end, s.wake = pos, false, 0
}

// evictBack drops the last row of a window.
func (d *Dispatcher) evictBack(s *stream) {
	j := s.window.popBack().job
	d.unlink(j)
	d.rows--
	d.release(j)
}

// shrink brings windows down to their share when all rows together are too
// many, a few streams at a time.
func (d *Dispatcher) shrink() {
	if d.rows <= max(d.config.MaxRows, minWindow*len(d.all)) {
		return
	}
	for range min(8, len(d.all)) {
		d.hand = (d.hand + 1) % len(d.all)
		s := d.all[d.hand]
		before := s.window.len()
		d.trim(s)
		if s.window.len() != before {
			d.place(s)
		}
	}
}

// place puts a stream where its first row belongs: into its band when it is
// due, else to the timers. It must be called after every change of the front.
func (d *Dispatcher) place(s *stream) {
	has := s.window.len() > 0 && !s.held
	due := has && s.window.front().pos.RunAt <= d.now
	if in := s.next != nil; due != in {
		b, g := &s.route.bands[s.level], s.group
		n := 1
		if due {
			if g.ready == 0 {
				d.turn++
				g.turn = d.turn
			}
			b.pushBack(s)
		} else {
			b.remove(s)
			n = -1
		}
		g.ready += n
		g.level.ready += n
		s.route.queue.ready += n
		d.ready += n
	}
	at := int64(noTimer)
	if has && !due {
		at = s.window.front().pos.RunAt
	}
	if s.wake != 0 {
		at = min(at, s.wake)
	}
	d.setTimer(s, at)
}

// served: somebody polls for its jobs.
func (s *stream) served() bool { return s.route.active > 0 && !s.route.queue.paused }

// hungry: the window is running low and more lies behind it.
func (d *Dispatcher) hungry(s *stream) bool {
	return !s.end && s.wake == 0 && s.window.len() < (d.limit()+1)/2
}
