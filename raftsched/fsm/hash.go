package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// ErrDiverged: this node's state is not the leader's (I11).
var ErrDiverged = errors.New("replicated state differs")

// Check has every node note the hash of its state, and compares the note before
// it with the proposer's. Index and Hash are that note; 0, 0: it has none.
type Check struct {
	Index uint64
	Hash  uint64
}

// Append writes the entry's bytes behind b.
func (c Check) Append(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(append(b, codeCheck), c.Index), c.Hash)
}

// Checked is the newest note: the hash of the state at an index at which every
// node noted it.
func (s *State) Checked() Check { return s.checked }

// check compares notes and takes the next one, of the state as the entry at
// index leaves it.
func (s *State) check(index uint64, c Check) error {
	if c.Index != 0 && c.Index == s.checked.Index && c.Hash != s.checked.Hash {
		return fmt.Errorf("%w at index %d: %016x here, %016x at the leader: stop this node, remove its data directory, start it again",
			ErrDiverged, c.Index, s.checked.Hash, c.Hash)
	}
	s.checked = Check{Index: index, Hash: s.Sum()}
	return nil
}

// Sum hashes the state but for its index and notes. The
// leases' part is kept as they come and go; all else is little.
func (s *State) Sum() uint64 {
	h := mix(s.epoch, uint64(len(s.byJob)))
	h = mixString(mix(h, s.leases), string(s.cluster[:]))
	h = mixString(h, s.leader)
	var rest uint64
	for _, m := range s.members {
		v := mixString(mixString(mixString(mixString(1, m.ID), m.RaftAddr), m.APIAddr), m.Version)
		for name, level := range m.Features {
			v += mixString(level, name)
		}
		rest += v
	}
	for name, level := range s.features {
		rest += mix(mixString(level, name), 2)
	}
	for _, se := range s.sessions {
		v := mixString(mixString(mixString(se.ID, se.Worker), se.Process), se.Version) + mix(uint64(se.Slots), uint64(se.OpenedAt))
		if se.Closing {
			v++
		}
		rest += mix(v, 3)
	}
	return mix(h, rest)
}

// hash of a lease: four multiplications, as it stands in the way of each grant.
func (l *Lease) hash(ordinal uint32) uint64 {
	w := &l.Job.Workflow
	h := mix(binary.LittleEndian.Uint64(w[:8]), binary.LittleEndian.Uint64(w[8:]))
	h = mix(h^(uint64(uint32(l.Job.Node))|uint64(uint32(l.Turn))<<32), l.ID)
	h = mix(h^l.Session, l.Poll)
	return mix(h^uint64(ordinal), uint64(l.GrantedAt))
}

// mix folds the product of two numbers; the constants are random primes.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0xa0761d6478bd642f, b^0xe7037ed1a0b428db)
	return hi ^ lo
}

func mixString(h uint64, s string) uint64 {
	h = mix(h, uint64(len(s)))
	for ; len(s) >= 8; s = s[8:] {
		h = mix(h, binary.LittleEndian.Uint64([]byte(s[:8])))
	}
	for i := range len(s) {
		h = mix(h, uint64(s[i]))
	}
	return h
}
