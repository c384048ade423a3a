package fsm

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
)

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendMember(b []byte, m Member) []byte {
	return appendString(appendString(appendString(appendString(b, m.ID), m.RaftAddr), m.APIAddr), m.Version)
}

// appendFeatures in the order of their names.
func appendFeatures(b []byte, features map[string]uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(features)))
	for _, name := range slices.Sorted(maps.Keys(features)) {
		b = binary.AppendUvarint(appendString(b, name), features[name])
	}
	return b
}

// reader takes values from the front of b. After a fault it keeps the first
// error and reads zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s with %d bytes left: %w", what, len(r.b), ErrMalformed)
	}
	r.b = nil
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) != 0 {
		r.fail("end")
	}
	return r.err
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) upTo(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.fail("number above its limit")
		return 0
	}
	return v
}

func (r *reader) int32(v int64) int32 {
	if v < math.MinInt32 || v > math.MaxInt32 {
		r.fail("number beyond 32 bits")
		return 0
	}
	return int32(v)
}

// count reads how many values follow that take at least size bytes each, so
// that a false count cannot ask for more memory than it has bytes.
func (r *reader) count(size int) int {
	v := r.uvarint()
	if v > uint64(len(r.b)/size) {
		r.fail("count")
		return 0
	}
	return int(v)
}

// run reads the length of a run, 1 to most.
func (r *reader) run(most int) int {
	v := r.upTo(uint64(most))
	if v == 0 {
		r.fail("empty run")
	}
	return int(v)
}

func (r *reader) bool() bool {
	return r.upTo(1) == 1
}

func (r *reader) str() string {
	n := r.count(1)
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) workflow() (w WorkflowID) {
	if len(r.b) < len(w) {
		r.fail("workflow id")
		return w
	}
	copy(w[:], r.b)
	r.b = r.b[len(w):]
	return w
}

// appendOpened writes how a session was opened.
func appendOpened(b []byte, version string, slots int32, at int64) []byte {
	return binary.AppendVarint(binary.AppendVarint(appendString(b, version), int64(slots)), at)
}

func (r *reader) opened() (version string, slots int32, at int64) {
	return r.str(), r.int32(r.varint()), r.varint()
}

func (r *reader) member() Member {
	return Member{ID: r.str(), RaftAddr: r.str(), APIAddr: r.str(), Version: r.str()}
}

func (r *reader) features() map[string]uint64 {
	var features map[string]uint64
	for n := r.count(2); n > 0; n-- {
		if features == nil {
			features = make(map[string]uint64, n)
		}
		name := r.str()
		features[name] = r.uvarint()
	}
	return features
}

func (r *reader) uint64() uint64 {
	if len(r.b) < 8 {
		r.fail("fixed number")
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}
