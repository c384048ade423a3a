package dispatch

import "sort"

// Jobs that were lost repeatedly may be what kills their workers. They wait
// apart from the windows, in order, and are granted to a session that holds
// nothing, which then gets nothing beside until they end.

// enterApart lets a row in among those that run alone. If there are too many,
// it is left in the database, where the next sweep sees it, unless another one
// should make room.
func (d *Dispatcher) enterApart(s *stream, row *Row, e entry) {
	if len(d.apart) >= maxApart && !d.makeRoom(s) {
		return
	}
	j := d.newJob(row, s, e)
	j.state = apart
	pos := row.cursor()
	i := sort.Search(len(d.apart), func(i int) bool { return d.apart[i].row.cursor().Compare(pos) > 0 })
	d.apart = append(d.apart, nil)
	copy(d.apart[i+1:], d.apart[i:])
	d.apart[i] = j
}

// makeRoom takes one of the jobs that run alone out again, for one of a stream
// that somebody serves: the last that nobody serves, or of the route that has
// the most, if that is not the stream's own.
func (d *Dispatcher) makeRoom(s *stream) bool {
	if !s.served() {
		return false
	}
	counts := map[*route]int{}
	most := s.route
	for i := len(d.apart) - 1; i >= 0; i-- {
		r := d.routes[d.apart[i].row.Lane.Route]
		if r.active == 0 || r.queue.paused {
			d.leave(d.apart[i])
			return true
		}
		if counts[r]++; counts[r] > counts[most] {
			most = r
		}
	}
	if counts[most] <= counts[s.route]+1 {
		return false // they have their shares
	}
	for i := len(d.apart) - 1; ; i-- {
		if j := d.apart[i]; j.row.Lane.Route == most.ID {
			d.leave(j)
			return true
		}
	}
}

// leave forgets a waiting job; its row stays in the database.
func (d *Dispatcher) leave(j *job) {
	d.takeOut(j)
	d.release(j)
}

// matchApart gives due jobs that run alone to sessions that hold nothing, and
// has sessions emptied for what remains: one of each class at a time. A session
// that had such a job takes ordinary ones first, so that neither starves.
func (d *Dispatcher) matchApart(end int, into []Match) []Match {
	for _, c := range d.order {
		waits := false
		for i := 0; i < len(d.apart) && len(into) < end; {
			j := d.apart[i]
			if j.row.RunAt > d.now {
				break
			}
			r := d.routes[j.row.Lane.Route]
			if expired(&j.row, d.now) {
				d.takeOut(j)
				d.release(j)
				continue
			}
			if _, held := d.heldLanes[j.row.Lane]; held || r.queue.paused || !c.serves(r) {
				i++
				continue
			}
			p := d.idle(c)
			if p == nil {
				waits = true
				break
			}
			d.takeOut(j)
			p.session.alone, p.session.hadAlone = true, true
			if c.reserved == p.session {
				c.reserved = nil
			}
			into = append(into, d.give(j, p))
		}
		if !waits {
			c.reserved = nil
		} else if c.reserved == nil {
			d.reserve(c)
		}
	}
	return into
}

// idle finds a poll of a session that holds nothing.
func (d *Dispatcher) idle(c *class) *poll {
	busy := -1 // unknown whether there are ordinary jobs
	for _, p := range c.polls {
		s := p.session
		if s.held > 0 || s.alone {
			continue
		}
		if s.hadAlone {
			if busy < 0 {
				busy = 0
				if d.has(c) {
					busy = 1
				}
			}
			if busy == 1 {
				continue
			}
		}
		return p
	}
	return nil
}

// has says whether the class has a due ordinary job.
func (d *Dispatcher) has(c *class) bool {
	for i := range c.queues {
		if d.pickIn(c, &c.queues[i]) != nil {
			return true
		}
	}
	return false
}

// reserve chooses the session that holds least to be emptied.
func (d *Dispatcher) reserve(c *class) {
	var least *session
	for _, p := range c.polls {
		if s := p.session; !s.alone && !s.hadAlone && (least == nil || s.held < least.held) {
			least = s
		}
	}
	c.reserved = least
}
