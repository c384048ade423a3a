package fsm

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is the state as a slow reader would write it down.
type model struct {
	epoch    uint64
	cluster  WorkflowID
	sessions map[uint64]bool // open or closing
	closing  map[uint64]bool
	leases   map[JobID]Lease
	ordinals map[JobID]uint32
	check    Check // the state's newest note
}

func newModel() *model {
	return &model{sessions: map[uint64]bool{}, closing: map[uint64]bool{}, leases: map[JobID]Lease{}, ordinals: map[JobID]uint32{}}
}

func (m *model) held(session uint64) int {
	n := 0
	for _, l := range m.leases {
		if l.Session == session {
			n++
		}
	}
	return n
}

func (m *model) release(job JobID) {
	session := m.leases[job].Session
	delete(m.leases, job)
	delete(m.ordinals, job)
	if m.closing[session] && m.held(session) == 0 {
		delete(m.closing, session)
		delete(m.sessions, session)
	}
}

func (m *model) apply(index uint64, c Command) (refused bool, rejected []int32) {
	switch c := c.(type) {
	case Lead:
		m.epoch = max(m.epoch, c.Floor) + 1
	case Adopt:
		m.cluster, m.epoch = c.Cluster, max(m.epoch, c.Floor)
	case OpenSession:
		m.sessions[uint64(m.cluster[0])<<56+uint64(m.cluster[1])<<48+uint64(m.cluster[2])<<40+index] = true
	case CloseSession:
		if !m.sessions[c.Session] || m.closing[c.Session] {
			return true, nil
		}
		if c.Lost && m.held(c.Session) > 0 {
			m.closing[c.Session] = true
			return false, nil
		}
		for job, l := range m.leases {
			if l.Session == c.Session {
				m.release(job)
			}
		}
		delete(m.sessions, c.Session)
	case *Schedule:
		if c.Epoch != m.epoch {
			return true, nil
		}
		for _, r := range c.Releases {
			for job, l := range m.leases {
				if l.ID == r.ID && m.ordinals[job] == r.Ordinal {
					m.release(job)
				}
			}
		}
		for i, g := range c.Grants {
			_, leased := m.leases[g.Job]
			if leased || !m.sessions[g.Session] || m.closing[g.Session] {
				rejected = append(rejected, int32(i))
				continue
			}
			m.leases[g.Job] = Lease{Job: g.Job, ID: index, Session: g.Session, Turn: g.Turn, Poll: g.Poll, GrantedAt: c.At}
			m.ordinals[g.Job] = uint32(i)
		}
	}
	return false, rejected
}

func drawCommand(t *rapid.T, m *model) Command {
	session := func() uint64 {
		ids := slices.Sorted(maps.Keys(m.sessions))
		if len(ids) == 0 || rapid.IntRange(0, 9).Draw(t, "stranger") == 0 {
			return rapid.Uint64Range(0, 40).Draw(t, "session")
		}
		return rapid.SampledFrom(ids).Draw(t, "session")
	}
	switch rapid.IntRange(0, 12).Draw(t, "command") {
	case 5:
		return m.check
	case 0:
		return Lead{Node: "n1", Floor: rapid.Uint64Range(0, 9).Draw(t, "floor")}
	case 1, 2:
		return OpenSession{
			Worker: rapid.StringN(0, 9, 20).Draw(t, "worker"), Process: "p", Version: "v",
			Slots: rapid.Int32().Draw(t, "slots"), At: rapid.Int64().Draw(t, "at"),
		}
	case 3:
		return CloseSession{Session: session(), Lost: rapid.Bool().Draw(t, "lost")}
	case 4:
		switch rapid.IntRange(0, 3).Draw(t, "member") {
		case 0:
			return SetMember{Member{
				ID: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id"), RaftAddr: "r", APIAddr: "x", Version: "1",
				Features: map[string]uint64{"f": rapid.Uint64Range(0, 2).Draw(t, "understood")},
			}}
		case 1:
			return RemoveMember{ID: "a"}
		case 2:
			return SetFeature{Name: "f", Level: rapid.Uint64Range(0, 3).Draw(t, "level")}
		default:
			return Adopt{Cluster: WorkflowID{9}, Floor: rapid.Uint64Range(0, 9).Draw(t, "floor")}
		}
	}
	c := &Schedule{Epoch: m.epoch, At: rapid.Int64().Draw(t, "at")}
	if rapid.IntRange(0, 9).Draw(t, "stale") == 0 {
		c.Epoch--
	}
	jobs := slices.SortedFunc(maps.Keys(m.leases), func(a, b JobID) int {
		return slices.Compare([]byte(a.String()), []byte(b.String()))
	})
	for range rapid.IntRange(0, 4).Draw(t, "releases") {
		if len(jobs) > 0 && rapid.IntRange(0, 5).Draw(t, "real") > 0 {
			job := rapid.SampledFrom(jobs).Draw(t, "release")
			c.Releases = append(c.Releases, Release{ID: m.leases[job].ID, Ordinal: m.ordinals[job]})
		} else {
			c.Releases = append(c.Releases, Release{ID: rapid.Uint64Range(0, 60).Draw(t, "id"), Ordinal: rapid.Uint32Range(0, 5).Draw(t, "ordinal")})
		}
	}
	for range rapid.IntRange(0, 6).Draw(t, "grants") {
		c.Grants = append(c.Grants, Grant{
			Job:     JobID{Workflow: WorkflowID{15: byte(rapid.IntRange(0, 2).Draw(t, "workflow"))}, Node: rapid.Int32Range(0, 4).Draw(t, "node")},
			Session: session(), Poll: rapid.Uint64Range(1, 3).Draw(t, "poll"), Turn: rapid.Int32Range(0, 1000).Draw(t, "turn"),
		})
	}
	return c
}

// TestAgainstModel: the state equals a map model after every entry (I5), a
// lease's name is never used twice, and a snapshot with the rest of the log
// replayed gives the same state (I11).
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		understood := map[string]uint64{"f": 3}
		s, m := NewUnderstanding(understood), newModel()
		type name struct {
			job JobID
			id  uint64
		}
		names := map[name]bool{}
		var log [][]byte
		var indexes []uint64
		var index uint64
		var snapshot bytes.Buffer
		taken := -1
		n := rapid.IntRange(1, 40).Draw(t, "entries")
		cut := rapid.IntRange(0, n-1).Draw(t, "cut")
		for i := range n {
			index += rapid.Uint64Range(1, 3).Draw(t, "gap")
			c := drawCommand(t, m)
			data := c.Append(nil)
			log, indexes = append(log, data), append(indexes, index)
			before := maps.Clone(m.leases)
			res, err := s.Apply(index, data)
			if err != nil {
				t.Fatal(err)
			}
			refused, rejected := m.apply(index, c)
			if res.Refused != refused || !slices.Equal(res.Rejected, rejected) {
				t.Fatalf("%#v: refused %v rejected %v, want %v %v", c, res.Refused, res.Rejected, refused, rejected)
			}
			for job, l := range m.leases {
				if _, was := before[job]; !was || before[job].ID != l.ID {
					if names[name{job, l.ID}] {
						t.Fatalf("lease %v of %v used again", l.ID, job)
					}
					names[name{job, l.ID}] = true
				}
			}
			m.check = s.Checked()
			compare(t, s, m)
			if i == cut {
				snap, err := s.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := snap.WriteTo(&snapshot); err != nil {
					t.Fatal(err)
				}
				taken = i
			}
		}
		restored := NewUnderstanding(understood)
		if err := restored.Restore(&snapshot); err != nil {
			t.Fatal(err)
		}
		replayed := NewUnderstanding(understood)
		for i, data := range log {
			if _, err := replayed.Apply(indexes[i], data); err != nil {
				t.Fatal(err)
			}
			if i > taken {
				if _, err := restored.Apply(indexes[i], data); err != nil {
					t.Fatal(err)
				}
			}
		}
		if s.Hash() != restored.Hash() || s.Hash() != replayed.Hash() || s.Sum() != restored.Sum() || s.Sum() != replayed.Sum() {
			t.Fatal("states differ: I11")
		}
		compare(t, restored, m)
	})
}

func compare(t *rapid.T, s *State, m *model) {
	if s.Epoch() != m.epoch || s.Cluster() != m.cluster || s.Len() != len(m.leases) || len(s.Sessions()) != len(m.sessions) {
		t.Fatalf("epoch %d cluster %v leases %d sessions %v, want %d %v %d %v", s.Epoch(), s.Cluster(), s.Len(), s.Sessions(), m.epoch, m.cluster, len(m.leases), m.sessions)
	}
	count := 0
	for l := range s.Leases {
		count++
		if m.leases[l.Job] != l {
			t.Fatalf("lease %+v, want %+v", l, m.leases[l.Job])
		}
		if got, ok := s.Lease(l.Job); !ok || got != l {
			t.Fatalf("lease of %v: %+v %v", l.Job, got, ok)
		}
		r, ok := s.Release(l.Job, l.ID)
		if !ok || r.Ordinal != m.ordinals[l.Job] {
			t.Fatalf("release of %v: %+v, want ordinal %d", l.Job, r, m.ordinals[l.Job])
		}
		if _, ok := s.Release(l.Job, l.ID+1); ok {
			t.Fatal("release of another lease")
		}
	}
	if count != len(m.leases) {
		t.Fatalf("%d leases listed, want %d", count, len(m.leases))
	}
	for _, se := range s.Sessions() {
		listed := 0
		for l := range s.SessionLeases(se.ID) {
			listed++
			if m.leases[l.Job] != l || l.Session != se.ID {
				t.Fatalf("session %d lists %+v", se.ID, l)
			}
		}
		if !m.sessions[se.ID] || se.Closing != m.closing[se.ID] || se.Leases != m.held(se.ID) || listed != se.Leases {
			t.Fatalf("session %+v, want closing %v leases %d", se, m.closing[se.ID], m.held(se.ID))
		}
	}
}

func apply(t *testing.T, s *State, index uint64, c Command) *Result {
	t.Helper()
	res, err := s.Apply(index, c.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestUnknownCommandHalts(t *testing.T) {
	s := New()
	apply(t, s, 1, Lead{Node: "a"})
	_, err := s.Apply(2, []byte{200, 1, 2})
	if !errors.Is(err, ErrUnknownCommand) {
		t.Fatalf("got %v", err)
	}
	if _, again := s.Apply(3, Lead{}.Append(nil)); !errors.Is(again, err) {
		t.Fatalf("goes on after %v: %v", err, again)
	}
	if _, err := s.Snapshot(); !errors.Is(err, ErrUnknownCommand) {
		t.Fatalf("a snapshot of a halted state: %v", err)
	}
	if s.Epoch() != 1 || s.Index() != 1 {
		t.Fatalf("changed: epoch %d index %d", s.Epoch(), s.Index())
	}
}

func TestMalformedChangesNothing(t *testing.T) {
	s := New()
	apply(t, s, 1, Lead{})
	apply(t, s, 2, OpenSession{Worker: "w"})
	data := (&Schedule{Epoch: 1, Grants: []Grant{{Session: 2, Poll: 1}}}).Append(nil)
	if _, err := s.Apply(3, data[:len(data)-1]); !errors.Is(err, ErrMalformed) {
		t.Fatalf("got %v", err)
	}
	if s.Len() != 0 {
		t.Fatal("half of an entry was applied")
	}
	s = New()
	apply(t, s, 5, Lead{})
	if _, err := s.Apply(5, Lead{}.Append(nil)); !errors.Is(err, ErrMalformed) {
		t.Fatalf("the same index twice: %v", err)
	}
}

// TestGrantBehindClose: C18: a grant behind the close of its session in the log.
func TestGrantBehindClose(t *testing.T) {
	for _, lost := range []bool{false, true} {
		s := New()
		apply(t, s, 1, Lead{})
		apply(t, s, 2, OpenSession{})
		a, b := JobID{Node: 1}, JobID{Node: 2}
		apply(t, s, 3, &Schedule{Epoch: 1, Grants: []Grant{{Job: a, Session: 2, Poll: 1}}})
		res := apply(t, s, 4, CloseSession{Session: 2, Lost: lost})
		if len(res.Leases) != 1 || res.Leases[0].Job != a {
			t.Fatalf("close tells of %v", res.Leases)
		}
		res = apply(t, s, 5, &Schedule{Epoch: 1, Grants: []Grant{{Job: b, Session: 2, Poll: 2}}})
		if !slices.Equal(res.Rejected, []int32{0}) {
			t.Fatalf("granted to a session that is not open: %+v", res)
		}
		if _, held := s.Lease(a); held != lost {
			t.Fatalf("lost %v: lease held %v", lost, held)
		}
		if lost {
			apply(t, s, 6, &Schedule{Epoch: 1, Releases: []Release{{ID: 3, Ordinal: 0}}})
		}
		if got := s.Sessions(); len(got) != 0 {
			t.Fatalf("lost %v: sessions left: %v", lost, got)
		}
	}
}
