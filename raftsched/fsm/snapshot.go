package fsm

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
)

// snapshotMagic begins every snapshot; the byte behind it is the format's
// version: 1 had no features of members, no check, and less of the sessions.
const (
	snapshotMagic   = "heddle\x00"
	snapshotVersion = 2
)

// Snapshot is a copy of a state. Taking it is one copy of memory; the work of
// ordering and encoding is done by WriteTo, beside further Applies.
type Snapshot struct {
	state State
}

// Snapshot copies the state. It fails once the state has halted.
func (s *State) Snapshot() (*Snapshot, error) {
	if s.halted != nil {
		return nil, s.halted
	}
	c := State{
		index: s.index, cluster: s.cluster, epoch: s.epoch, leader: s.leader,
		members: maps.Clone(s.members), features: maps.Clone(s.features),
		sessions: make(map[uint64]*session, len(s.sessions)),
		slots:    slices.Clone(s.slots),
		checked:  s.checked,
	}
	for id, se := range s.sessions {
		v := *se
		c.sessions[id] = &v
	}
	return &Snapshot{state: c}, nil
}

// Hash is equal for equal states (I11).
func (s *State) Hash() [sha256.Size]byte {
	snap := Snapshot{state: *s}
	return sha256.Sum256(snap.encode())
}

// WriteTo writes the snapshot.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s.encode())
	return int64(n), err
}

func (s *Snapshot) encode() []byte {
	st := &s.state
	leases := make([]int32, 0, len(st.slots))
	for i := range st.slots {
		if st.slots[i].lease.ID != 0 {
			leases = append(leases, int32(i))
		}
	}
	slices.SortFunc(leases, func(a, b int32) int {
		x, y := &st.slots[a], &st.slots[b]
		return cmp.Or(cmp.Compare(x.lease.ID, y.lease.ID), cmp.Compare(x.ordinal, y.ordinal))
	})
	b := make([]byte, 0, 4096+40*len(leases))
	b = append(append(b, snapshotMagic...), snapshotVersion)
	b = binary.AppendUvarint(b, st.index)
	b = append(b, st.cluster[:]...)
	b = binary.AppendUvarint(b, st.epoch)
	b = appendString(b, st.leader)
	b = binary.AppendUvarint(b, uint64(len(st.members)))
	for _, m := range st.Members() {
		b = appendFeatures(appendMember(b, m), m.Features)
	}
	b = appendFeatures(b, st.features)
	b = binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, st.checked.Index), st.checked.Hash)
	b = binary.AppendUvarint(b, uint64(len(st.sessions)))
	for _, se := range st.Sessions() {
		b = binary.AppendUvarint(b, se.ID)
		b = appendString(appendString(b, se.Worker), se.Process)
		b = appendOpened(appendBool(b, se.Closing), se.Version, se.Slots, se.OpenedAt)
	}
	b = binary.AppendUvarint(b, uint64(len(leases)))
	var last Lease
	for _, i := range leases {
		v := &st.slots[i]
		l := &v.lease
		b = binary.AppendUvarint(b, l.ID-last.ID)
		if l.ID != last.ID {
			b = binary.AppendVarint(b, l.GrantedAt)
		}
		b = binary.AppendUvarint(b, uint64(v.ordinal))
		b = binary.AppendUvarint(b, l.Session)
		b = binary.AppendUvarint(b, l.Poll)
		b = binary.AppendVarint(b, int64(l.Turn))
		same := l.Job.Workflow == last.Job.Workflow
		b = appendBool(b, same)
		if !same {
			b = append(b, l.Job.Workflow[:]...)
		}
		b = binary.AppendVarint(b, int64(l.Job.Node)-int64(last.Job.Node))
		last = *l
	}
	return b
}

// Restore replaces the state by a snapshot. After an error it has halted.
func (s *State) Restore(from io.Reader) error {
	b, err := io.ReadAll(from)
	if err == nil {
		err = s.decode(b)
	}
	if err != nil {
		s.reset()
		s.halted = fmt.Errorf("snapshot: %w", err)
		return s.halted
	}
	return nil
}

func (s *State) decode(b []byte) error {
	s.reset()
	r := &reader{b: b}
	head := len(snapshotMagic) + 1
	if len(b) < head || string(b[:head-1]) != snapshotMagic || b[head-1] == 0 || b[head-1] > snapshotVersion {
		return fmt.Errorf("begins with %q: %w", b[:min(len(b), head)], ErrMalformed)
	}
	version := b[head-1]
	r.b = b[head:]
	s.index, s.cluster, s.epoch, s.leader = r.uvarint(), r.workflow(), r.uvarint(), r.str()
	for n := r.count(4); n > 0; n-- {
		m := r.member()
		if version > 1 {
			m.Features = r.features()
		}
		s.members[m.ID] = m
	}
	for name, level := range r.features() {
		if err := s.understands(name, level); err != nil {
			return err
		}
		s.features[name] = level
	}
	if version > 1 {
		s.checked = Check{Index: r.uvarint(), Hash: r.uint64()}
	}
	for n := r.count(4); n > 0; n-- {
		se := Session{ID: r.uvarint(), Worker: r.str(), Process: r.str(), Closing: r.bool()}
		if version > 1 {
			se.Version, se.Slots, se.OpenedAt = r.opened()
		}
		s.sessions[se.ID] = &session{Session: se, head: none}
	}
	s.decodeLeases(r)
	return r.end()
}

func (s *State) decodeLeases(r *reader) {
	n := r.count(7)
	s.slots = make([]slot, 0, n)
	var l Lease
	var e *entry
	for ; n > 0 && r.err == nil; n-- {
		delta := r.uvarint()
		l.ID += delta
		if delta != 0 {
			l.GrantedAt = r.varint()
			e = &entry{}
			if s.entries[l.ID] != nil || l.ID > s.index {
				r.fail("lease id")
			}
			s.entries[l.ID] = e
		}
		ordinal := uint32(r.upTo(1<<32 - 1))
		l.Session, l.Poll, l.Turn = r.uvarint(), r.uvarint(), r.int32(r.varint())
		if !r.bool() {
			l.Job.Workflow = r.workflow()
		}
		l.Job.Node = r.int32(int64(l.Job.Node) + r.varint())
		se := s.sessions[l.Session]
		_, leased := s.byJob[l.Job]
		if e == nil || se == nil || leased || len(e.refs) > 0 && e.refs[len(e.refs)-1].ordinal >= ordinal {
			r.fail("lease")
			return
		}
		e.add(ordinal, s.take(se, slot{lease: l, ordinal: ordinal}))
	}
}
