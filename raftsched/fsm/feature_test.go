package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// TestFeatureHalts: what a state does not understand halts it, from the log and
// from a snapshot, and says what to do.
func TestFeatureHalts(t *testing.T) {
	set := SetFeature{Name: "colour", Level: 2}
	s := NewUnderstanding(map[string]uint64{"colour": 1})
	if _, err := s.Apply(1, set.Append(nil)); !errors.Is(err, ErrFeature) || !strings.Contains(err.Error(), "upgrade this node") {
		t.Errorf("from the log: %v", err)
	}
	if s.Feature("colour") != 0 || s.Halted() == nil {
		t.Error("changed, or goes on")
	}
	newer := NewUnderstanding(map[string]uint64{"colour": 2})
	apply(t, newer, 1, set)
	snap, err := newer.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	older := NewUnderstanding(map[string]uint64{"colour": 1})
	if err := older.Restore(bytes.NewReader(snap.encode())); !errors.Is(err, ErrFeature) {
		t.Errorf("from a snapshot: %v", err)
	}
	again := NewUnderstanding(map[string]uint64{"colour": 2})
	if err := again.Restore(bytes.NewReader(snap.encode())); err != nil || again.Feature("colour") != 2 {
		t.Errorf("level %d: %v", again.Feature("colour"), err)
	}
}

// TestCheck: notes are taken, survive a snapshot, and a state that differs from
// the proposer's halts at the next one (I11).
func TestCheck(t *testing.T) {
	build := func(worker string) *State {
		s := New()
		apply(t, s, 1, Lead{Node: "a"})
		apply(t, s, 2, OpenSession{Worker: worker})
		apply(t, s, 3, &Schedule{Epoch: 1, Grants: []Grant{{Job: JobID{Node: 1}, Session: 2, Poll: 1}}})
		apply(t, s, 4, Check{})
		return s
	}
	one, same, odd := build("w"), build("w"), build("v")
	if one.Checked() != same.Checked() || one.Checked().Index != 4 {
		t.Errorf("notes %+v and %+v of equal states", one.Checked(), same.Checked())
	}
	if one.Checked().Hash == odd.Checked().Hash {
		t.Error("one note of different states")
	}
	snap, err := same.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	restored := New()
	if err := restored.Restore(bytes.NewReader(snap.encode())); err != nil {
		t.Fatal(err)
	}
	if restored.Checked() != same.Checked() || restored.Sum() != same.Sum() {
		t.Error("a snapshot loses the note")
	}
	next := one.Checked()
	apply(t, restored, 5, next)
	if _, err := odd.Apply(5, next.Append(nil)); !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "remove its data directory") {
		t.Errorf("a state that differs: %v", err)
	}
	// One that has no note of that index cannot tell, and takes the next.
	late := New()
	apply(t, late, 9, next)
	if late.Checked().Index != 9 {
		t.Errorf("note %+v", late.Checked())
	}
}

// TestSumCoversEverything: each field of the state changes its hash.
func TestSumCoversEverything(t *testing.T) {
	base := []Command{
		Lead{Node: "a"}, Adopt{Cluster: WorkflowID{1}}, OpenSession{Worker: "w", Process: "p"},
		SetMember{Member{ID: "m", RaftAddr: "r", APIAddr: "x", Version: "1", Features: map[string]uint64{"f": 1}}},
	}
	build := func(more ...Command) uint64 {
		s := NewUnderstanding(map[string]uint64{"f": 9})
		for i, c := range append(append([]Command(nil), base...), more...) {
			apply(t, s, uint64(i+1), c)
		}
		return s.Sum()
	}
	session := uint64(1)<<56 + 3
	grant := func(change func(*Grant)) Command {
		g := Grant{Job: JobID{WorkflowID{7}, 1}, Session: session, Poll: 1, Turn: 1}
		change(&g)
		return &Schedule{Epoch: 1, At: 5, Grants: []Grant{g}}
	}
	member := func(change func(*Member)) Command {
		m := Member{ID: "m", RaftAddr: "r", APIAddr: "x", Version: "1", Features: map[string]uint64{"f": 1}}
		change(&m)
		return SetMember{m}
	}
	seen := map[uint64]string{}
	for name, c := range map[string][]Command{
		"base": nil, "epoch": {Lead{Node: "a"}}, "leader": {Lead{Node: "b"}}, "cluster": {Adopt{Cluster: WorkflowID{1, 15: 9}}},
		"session": {OpenSession{Worker: "w", Process: "p"}}, "worker": {OpenSession{Worker: "v", Process: "p"}}, "process": {OpenSession{Worker: "w", Process: "q"}},
		"worker version": {OpenSession{Worker: "w", Process: "p", Version: "1"}}, "slots": {OpenSession{Worker: "w", Process: "p", Slots: 1}}, "opened": {OpenSession{Worker: "w", Process: "p", At: 1}},
		"closed": {CloseSession{Session: session}}, "no member": {RemoveMember{ID: "m"}}, "feature": {SetFeature{Name: "f", Level: 1}}, "level": {SetFeature{Name: "f", Level: 2}},
		"member address": {member(func(m *Member) { m.RaftAddr = "s" })}, "member api": {member(func(m *Member) { m.APIAddr = "y" })},
		"member version": {member(func(m *Member) { m.Version = "2" })}, "member features": {member(func(m *Member) { m.Features = map[string]uint64{"f": 2} })},
		"member id": {member(func(m *Member) { m.ID = "n" })},
		"grant":     {grant(func(*Grant) {})}, "job": {grant(func(g *Grant) { g.Job.Workflow[15] = 1 })}, "node": {grant(func(g *Grant) { g.Job.Node = 2 })},
		"turn": {grant(func(g *Grant) { g.Turn = 2 })}, "poll": {grant(func(g *Grant) { g.Poll = 2 })}, "lease": {OpenSession{}, CloseSession{Session: session + 2}, grant(func(*Grant) {})},
		"closing": {grant(func(*Grant) {}), CloseSession{Session: session, Lost: true}},
	} {
		sum := build(c...)
		if other, ok := seen[sum]; ok {
			t.Errorf("%q and %q have one hash", name, other)
		}
		seen[sum] = name
	}
	// What comes and goes leaves no trace.
	if got := build(grant(func(*Grant) {}), &Schedule{Epoch: 1, Releases: []Release{{ID: 5}}}); seen[got] != "base" {
		t.Error("a lease that has left changes the hash")
	}
}

// TestOldFormats: entries and snapshots of before members had features are read.
func TestOldFormats(t *testing.T) {
	m := Member{ID: "a", RaftAddr: "member:a", APIAddr: "127.0.0.1:7400", Version: "0.1"}
	c, err := Decode(appendMember([]byte{codeSetMember}, m))
	if got, ok := c.(SetMember); err != nil || !ok || !got.Member.Equal(m) {
		t.Errorf("%+v, %v", c, err)
	}
	b := append([]byte(snapshotMagic), 1)
	b = binary.AppendUvarint(b, 7)
	b = append(b, make([]byte, 16)...)
	b = binary.AppendUvarint(b, 3)
	b = appendString(b, "a")
	b = appendMember(binary.AppendUvarint(b, 1), m)
	b = append(b, 0, 0, 0) // features, sessions, leases
	s := New()
	if err := s.Restore(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if got, ok := s.Member("a"); !ok || !got.Equal(m) || s.Epoch() != 3 || s.Index() != 7 || s.Checked() != (Check{}) {
		t.Errorf("%+v at index %d", got, s.Index())
	}
	b[len(snapshotMagic)] = snapshotVersion + 1
	if err := New().Restore(bytes.NewReader(b)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a snapshot of a newer version: %v", err)
	}
}
