package fsm

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func samples() []Command {
	return []Command{
		Lead{Node: "n1", Floor: 7},
		Adopt{Cluster: WorkflowID{1, 2, 3}, Floor: 9},
		OpenSession{Worker: "w", Process: "p"},
		OpenSession{Worker: "w", Process: "p", Version: "1.2", Slots: 100, At: 1795197744},
		CloseSession{Session: 300, Lost: true},
		&Schedule{Epoch: 3, At: -5, Releases: []Release{{ID: 9, Ordinal: 2}, {ID: 4, Ordinal: 1 << 31}}, Grants: []Grant{
			{Job: JobID{WorkflowID{1}, 1}, Session: 5, Poll: 1, Turn: 2},
			{Job: JobID{WorkflowID{1}, -1 << 31}, Session: 5, Poll: 1},
			{Job: JobID{WorkflowID{2}, 1<<31 - 1}, Session: 6, Poll: 2, Turn: 1<<31 - 1},
		}},
		SetMember{Member{ID: "a", RaftAddr: "b", APIAddr: "c", Version: "d"}},
		SetMember{Member{ID: "a", Features: map[string]uint64{"x": 1, "check": 3}}},
		Check{Index: 7, Hash: 1 << 63},
		RemoveMember{ID: "a"},
		SetFeature{Name: FeatureCheck, Level: 1},
	}
}

func TestDecodeIsTheInverse(t *testing.T) {
	for _, c := range samples() {
		got, err := Decode(c.Append(nil))
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%#v: %#v, %v", c, got, err)
		}
	}
}

// FuzzDecode: no bytes make Decode or Apply panic, and what decodes means the
// same when written and read again.
func FuzzDecode(f *testing.F) {
	for _, c := range samples() {
		f.Add(c.Append(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnknownCommand) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		again := c.Append(nil)
		d, err := Decode(again)
		if err != nil || !bytes.Equal(d.Append(nil), again) {
			t.Fatalf("%#v became %#v: %v", c, d, err)
		}
		s := New()
		if _, err := s.Apply(1, data); err != nil && !errors.Is(err, ErrFeature) {
			t.Fatalf("decodes but does not apply: %v", err)
		}
	})
}

// FuzzRestore: no bytes make Restore panic, and what restores is written the
// same.
func FuzzRestore(f *testing.F) {
	s := New()
	for i, c := range samples() {
		if _, err := s.Apply(uint64(i+1), c.Append(nil)); err != nil {
			f.Fatal(err)
		}
	}
	for i, c := range []Command{OpenSession{Worker: "w"}, &Schedule{Epoch: s.Epoch(), Grants: []Grant{{Session: 20, Poll: 1}, {Job: JobID{Node: 3}, Session: 20}}}} {
		if _, err := s.Apply(uint64(i+20), c.Append(nil)); err != nil {
			f.Fatal(err)
		}
	}
	snap, err := s.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(snap.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		s := New()
		if err := s.Restore(bytes.NewReader(data)); err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrFeature) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		other := New()
		snap, err := s.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Restore(bytes.NewReader(snap.encode())); err != nil || other.Hash() != s.Hash() {
			t.Fatalf("restored otherwise: %v", err)
		}
	})
}
