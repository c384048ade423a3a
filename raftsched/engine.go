package raftsched

import (
	"context"
	"sync"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// A Mark names its reign in the upper bits: one of an older reign means nothing
// to this one.
const markBits = 40

func (r *reign) mark(m dispatch.Mark) Mark { return Mark(r.number<<markBits | uint64(m)) }

func (r *reign) unmark(m Mark) (dispatch.Mark, bool) {
	return dispatch.Mark(m & (1<<markBits - 1)), m != 0 && uint64(m)>>markBits == r.number
}

// Begin marks the start of a transaction of the leader whose outcome is handed
// in by Done, or given up by End. Call it before the transaction begins. It is
// 0 when this node does not dispatch.
func (n *Node) Begin() (m Mark) {
	r, err := n.current()
	if err != nil {
		return 0
	}
	m, _ = ask(context.Background(), r, func(l *loop) Mark { return r.mark(l.d.Begin()) })
	return m
}

// End gives up a mark under which nothing is handed in.
func (n *Node) End(m Mark) {
	if r := n.reign.Load(); r != nil {
		if k, ok := r.unmark(m); ok {
			r.put(func(l *loop) { l.d.End(k) })
		}
	}
}

// Done tells what a committed transaction changed. Call it before the reports
// in it are acknowledged, so that no heartbeat sent after the acknowledgement
// overtakes it. Ended leases of an older reign's transactions are facts too;
// its rows are only wake-ups.
func (n *Node) Done(d Done) {
	r := n.reign.Load()
	if r == nil {
		return
	}
	r.put(func(l *loop) {
		ended := make([]fsm.Lease, 0, len(d.Ended))
		for _, lease := range d.Ended {
			// Its session may have given it back meanwhile, and the job been
			// granted anew: then that lease keeps the job until it ends itself.
			if a, ok := l.running[lease.Job]; !ok || a.id == lease.ID {
				ended = append(ended, lease)
			}
			l.ended(lease.Job, lease.ID)
		}
		mark, ok := r.unmark(d.Mark)
		ready := d.Ready
		if !ok || !l.clock.known {
			l.d.Hint(streams(ready))
			ready = nil
		}
		if !ok {
			mark = l.d.Begin()
		}
		l.d.Commit(mark, ended, d.Gone, ready)
	})
}

// streams of rows, each once where they stand together.
func streams(rows []dispatch.Row) []dispatch.LanePriority {
	var out []dispatch.LanePriority
	for i := range rows {
		s := dispatch.LanePriority{Lane: rows[i].Lane, Priority: rows[i].Priority}
		if len(out) == 0 || out[len(out)-1] != s {
			out = append(out, s)
		}
	}
	return out
}

// Hint says that these streams got rows: a wake-up, never a row (C4). On a node
// that does not lead it does nothing.
func (n *Node) Hint(lanes []dispatch.LanePriority) {
	if r := n.reign.Load(); r != nil && len(lanes) > 0 {
		r.put(func(l *loop) { l.d.Hint(lanes) })
	}
}

// Tell has the holders of these jobs told to cancel them. Jobs that are not
// leased are passed over.
func (n *Node) Tell(jobs []fsm.JobID) {
	if r := n.reign.Load(); r != nil && len(jobs) > 0 {
		r.put(func(l *loop) { l.tell(jobs) })
	}
}

// Drain has a session's worker told to take no more jobs and to stop when its
// running ones have ended. False: this leader does not know the session.
func (n *Node) Drain(session uint64) (ok bool) {
	r, err := n.current()
	if err != nil {
		return false
	}
	ok, err = ask(r.ctx, r, func(l *loop) bool {
		s, err := l.find(session)
		if err != nil {
			return false
		}
		if s.drain == 0 {
			s.number++
			s.drain = s.number
			l.answerBeat(s)
		}
		return true
	})
	return ok && err == nil
}

// SetQueuePaused follows a queue's pause, after it was written.
func (n *Node) SetQueuePaused(queue string, paused bool) {
	if r := n.reign.Load(); r != nil {
		r.put(func(l *loop) { l.d.PauseQueue(queue, paused) })
	}
}

// SetWorkflowPaused follows a workflow's pause, after it was written.
func (n *Node) SetWorkflowPaused(id fsm.WorkflowID, paused bool) {
	if r := n.reign.Load(); r != nil {
		r.put(func(l *loop) { l.d.PauseWorkflow(id, paused) })
	}
}

// HoldJob keeps a job from being granted while a command changes it, and tells
// its lease, if it has one: a leased job is the business of its holder. A job
// whose end is written is not leased any more. release must be called once,
// after the command's commit or failure; calls after that do nothing.
func (n *Node) HoldJob(ctx context.Context, id fsm.JobID) (release func(), leased []fsm.Lease, err error) {
	return n.hold(ctx, func(l *loop) dispatch.HoldID { return l.d.HoldJob(id) }, func(l *loop) []fsm.Lease {
		return l.standing(func(yield func(fsm.Lease) bool) {
			l.n.replica.read(func(s *fsm.State) {
				if lease, ok := s.Lease(id); ok {
					yield(lease)
				}
			})
		})
	})
}

// HoldWorkflow holds all jobs of a workflow, as HoldJob does one.
func (n *Node) HoldWorkflow(ctx context.Context, id fsm.WorkflowID) (release func(), leased []fsm.Lease, err error) {
	return n.hold(ctx, func(l *loop) dispatch.HoldID { return l.d.HoldWorkflow(id) }, func(l *loop) []fsm.Lease {
		return l.standing(func(yield func(fsm.Lease) bool) {
			l.n.replica.read(func(s *fsm.State) {
				for lease := range s.Leases {
					if lease.Job.Workflow == id && !yield(lease) {
						return
					}
				}
			})
		})
	})
}

// standing are the leases whose end is neither written nor under way back.
func (l *loop) standing(leases func(func(fsm.Lease) bool)) (out []fsm.Lease) {
	for lease := range leases {
		if a, ok := l.running[lease.Job]; ok && a.id == lease.ID && !a.ending {
			out = append(out, lease)
		}
	}
	return out
}

// hold puts a hold, waits for the entry in flight, for it may grant what is
// held, and tells what is leased.
func (n *Node) hold(ctx context.Context, put func(*loop) dispatch.HoldID, leased func(*loop) []fsm.Lease) (func(), []fsm.Lease, error) {
	r, err := n.current()
	if err != nil || !r.ready.Load() {
		return func() {}, nil, ErrNotLeader
	}
	type answer struct {
		id     dispatch.HoldID
		leased []fsm.Lease
	}
	got := make(chan answer, 1)
	taken := make(chan struct{})
	if !r.put(func(l *loop) {
		id := put(l)
		l.afterFlight(func() {
			select {
			case <-taken: // nobody waits any more
				l.d.ReleaseHold(id)
			default:
				got <- answer{id, leased(l)}
			}
		})
	}) {
		return func() {}, nil, ErrNotLeader
	}
	release := func(id dispatch.HoldID) func() {
		return sync.OnceFunc(func() { r.put(func(l *loop) { l.d.ReleaseHold(id) }) })
	}
	giveUp := func(err error) (func(), []fsm.Lease, error) {
		close(taken)
		// The answer may have crossed; then the hold is ended here.
		r.put(func(l *loop) {
			select {
			case a := <-got:
				l.d.ReleaseHold(a.id)
			default:
			}
		})
		return func() {}, nil, err
	}
	select {
	case a := <-got:
		return release(a.id), a.leased, nil
	case <-r.ctx.Done():
		return giveUp(ErrNotLeader)
	case <-ctx.Done():
		return giveUp(ctx.Err())
	}
}
