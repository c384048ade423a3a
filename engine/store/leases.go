package store

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Leases tells which open jobs workers hold: to the database a running job is
// an available one. *raftsched.Node is one, on every node of a cluster. Its
// answers are a moment old, and a lease outlives its job's end by a moment.
type Leases interface {
	// Leased lists the leases of a workflow's jobs by their numbers.
	Leased(id fsm.WorkflowID) []fsm.Lease
	LeaseOf(job fsm.JobID) (lease fsm.Lease, worker string, ok bool)
	// LeasedBefore lists up to n leases of jobs before at in the order of
	// (workflow, node), the last of them first.
	LeasedBefore(at fsm.JobID, n int) []fsm.Lease
	// LeaseCount is the number of all leases.
	LeaseCount() int
}

// noLeases is what is held while nobody has said.
type noLeases struct{}

func (noLeases) Leased(fsm.WorkflowID) []fsm.Lease                 { return nil }
func (noLeases) LeaseOf(fsm.JobID) (_ fsm.Lease, _ string, _ bool) { return }
func (noLeases) LeasedBefore(fsm.JobID, int) []fsm.Lease           { return nil }
func (noLeases) LeaseCount() int                                   { return 0 }

// ShowLeases has reads show the leased jobs as running from now on.
func (s *Store) ShowLeases(l Leases) { s.held.Store(&l) }

func (s *Store) leases() Leases {
	if l := s.held.Load(); l != nil {
		return *l
	}
	return noLeases{}
}

// leasedNodes are the numbers of a workflow's leased jobs, ascending; never
// nil, which SQL would take for unknown.
func (s *Store) leasedNodes(id fsm.WorkflowID) []int32 {
	leases := s.leases().Leased(id)
	nodes := make([]int32, len(leases))
	for i, l := range leases {
		nodes[i] = l.Job.Node
	}
	return nodes
}

// waits reports whether a job in that state may be leased.
func waits(state heddlev1.State) bool {
	return state == heddlev1.State_STATE_AVAILABLE || state == heddlev1.State_STATE_SCHEDULED || state == heddlev1.State_STATE_RETRYABLE
}

// showLease shows a job as running if it is leased.
func (s *Store) showLease(id fsm.JobID, j *heddlev1.Job) {
	if !waits(j.GetState()) {
		return
	}
	if lease, worker, ok := s.leases().LeaseOf(id); ok {
		j.State, j.Worker = heddlev1.State_STATE_RUNNING, worker
		j.StartedAt = timestamppb.New(time.UnixMicro(lease.GrantedAt))
	}
}
