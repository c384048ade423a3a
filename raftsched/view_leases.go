package raftsched

import (
	"cmp"
	"slices"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// LeaseCount is the number of leases.
func (n *Node) LeaseCount() (count int) {
	n.replica.read(func(s *fsm.State) { count = s.Len() })
	return count
}

// LeasedBefore lists up to limit leases of jobs before at in the order of
// (workflow, node), the last of them first.
func (n *Node) LeasedBefore(at fsm.JobID, limit int) []fsm.Lease {
	var out []fsm.Lease
	n.replica.read(func(s *fsm.State) {
		for l := range s.Leases {
			if compareJobs(l.Job, at) < 0 {
				out = append(out, l)
			}
		}
	})
	slices.SortFunc(out, func(a, b fsm.Lease) int { return compareJobs(b.Job, a.Job) })
	return out[:min(limit, len(out))]
}

// SessionLeases lists up to limit leases of a session, the oldest first.
func (n *Node) SessionLeases(session uint64, limit int) []fsm.Lease {
	var out []fsm.Lease
	n.replica.read(func(s *fsm.State) {
		for l := range s.SessionLeases(session) {
			out = append(out, l)
		}
	})
	slices.SortFunc(out, func(a, b fsm.Lease) int { return cmp.Or(cmp.Compare(a.ID, b.ID), compareJobs(a.Job, b.Job)) })
	return out[:min(limit, len(out))]
}

func compareJobs(a, b fsm.JobID) int {
	return cmp.Or(slices.Compare(a.Workflow[:], b.Workflow[:]), cmp.Compare(a.Node, b.Node))
}
