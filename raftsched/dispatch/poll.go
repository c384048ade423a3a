package dispatch

import (
	"encoding/binary"
	"slices"
)

// Queue is a queue that a poll serves.
type Queue struct {
	Name string
	// Weight shares the grants among the queues that have due rows. If all are
	// 0, the queues are served strictly in the order given; beside weighted
	// ones, a queue of weight 0 is served when none of them has a due row.
	Weight int
}

// Poll is a waiting request for jobs.
type Poll struct {
	Session uint64
	Poll    uint64 // numbered from 1 within the session
	Max     int    // jobs it takes; at least 1
	Queues  []Queue
	Kinds   []string // the kinds its worker handles; no other reaches it
}

// session is what matters here of a worker's session.
type session struct {
	id     uint64
	closed uint64 // polls up to this number are closed
	class  *class
	config Poll // of the last poll: queues and kinds
	polls  []*poll
	held   int  // leases and grants on their way
	gone   bool // dropped: only its leases are left
	// A job that was lost repeatedly runs alone.
	alone    bool // holds such a job
	hadAlone bool // got one last: ordinary rows come first now
}

func newSession(id uint64) *session { return &session{id: id} }

type poll struct {
	session *session
	number  uint64
	max     int
	got     int
	order   uint64 // of arrival
}

// class is a set of sessions that serve the same queues and kinds in the same
// way. They are interchangeable but for the order of their polls.
type class struct {
	key      string
	queues   []classQueue
	weighted bool
	kinds    map[string]struct{}
	routes   []uint64 // bit set by route.index
	sessions int
	active   bool  // polls, or did so within the last seconds
	seen     int64 // when the last poll left
	polls    []*poll
	live     []*poll  // of polls: those with room in the match under way
	reserved *session // being emptied for a job that runs alone
}

// classQueue is a queue as a class serves it.
type classQueue struct {
	queue  *queue
	weight int
	credit int // of smooth weighted round robin
	routes []*route
}

// serves says whether jobs of the route may go to the class.
func (c *class) serves(r *route) bool {
	return r.index/64 < len(c.routes) && c.routes[r.index/64]&(1<<(r.index%64)) != 0
}

// bind adds a route to the class if it serves it.
func (c *class) bind(r *route) {
	if _, handles := c.kinds[r.Kind]; !handles || c.serves(r) {
		return
	}
	i := slices.IndexFunc(c.queues, func(q classQueue) bool { return q.queue == r.queue })
	if i < 0 {
		return
	}
	c.queues[i].routes = append(c.queues[i].routes, r)
	for r.index/64 >= len(c.routes) {
		c.routes = append(c.routes, 0)
	}
	c.routes[r.index/64] |= 1 << (r.index % 64)
	r.classes++
	if c.active {
		r.active++
	}
}

// eachRoute calls f for the routes that the class serves.
func (c *class) eachRoute(f func(*route)) {
	for i := range c.queues {
		for _, r := range c.queues[i].routes {
			f(r)
		}
	}
}

// Poll adds a waiting poll. A number at or below one that ClosePolls named is
// ignored, and so is one that waits already. A poll that gets at least one job
// from a Match waits no longer.
func (d *Dispatcher) Poll(p Poll) {
	s := d.sessions[p.Session]
	if s == nil {
		s = newSession(p.Session)
		d.sessions[p.Session] = s
	}
	if p.Poll <= s.closed || s.gone || p.Max < 1 {
		return
	}
	for _, other := range s.polls {
		if other.number == p.Poll {
			return
		}
	}
	if s.class == nil || !slices.Equal(s.config.Queues, p.Queues) || !slices.Equal(s.config.Kinds, p.Kinds) {
		if len(s.polls) > 0 { // a session's polls agree; the newest counts
			for _, old := range slices.Clone(s.polls) {
				d.closePoll(old)
			}
		}
		d.leaveClass(s)
		d.joinClass(s, p)
	}
	d.arrivals++
	w := &poll{session: s, number: p.Poll, max: p.Max, order: d.arrivals}
	s.polls = append(s.polls, w)
	s.class.polls = append(s.class.polls, w)
	d.polls++
	d.activate(s.class)
}

// ClosePoll takes one waiting poll back: its time is over, or its caller is
// gone.
func (d *Dispatcher) ClosePoll(session, number uint64) {
	if s := d.sessions[session]; s != nil {
		for _, p := range s.polls {
			if p.number == number {
				d.closePoll(p)
				return
			}
		}
	}
}

// ClosePolls takes back the session's polls up to a number, those included
// that have not come yet.
func (d *Dispatcher) ClosePolls(session, upTo uint64) {
	s := d.sessions[session]
	if s == nil {
		s = newSession(session)
		d.sessions[session] = s
	}
	s.closed = max(s.closed, upTo)
	for _, p := range slices.Clone(s.polls) {
		if p.number <= upTo {
			d.closePoll(p)
		}
	}
}

// DropSession takes back all polls of a session that is closing or gone. What
// it holds stays granted until Ended, Commit, Returned or Released name it.
func (d *Dispatcher) DropSession(id uint64) {
	s := d.sessions[id]
	if s == nil {
		return
	}
	for _, p := range slices.Clone(s.polls) {
		d.closePoll(p)
	}
	d.leaveClass(s)
	s.gone = true
	if s.held == 0 {
		delete(d.sessions, id)
	}
}

// closePoll takes a poll out of its session and class.
func (d *Dispatcher) closePoll(p *poll) {
	s, c := p.session, p.session.class
	s.polls = slices.DeleteFunc(s.polls, func(o *poll) bool { return o == p })
	c.polls = slices.DeleteFunc(c.polls, func(o *poll) bool { return o == p })
	c.seen = d.now
	d.polls--
}

// joinClass finds or makes the class of a poll's queues and kinds.
func (d *Dispatcher) joinClass(s *session, p Poll) {
	s.config = Poll{Queues: slices.Clone(p.Queues), Kinds: slices.Clone(p.Kinds)}
	kinds := slices.Clone(p.Kinds)
	slices.Sort(kinds)
	kinds = slices.Compact(kinds)
	var key []byte
	for _, q := range p.Queues {
		key = binary.AppendVarint(append(binary.AppendUvarint(key, uint64(len(q.Name))), q.Name...), int64(q.Weight))
	}
	key = append(key, 0xff)
	for _, k := range kinds {
		key = append(binary.AppendUvarint(key, uint64(len(k))), k...)
	}
	c := d.classByKey[string(key)]
	if c == nil {
		c = &class{key: string(key), kinds: make(map[string]struct{}, len(kinds)), seen: d.now}
		for _, k := range kinds {
			c.kinds[k] = struct{}{}
		}
		for _, given := range p.Queues {
			q := d.queueNamed(given.Name)
			if slices.ContainsFunc(c.queues, func(o classQueue) bool { return o.queue == q }) {
				continue
			}
			c.queues = append(c.queues, classQueue{queue: q, weight: max(0, given.Weight)})
			c.weighted = c.weighted || given.Weight > 0
		}
		for _, q := range c.queues {
			for _, r := range q.queue.routes {
				c.bind(r)
			}
		}
		d.classByKey[c.key] = c
		d.classes = append(d.classes, c)
		d.scan.due = d.now // its streams may be unknown
	}
	c.sessions++
	s.class = c
}

func (d *Dispatcher) leaveClass(s *session) {
	c := s.class
	if c == nil {
		return
	}
	s.class = nil
	c.sessions--
	if c.reserved == s {
		c.reserved = nil
	}
	if c.sessions == 0 {
		d.deactivate(c)
		c.eachRoute(func(r *route) { r.classes-- })
		delete(d.classByKey, c.key)
		d.classes = slices.DeleteFunc(d.classes, func(o *class) bool { return o == c })
	}
}

// activate notes that a class polls. If it did not lately, its streams were
// left alone and are looked at again.
func (d *Dispatcher) activate(c *class) {
	if c.active {
		return
	}
	c.active = true
	d.active++
	c.eachRoute(func(r *route) {
		r.active++
		if r.active == 1 {
			d.wakeRoute(r)
		}
	})
}

func (d *Dispatcher) deactivate(c *class) {
	if !c.active {
		return
	}
	c.active = false
	d.active--
	c.eachRoute(func(r *route) { r.active-- })
}

// rest deactivates the classes that have not polled for a while.
func (d *Dispatcher) rest() {
	for _, c := range d.classes {
		if c.active && len(c.polls) == 0 && apartBy(d.now, c.seen, idleAfter) {
			d.deactivate(c)
		}
	}
}

// apartBy says whether two instants are further apart than span, in whichever
// direction: clocks may be set back.
func apartBy(a, b, span int64) bool { return a-b > span || b-a > span }

// wakeRoute has the streams of a route looked at again.
func (d *Dispatcher) wakeRoute(r *route) {
	for _, s := range r.streams {
		s.due = d.now
		d.joinRound(s)
		d.consider(s)
	}
}
