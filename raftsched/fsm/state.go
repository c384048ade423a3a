package fsm

import (
	"cmp"
	"fmt"
	"slices"
)

// Session is a worker process's stay with the cluster.
type Session struct {
	// ID is the index of the entry that opened it.
	ID      uint64
	Worker  string
	Process string
	Version string
	// Slots: jobs it takes at once; 0: not told.
	Slots int32
	// OpenedAt in microseconds of the database clock; 0: not told.
	OpenedAt int64
	// Closing: lost; it is granted nothing and goes with its last lease.
	Closing bool
	// Leases it holds now.
	Leases int
}

// State is what all nodes agree on. It is not safe for concurrent use; its
// owner locks it.
type State struct {
	index    uint64
	cluster  WorkflowID
	epoch    uint64
	leader   string
	members  map[string]Member
	features map[string]uint64
	sessions map[uint64]*session

	// Leases live in slots, found by job, by session (a list through the slots)
	// and by the entry that granted them.
	slots   []slot
	free    int32 // head of the list of unused slots, none: -1
	byJob   map[JobID]int32
	entries map[uint64]*entry

	leases  uint64 // sum of the hashes of the leases
	checked Check

	understood map[string]uint64
	scratch    Schedule
	halted     error
}

type session struct {
	Session
	head int32
}

type slot struct {
	lease      Lease
	ordinal    uint32
	prev, next int32
}

// entry has the leases that one log entry granted.
type entry struct {
	refs []ref // by ordinal; those refused are left out
	live int
}

// ref is one of them: where it lives, none once it is gone.
type ref struct {
	ordinal uint32
	slot    int32
}

func (e *entry) add(ordinal uint32, slot int32) {
	e.refs = append(e.refs, ref{ordinal, slot})
	e.live++
}

// find the lease with an ordinal.
func (e *entry) find(ordinal uint32) *ref {
	i := int(ordinal)
	if i >= len(e.refs) || e.refs[i].ordinal != ordinal {
		var found bool
		i, found = slices.BinarySearchFunc(e.refs, ordinal, func(r ref, o uint32) int { return cmp.Compare(r.ordinal, o) })
		if !found {
			return nil
		}
	}
	if e.refs[i].slot == none {
		return nil
	}
	return &e.refs[i]
}

const none = int32(-1)

// New returns the state before the first entry. It understands Features.
func New() *State { return NewUnderstanding(Features()) }

// NewUnderstanding is New for a build that understands other features.
func NewUnderstanding(features map[string]uint64) *State {
	s := &State{understood: features}
	s.reset()
	return s
}

func (s *State) reset() {
	*s = State{
		understood: s.understood,
		members:    map[string]Member{}, features: map[string]uint64{}, sessions: map[uint64]*session{},
		byJob: map[JobID]int32{}, entries: map[uint64]*entry{}, free: none,
	}
}

// Result says what an entry changed.
type Result struct {
	Index uint64
	// Epoch after the entry.
	Epoch uint64
	// Refused: the entry changed nothing: a Schedule of another epoch, a
	// CloseSession of a session that is gone or closing already.
	Refused bool
	// Members, or the cluster's id, changed.
	Members bool
	// Rejected ordinals of a Schedule's grants, ascending: their jobs were
	// leased, or their sessions not open.
	Rejected []int32
	// Session that an OpenSession opened.
	Session uint64
	// Leases of a CloseSession: lost, those to be ended and released; graceful,
	// those it released.
	Leases []Lease
}

// Apply carries out the entry at index. An error means that this node cannot
// follow the log any further: nothing was changed, and every later Apply,
// Snapshot and Restore answers the same error.
func (s *State) Apply(index uint64, data []byte) (*Result, error) {
	if s.halted != nil {
		return nil, s.halted
	}
	res, err := s.apply(index, data)
	if err != nil {
		s.halted = fmt.Errorf("entry %d: %w", index, err)
		return nil, s.halted
	}
	return res, nil
}

// Halted tells the error that ended this state, if any.
func (s *State) Halted() error { return s.halted }

func (s *State) apply(index uint64, data []byte) (*Result, error) {
	if index <= s.index {
		return nil, fmt.Errorf("not behind index %d: %w", s.index, ErrMalformed)
	}
	res := &Result{Index: index}
	if len(data) > 0 && data[0] == codeSchedule {
		r := reader{b: data[1:]}
		s.scratch.decode(&r)
		if err := r.end(); err != nil {
			return nil, err
		}
		s.schedule(index, &s.scratch, res)
	} else {
		c, err := Decode(data)
		if err != nil {
			return nil, err
		}
		if err := s.change(index, c, res); err != nil {
			return nil, err
		}
	}
	s.index = index
	res.Epoch = s.epoch
	return res, nil
}

// change carries out all but a Schedule; after an error it has changed nothing.
func (s *State) change(index uint64, c Command, res *Result) error {
	switch c := c.(type) {
	case Lead:
		s.epoch = max(s.epoch, c.Floor) + 1
		s.leader = c.Node
	case Adopt:
		s.cluster = c.Cluster
		s.epoch = max(s.epoch, c.Floor)
		res.Members = true
	case OpenSession:
		res.Session = s.sessionID(index)
		s.sessions[res.Session] = &session{Session: Session{
			ID: res.Session, Worker: c.Worker, Process: c.Process, Version: c.Version, Slots: c.Slots, OpenedAt: c.At,
		}, head: none}
	case CloseSession:
		s.closeSession(c, res)
	case SetMember:
		s.members[c.Member.ID] = c.Member
		res.Members = true
	case RemoveMember:
		delete(s.members, c.ID)
		res.Members = true
	case SetFeature:
		if err := s.understands(c.Name, c.Level); err != nil {
			return err
		}
		s.features[c.Name] = max(s.features[c.Name], c.Level)
	case Check:
		return s.check(index, c)
	}
	return nil
}

// sessionID is the id of a session that the entry at index opens: the index,
// above which stand 24 bits of the cluster's id. A worker that outlives its
// cluster's log would else find its session's number taken by another worker of
// the next one.
func (s *State) sessionID(index uint64) uint64 {
	c := s.cluster
	return (uint64(c[0])<<16|uint64(c[1])<<8|uint64(c[2]))<<40 + index
}

func (s *State) closeSession(c CloseSession, res *Result) {
	se := s.sessions[c.Session]
	if se == nil || se.Closing {
		res.Refused = true
		return
	}
	res.Leases = s.leasesOf(se)
	if c.Lost && se.Leases > 0 {
		se.Closing = true
		return
	}
	for se.head != none {
		s.drop(se.head)
	}
	delete(s.sessions, c.Session)
}

func (s *State) schedule(index uint64, c *Schedule, res *Result) {
	if c.Epoch != s.epoch {
		res.Refused = true
		return
	}
	for _, r := range c.Releases {
		if e := s.entries[r.ID]; e != nil {
			if f := e.find(r.Ordinal); f != nil {
				s.drop(f.slot)
			}
		}
	}
	if len(c.Grants) == 0 {
		return
	}
	e := &entry{refs: make([]ref, 0, len(c.Grants))}
	var se *session
	var last uint64
	for i := range c.Grants {
		g := &c.Grants[i]
		if g.Session != last || se == nil {
			se, last = s.sessions[g.Session], g.Session
		}
		if se == nil || se.Closing {
			res.Rejected = append(res.Rejected, int32(i))
			continue
		}
		if _, leased := s.byJob[g.Job]; leased {
			res.Rejected = append(res.Rejected, int32(i))
			continue
		}
		e.add(uint32(i), s.take(se, slot{ordinal: uint32(i), lease: Lease{
			Job: g.Job, ID: index, Session: g.Session, Turn: g.Turn, Poll: g.Poll, GrantedAt: c.At,
		}}))
	}
	if e.live > 0 {
		s.entries[index] = e
	}
}

// take puts a lease into a slot and into the lists by job and session.
func (s *State) take(se *session, v slot) int32 {
	i := s.free
	if i != none {
		s.free = s.slots[i].next
	} else {
		i = int32(len(s.slots))
		s.slots = append(s.slots, slot{})
	}
	v.prev, v.next = none, se.head
	if se.head != none {
		s.slots[se.head].prev = i
	}
	se.head = i
	se.Leases++
	s.slots[i] = v
	s.byJob[v.lease.Job] = i
	s.leases += v.lease.hash(v.ordinal)
	return i
}

// drop ends the lease in slot i, and its session if that was closing.
func (s *State) drop(i int32) {
	v := &s.slots[i]
	se := s.sessions[v.lease.Session]
	if v.prev != none {
		s.slots[v.prev].next = v.next
	} else {
		se.head = v.next
	}
	if v.next != none {
		s.slots[v.next].prev = v.prev
	}
	se.Leases--
	if se.Closing && se.Leases == 0 {
		delete(s.sessions, se.ID)
	}
	e := s.entries[v.lease.ID]
	e.find(v.ordinal).slot = none
	if e.live--; e.live == 0 {
		delete(s.entries, v.lease.ID)
	}
	delete(s.byJob, v.lease.Job)
	s.leases -= v.lease.hash(v.ordinal)
	*v = slot{next: s.free, prev: none}
	s.free = i
}
