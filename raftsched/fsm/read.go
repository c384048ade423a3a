package fsm

import (
	"cmp"
	"maps"
	"slices"
)

// Index of the last applied entry.
func (s *State) Index() uint64 { return s.index }

// Epoch of the newest reign.
func (s *State) Epoch() uint64 { return s.epoch }

// Leader is the node that began it.
func (s *State) Leader() string { return s.leader }

// Cluster id; zero before the first Adopt.
func (s *State) Cluster() WorkflowID { return s.cluster }

// Members by id.
func (s *State) Members() []Member {
	return slices.SortedFunc(maps.Values(s.members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
}

// Member with an id.
func (s *State) Member(id string) (Member, bool) {
	m, ok := s.members[id]
	return m, ok
}

// Feature tells the level that was set for a feature, 0 if none.
func (s *State) Feature(name string) uint64 { return s.features[name] }

// FeatureLevels that were set.
func (s *State) FeatureLevels() map[string]uint64 { return maps.Clone(s.features) }

// Session with an id.
func (s *State) Session(id uint64) (Session, bool) {
	if se := s.sessions[id]; se != nil {
		return se.Session, true
	}
	return Session{}, false
}

// Follows tells whether this state is far enough to know of a session: one that
// was opened behind its index is absent here and says nothing by that. Sessions
// of other clusters are known to be none of this one.
func (s *State) Follows(session uint64) bool {
	first := s.sessionID(0)
	return session>>40 != first>>40 || session-first <= s.index
}

// Sessions by id.
func (s *State) Sessions() []Session {
	out := make([]Session, 0, len(s.sessions))
	for _, se := range s.sessions {
		out = append(out, se.Session)
	}
	slices.SortFunc(out, func(a, b Session) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// SessionCount is the number of sessions.
func (s *State) SessionCount() int { return len(s.sessions) }

// Len is the number of leases.
func (s *State) Len() int { return len(s.byJob) }

// Lease of a job.
func (s *State) Lease(job JobID) (Lease, bool) {
	if i, ok := s.byJob[job]; ok {
		return s.slots[i].lease, true
	}
	return Lease{}, false
}

// Release names a lease as a Schedule takes it back; false if it is gone.
func (s *State) Release(job JobID, id uint64) (Release, bool) {
	if i, ok := s.byJob[job]; ok && s.slots[i].lease.ID == id {
		return Release{ID: id, Ordinal: s.slots[i].ordinal}, true
	}
	return Release{}, false
}

// SessionLeases yields the leases of a session, in no particular order.
func (s *State) SessionLeases(id uint64) func(yield func(Lease) bool) {
	return func(yield func(Lease) bool) {
		se := s.sessions[id]
		if se == nil {
			return
		}
		for i := se.head; i != none; i = s.slots[i].next {
			if !yield(s.slots[i].lease) {
				return
			}
		}
	}
}

func (s *State) leasesOf(se *session) []Lease {
	if se.Leases == 0 {
		return nil
	}
	out := make([]Lease, 0, se.Leases)
	for i := se.head; i != none; i = s.slots[i].next {
		out = append(out, s.slots[i].lease)
	}
	slices.SortFunc(out, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), slices.Compare(a.Job.Workflow[:], b.Job.Workflow[:]), cmp.Compare(a.Job.Node, b.Job.Node))
	})
	return out
}

// Leases yields all leases, in no particular order, until yield says no.
func (s *State) Leases(yield func(Lease) bool) {
	for i := range s.slots {
		if s.slots[i].lease.ID != 0 && !yield(s.slots[i].lease) {
			return
		}
	}
}
