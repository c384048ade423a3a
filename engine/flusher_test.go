package engine

import (
	"testing"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Groups keep the order, their bound, and the repeats for later.
func TestGather(t *testing.T) {
	f := &flusher{wake: make(chan struct{}, 1)}
	var items []item
	for n := range 2*flushLimit + 10 {
		items = append(items, item{lease: fsm.Lease{Job: jobID(n)}})
		if n%100 == 0 {
			items = append(items, item{lease: fsm.Lease{Job: jobID(n), ID: 1}})
		}
	}
	over := &reportCall{over: true}
	items[5].call = over
	f.push(items)
	seen, taken := make(map[fsm.JobID]struct{}), make(map[fsm.Lease]bool)
	for round := 0; len(taken) < len(items)-1; round++ {
		group := f.gather(nil, seen)
		if len(group) == 0 || len(group) > flushLimit {
			t.Fatalf("round %d: a group of %d", round, len(group))
		}
		once := make(map[fsm.JobID]bool)
		for _, it := range group {
			if once[it.lease.Job] || taken[it.lease] || it.call == over {
				t.Fatalf("round %d: %v is taken wrongly", round, it.lease)
			}
			once[it.lease.Job], taken[it.lease] = true, true
		}
	}
	if len(f.pending) != 0 {
		t.Errorf("%d items are left", len(f.pending))
	}
}
