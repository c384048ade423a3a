package raftsched

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// SessionInfo describes a session for people.
type SessionInfo struct {
	ID      uint64
	Worker  string
	Process string
	Version string
	// Capacity: jobs it takes at once; 0: not known.
	Capacity int
	// OpenedAt in microseconds of the database clock; 0: not known.
	OpenedAt int64
	// Closing: lost; the ends of its attempts are being written.
	Closing bool
	Leases  int
	// The rest only its leader knows: queues and kinds of its newest poll, how
	// many jobs its open polls ask for, and the time since its last heartbeat,
	// negative if this leader has seen none.
	Queues       []string
	Kinds        []string
	Slots        int
	HeartbeatAge time.Duration
	// Draining: it was told to take no more.
	Draining bool
}

// Sessions by id. On a node that does not lead, only what the state says.
func (n *Node) Sessions() []SessionInfo {
	var out []SessionInfo
	n.replica.read(func(s *fsm.State) {
		for _, se := range s.Sessions() {
			out = append(out, SessionInfo{
				ID: se.ID, Worker: se.Worker, Process: se.Process, Version: se.Version, Capacity: int(se.Slots), OpenedAt: se.OpenedAt,
				Closing: se.Closing, Leases: se.Leases, HeartbeatAge: -1,
			})
		}
	})
	r, err := n.current()
	if err != nil {
		return out
	}
	known := slices.Clone(out)
	described, err := ask(r.ctx, r, func(l *loop) []SessionInfo {
		for i := range known {
			if s := l.sessions[known[i].ID]; s != nil {
				s.describe(&known[i], l.now)
			}
		}
		return known
	})
	if err != nil {
		return out
	}
	return described
}

func (s *session) describe(info *SessionInfo, now time.Time) {
	info.Closing = info.Closing || s.closing
	info.Queues, info.Kinds = slices.Clone(s.queues), slices.Clone(s.kinds)
	for _, w := range s.polls {
		info.Slots += w.req.Max
	}
	info.Draining = s.drain != 0
	if !s.beat.IsZero() {
		info.HeartbeatAge = now.Sub(s.beat)
	}
}

// Leased lists the leases of a workflow's jobs by their numbers.
func (n *Node) Leased(id fsm.WorkflowID) (out []fsm.Lease) {
	n.replica.read(func(s *fsm.State) {
		for l := range s.Leases {
			if l.Job.Workflow == id {
				out = append(out, l)
			}
		}
	})
	slices.SortFunc(out, func(a, b fsm.Lease) int { return cmp.Compare(a.Job.Node, b.Job.Node) })
	return out
}

// LeaseOf tells a job's lease and the worker that holds it.
func (n *Node) LeaseOf(job fsm.JobID) (l fsm.Lease, worker string, ok bool) {
	n.replica.read(func(s *fsm.State) {
		if l, ok = s.Lease(job); ok {
			se, _ := s.Session(l.Session)
			worker = se.Worker
		}
	})
	return l, worker, ok
}

// Running counts the leases by route, those of an unknown one under 0. Nil on a
// node that does not lead.
func (n *Node) Running() map[int32]int {
	r, err := n.current()
	if err != nil {
		return nil
	}
	counts, _ := ask(r.ctx, r, func(l *loop) map[int32]int { return maps.Clone(l.counts) })
	return counts
}

// Served tells whether a worker serves a route, and whether one with a free
// slot is waiting. Both false on a node that does not lead.
func (n *Node) Served(route int32) (worker, freeSlot bool) {
	r, err := n.current()
	if err != nil {
		return false, false
	}
	type served struct{ worker, free bool }
	s, _ := ask(r.ctx, r, func(l *loop) served {
		worker, free := l.d.Served(route)
		return served{worker, free}
	})
	return s.worker, s.free
}
