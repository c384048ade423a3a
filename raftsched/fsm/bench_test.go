package fsm

import (
	"encoding/binary"
	"testing"
)

// BenchmarkSchedule applies entries of 1,000 grants of lone jobs, spread over
// ten polls, with 1,000 releases, beside 10,000 leases.
func BenchmarkSchedule(b *testing.B) {
	s := New()
	mustApply := func(index uint64, data []byte) {
		if _, err := s.Apply(index, data); err != nil {
			b.Fatal(err)
		}
	}
	mustApply(1, Lead{}.Append(nil))
	for i := range uint64(10) {
		mustApply(2+i, OpenSession{}.Append(nil))
	}
	index, job := uint64(100), uint64(0)
	c := &Schedule{Epoch: 1}
	var buf []byte
	next := func() {
		c.Releases, c.Grants = c.Releases[:0], c.Grants[:0]
		if index >= 110 {
			for i := range uint32(1000) {
				c.Releases = append(c.Releases, Release{ID: index - 10, Ordinal: i})
			}
		}
		for i := range 1000 {
			g := Grant{Session: 2 + uint64(i/100), Poll: index}
			binary.BigEndian.PutUint64(g.Job.Workflow[8:], job)
			binary.BigEndian.PutUint64(g.Job.Workflow[:8], job*0x9e3779b97f4a7c15)
			g.Job.Node = 1
			job++
			c.Grants = append(c.Grants, g)
		}
		buf = c.Append(buf[:0])
		mustApply(index, buf)
		index++
	}
	for range 20 {
		next()
	}
	b.ReportAllocs()
	for b.Loop() {
		next()
	}
	b.ReportMetric(float64(len(buf))/1000, "log-B/grant")
}

func BenchmarkSnapshot100k(b *testing.B) {
	s := New()
	if _, err := s.Apply(1, Lead{}.Append(nil)); err != nil {
		b.Fatal(err)
	}
	if _, err := s.Apply(2, OpenSession{}.Append(nil)); err != nil {
		b.Fatal(err)
	}
	for e := range 100 {
		c := &Schedule{Epoch: 1}
		for i := range 1000 {
			g := Grant{Session: 2, Poll: uint64(e), Job: JobID{Node: 1}}
			binary.BigEndian.PutUint64(g.Job.Workflow[:], uint64(e*1000+i)*0x9e3779b97f4a7c15)
			c.Grants = append(c.Grants, g)
		}
		if _, err := s.Apply(uint64(3+e), c.Append(nil)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		snap, err := s.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		size = len(snap.encode())
		b.StartTimer()
	}
	b.ReportMetric(float64(size)/100_000, "B/lease")
}
