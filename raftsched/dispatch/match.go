package dispatch

import "slices"

// Match is a job matched with a poll, to be proposed as a grant.
type Match struct {
	Session uint64
	Poll    uint64
	Row     Row
}

// Match appends to into at most limit matches of waiting polls with due rows.
// The rows leave their windows; Granted or Rejected must follow for each. A
// poll that got any job waits no longer.
//
// A poll takes by queue, then priority, then keys in turn, then time. Polls
// that could take the same job get one each in the order of their arrival,
// round after round, so that idle workers share a burst.
func (d *Dispatcher) Match(now int64, limit int, into []Match) []Match {
	d.now = now
	d.fire()
	d.unmatched = false
	if d.polls == 0 || d.ready == 0 && len(d.apart) == 0 {
		return into
	}
	end := len(into) + limit
	d.order = d.order[:0]
	for _, c := range d.classes {
		if len(c.polls) > 0 {
			c.live = append(c.live[:0], c.polls...)
			d.order = append(d.order, c)
		}
	}
	slices.SortFunc(d.order, func(a, b *class) int {
		if a.polls[0].order < b.polls[0].order {
			return -1
		}
		return 1
	})
	into = d.matchApart(end, into)
	for progress := true; progress && d.ready > 0; {
		progress = false
		for _, c := range d.order {
			n := len(into)
			into = d.matchRound(c, end, into)
			progress = progress || len(into) > n
		}
	}
	d.unmatched = len(into) == end
	for _, c := range d.order {
		d.settlePolls(c)
	}
	return into
}

// matchRound gives each of the class's polls that has room one job.
func (d *Dispatcher) matchRound(c *class, end int, into []Match) []Match {
	kept := 0
	for _, p := range c.live {
		s := p.session
		if s.alone || c.reserved == s {
			continue // dropped from live: it gets nothing more
		}
		if len(into) == end {
			return into
		}
		st := d.pick(c)
		if st == nil {
			kept = 0 // nothing is left for this class
			break
		}
		j := d.serve(st)
		into = append(into, d.give(j, p))
		s.hadAlone = false
		if p.got < p.max {
			c.live[kept] = p
			kept++
		}
	}
	clear(c.live[kept:])
	c.live = c.live[:kept]
	return into
}

// give moves a job that waits no longer to a poll.
func (d *Dispatcher) give(j *job, p *poll) Match {
	s := p.session
	j.state, j.session, j.stream = granting, s, nil
	d.granting++
	s.held++
	p.got++
	return Match{Session: s.id, Poll: p.number, Row: j.row}
}

// settlePolls takes the polls that got something out of the class.
func (d *Dispatcher) settlePolls(c *class) {
	clear(c.live)
	c.live = c.live[:0]
	kept := 0
	for i, p := range c.polls {
		if p.got == 0 {
			if kept != i {
				c.polls[kept] = p
			}
			kept++
			continue
		}
		s := p.session
		i := slices.Index(s.polls, p)
		s.polls = slices.Delete(s.polls, i, i+1)
	}
	if kept == len(c.polls) {
		return
	}
	d.polls -= len(c.polls) - kept
	clear(c.polls[kept:])
	c.polls = c.polls[:kept]
	c.seen = d.now
}

// serve takes the first job of a stream, and sends its key to the back of its
// priority.
func (d *Dispatcher) serve(s *stream) *job {
	j := s.window.popFront().job
	d.unlink(j)
	d.rows--
	g := s.group
	d.turn++
	g.turn = d.turn
	if len(g.streams) == 1 {
		s.route.bands[s.level].toBack(s)
	} else {
		for _, o := range g.streams {
			if o.next != nil {
				o.route.bands[o.level].toBack(o)
			}
		}
	}
	d.place(s)
	d.consider(s)
	return j
}

// pick gives the stream whose first job a class takes next, nil if it has no
// due one.
func (d *Dispatcher) pick(c *class) *stream {
	if !c.weighted {
		for i := range c.queues {
			if s := d.pickIn(c, &c.queues[i]); s != nil {
				return s
			}
		}
		return nil
	}
	var best *classQueue
	var first *stream
	total := 0
	for i := range c.queues {
		q := &c.queues[i]
		if q.weight == 0 {
			continue
		}
		s := d.pickIn(c, q)
		if s == nil {
			continue
		}
		total += q.weight
		q.credit += q.weight
		if best == nil || q.credit > best.credit {
			best, first = q, s
		}
	}
	if best != nil {
		best.credit -= total
		return first
	}
	for i := range c.queues {
		if q := &c.queues[i]; q.weight == 0 {
			if s := d.pickIn(c, q); s != nil {
				return s
			}
		}
	}
	return nil
}

// pickIn is pick within one queue: the first priority that has a due job for
// the class, there the key whose turn is oldest, of it the first job.
func (d *Dispatcher) pickIn(c *class, q *classQueue) *stream {
	if q.queue.paused || q.queue.ready == 0 {
		return nil
	}
	for i, lv := range q.queue.levels {
		if lv.ready == 0 {
			continue
		}
		var best *stream
		for _, r := range q.routes {
			s := d.frontOf(&r.bands[i])
			if s != nil && (best == nil || s.group.turn < best.group.turn) {
				best = s
			}
		}
		if best == nil {
			continue
		}
		if best.group.ready > 1 {
			for _, s := range best.group.streams {
				if s.next != nil && c.serves(s.route) && d.frontDue(s) && s.window.front().pos.Compare(best.window.front().pos) < 0 {
					best = s
				}
			}
		}
		return best
	}
	return nil
}

// frontOf gives the stream that a band serves next. Fronts that are not due are
// left from before the clock was set back; expired ones are not run.
func (d *Dispatcher) frontOf(b *band) *stream {
	for b.front != nil {
		if s := b.front; d.frontDue(s) {
			return s
		}
	}
	return nil
}

// frontDue says whether a stream in its band may be served, and puts it
// elsewhere if its place is not there.
func (d *Dispatcher) frontDue(s *stream) bool {
	for s.next != nil {
		f := s.window.front()
		if f.pos.RunAt > d.now {
			d.place(s)
			return false
		}
		if !expired(&f.job.row, d.now) {
			return true
		}
		j := f.job
		d.takeOut(j)
		d.release(j)
	}
	return false
}
