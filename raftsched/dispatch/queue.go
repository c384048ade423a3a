package dispatch

import (
	"slices"
	"sort"
)

// queue is a named queue: its priorities, and in each of them the lanes that
// have a due row.
type queue struct {
	name   string
	paused bool
	ready  int // streams with a due row
	levels []*level
	routes []*route
}

// level is one priority of a queue. Its groups take turns.
type level struct {
	priority int16
	ready    int
	groups   map[string]*group
}

// group is a concurrency key within a level, across the kinds of the queue.
type group struct {
	level   *level
	key     string
	turn    uint64 // when it was served last, or joined those that are ready
	ready   int
	streams []*stream
	only    [1]*stream // most keys have one kind: the list's first backing
}

// route is a (queue, kind) pair with its streams.
type route struct {
	Route
	index   int // dense number, for class.serves
	queue   *queue
	bands   []band // one for each of the queue's levels
	streams []*stream
	classes int // classes that serve it
	active  int // of those, the ones that poll
}

// band is the ring of a route's streams of one priority that have a due row,
// the one to be served next in front.
type band struct {
	front *stream
	n     int
}

func (b *band) pushBack(s *stream) {
	if b.front == nil {
		s.next, s.prev = s, s
		b.front = s
	} else {
		s.next, s.prev = b.front, b.front.prev
		s.prev.next, s.next.prev = s, s
	}
	b.n++
}

func (b *band) remove(s *stream) {
	if s.next == s {
		b.front = nil
	} else {
		s.prev.next, s.next.prev = s.next, s.prev
		if b.front == s {
			b.front = s.next
		}
	}
	s.next, s.prev = nil, nil
	b.n--
}

func (b *band) toBack(s *stream) {
	if b.front == s {
		b.front = s.next
		return
	}
	if b.n > 1 {
		b.remove(s)
		b.pushBack(s)
	}
}

// queueNamed finds or creates a queue.
func (d *Dispatcher) queueNamed(name string) *queue {
	q := d.queues[name]
	if q == nil {
		q = &queue{name: name}
		d.queues[name] = q
	}
	return q
}

// level finds or creates the place of a priority in the queue.
func (q *queue) level(priority int16) int {
	i := sort.Search(len(q.levels), func(i int) bool { return q.levels[i].priority >= priority })
	if i < len(q.levels) && q.levels[i].priority == priority {
		return i
	}
	q.levels = slices.Insert(q.levels, i, &level{priority: priority, groups: map[string]*group{}})
	for _, r := range q.routes {
		r.bands = slices.Insert(r.bands, i, band{})
		for _, s := range r.streams {
			if s.level >= i {
				s.level++
			}
		}
	}
	return i
}

// SetRoutes adds routes to the dictionary; those that are known stay as they
// are.
func (d *Dispatcher) SetRoutes(routes []Route) {
	for _, given := range routes {
		if d.routes[given.ID] != nil {
			continue
		}
		q := d.queueNamed(given.Queue)
		r := &route{Route: given, index: len(d.routes), queue: q, bands: make([]band, len(q.levels))}
		d.routes[given.ID] = r
		q.routes = append(q.routes, r)
		for _, c := range d.classes {
			c.bind(r)
		}
	}
	strays := d.strays
	d.strays = nil
	for id := range strays {
		d.discover(id)
	}
	d.routesWanted = false // asked again only when more rows name what is missing
}

// PauseQueue stops or resumes a queue. Its rows stay where they are; nothing of
// it is matched or read meanwhile.
func (d *Dispatcher) PauseQueue(name string, paused bool) {
	q := d.queueNamed(name)
	if q.paused == paused {
		return
	}
	q.paused = paused
	if paused {
		return
	}
	for _, r := range q.routes {
		if r.active > 0 {
			d.wakeRoute(r)
		}
	}
}

// HoldLane keeps a lane from being matched, or lets it go on. It blocks no
// other lane. Limits of lanes and queues are to be built on it: who counts
// grants and ends decides when a lane is full.
func (d *Dispatcher) HoldLane(l Lane, held bool) {
	if _, was := d.heldLanes[l]; was == held {
		return
	}
	if held {
		d.heldLanes[l] = struct{}{}
	} else {
		delete(d.heldLanes, l)
	}
	r := d.routes[l.Route]
	if r == nil {
		return
	}
	for _, lv := range r.queue.levels {
		if s := d.streams[LanePriority{Lane: l, Priority: lv.priority}]; s != nil {
			s.held = held
			d.place(s)
		}
	}
}

// Served tells whether a session's worker serves a route, and whether one of
// them waits for jobs now.
func (d *Dispatcher) Served(id int32) (worker, free bool) {
	r := d.routes[id]
	if r == nil {
		return false, false
	}
	if r.classes == 0 {
		return false, false
	}
	for _, c := range d.classes {
		if c.serves(r) && c.sessions > 0 {
			worker = true
			free = free || len(c.polls) > 0
		}
	}
	return worker, free
}
