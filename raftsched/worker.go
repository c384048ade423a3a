package raftsched

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// current is the reign that answers calls, if there is one.
func (n *Node) current() (*reign, error) {
	if r := n.reign.Load(); r != nil && r.ctx.Err() == nil {
		return r, nil
	}
	return nil, ErrNotLeader
}

// OpenSession opens a session for a worker.
func (n *Node) OpenSession(ctx context.Context, w Worker) (session, epoch uint64, err error) {
	r, err := n.current()
	if err != nil {
		return 0, 0, err
	}
	open := fsm.OpenSession{Worker: w.Name, Process: w.Process, Version: w.Version, Slots: int32(min(max(w.Slots, 0), math.MaxInt32)), At: w.At}
	res, err := r.change(ctx, open, func(l *loop, res *fsm.Result) {
		l.session(fsm.Session{ID: res.Session, Worker: w.Name, Process: w.Process})
	})
	if err != nil {
		return 0, 0, err
	}
	return res.Session, r.epoch.Load(), nil
}

// CloseSession ends a session whose worker stops. pollsClosed is its last poll;
// leases it still holds go back to the front of their queues, uncounted.
func (n *Node) CloseSession(ctx context.Context, session, pollsClosed uint64) error {
	r, err := n.current()
	if err != nil {
		return err
	}
	closed := make(chan error, 1)
	// Once shut it is closed, whether or not the caller waits for that.
	if !r.put(func(l *loop) {
		s, err := l.find(session)
		if err != nil {
			if errors.Is(err, ErrUnknownSession) {
				err = nil
			}
			closed <- err
			return
		}
		l.shut(s)
		l.dismiss(s)
		s.leaving = true
		r.proposer.propose(fsm.CloseSession{Session: session}, func(res *fsm.Result, err error) {
			r.put(func(l *loop) {
				if err != nil {
					l.failed(err)
					return
				}
				l.closed(session, res)
				closed <- nil
			})
		})
	}) {
		return ErrNotLeader
	}
	select {
	case err := <-closed:
		return err
	case <-r.ctx.Done():
		return ErrNotLeader
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CloseLost closes, as lost, the open sessions whose process id begins with
// prefix: their processes have certainly ended.
func (n *Node) CloseLost(ctx context.Context, prefix string) error {
	r, err := n.current()
	if err != nil {
		return err
	}
	return r.callContext(ctx, func(l *loop) {
		var sessions []fsm.Session
		l.n.replica.read(func(s *fsm.State) { sessions = s.Sessions() })
		for _, se := range sessions {
			if s := l.session(se); !s.closing && len(se.Process) >= len(prefix) && se.Process[:len(prefix)] == prefix {
				l.lose(s)
			}
		}
	})
}

// change proposes an entry in the order of the loop's own entries, has done run
// on the loop with its outcome, and waits for that.
func (r *reign) change(ctx context.Context, c fsm.Command, done func(*loop, *fsm.Result)) (*fsm.Result, error) {
	got := make(chan *fsm.Result, 1)
	r.proposer.propose(c, func(res *fsm.Result, err error) {
		r.put(func(l *loop) {
			if err != nil {
				l.failed(err)
				return
			}
			done(l, res)
			got <- res
		})
	})
	select {
	case res := <-got:
		return res, nil
	case <-r.ctx.Done():
		return nil, ErrNotLeader
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Poll waits for jobs: until one was granted, req.Wait is over, the poll was
// closed, or ctx ends. No jobs and no error: ask again.
func (n *Node) Poll(ctx context.Context, req PollRequest) ([]Grant, uint64, error) {
	r, err := n.current()
	if err != nil {
		return nil, 0, err
	}
	if req.Poll == 0 || req.Max < 1 {
		return nil, 0, fmt.Errorf("poll %d for %d jobs: both must be at least 1", req.Poll, req.Max)
	}
	w := &waitingPoll{req: req, answer: make(chan pollAnswer, 1)}
	if !r.put(func(l *loop) { l.poll(w) }) {
		return nil, 0, ErrNotLeader
	}
	wait := time.NewTimer(req.Wait)
	defer wait.Stop()
	for {
		select {
		case a := <-w.answer:
			return a.grants, a.epoch, a.err
		case <-wait.C:
			r.put(func(l *loop) { l.leave(w, false) })
		case <-r.ctx.Done():
			return nil, 0, ErrNotLeader
		case <-ctx.Done():
			r.put(func(l *loop) { l.leave(w, true) })
			return nil, 0, ctx.Err()
		}
	}
}

// Heartbeat takes in what a worker holds, renews its session, and waits up to
// hb.Wait, at most a third of the TTL, for commands.
func (n *Node) Heartbeat(ctx context.Context, hb Heartbeat) (Commands, error) {
	r, err := n.current()
	if err != nil {
		return Commands{}, err
	}
	w := &waitingBeat{answer: make(chan beatAnswer, 1)}
	if !r.put(func(l *loop) { l.heartbeat(&hb, w) }) {
		return Commands{}, ErrNotLeader
	}
	wait := time.NewTimer(min(hb.Wait, n.cfg.SessionTTL/3))
	defer wait.Stop()
	leave := func(l *loop) {
		if s := l.sessions[hb.Session]; s != nil && s.waiting == w {
			l.answerBeat(s)
		}
	}
	for {
		select {
		case a := <-w.answer:
			return a.commands, a.err
		case <-wait.C:
			r.put(leave)
		case <-r.ctx.Done():
			return Commands{}, ErrNotLeader
		case <-ctx.Done():
			r.put(leave)
			return Commands{}, ctx.Err()
		}
	}
}

// Admit is the first check of a report: what the state says of the leases it
// names. The answers stand in the order of leases; a lease is set where it was
// admitted. A lease that was granted behind what this node has applied, and
// every lease while it does not lead, is unknown here: a negative answer needs
// knowledge too (C2).
func (n *Node) Admit(session uint64, leases []HeldLease) ([]Admission, []fsm.Lease) {
	_, leading := n.Leader()
	answers, found := make([]Admission, len(leases)), make([]fsm.Lease, len(leases))
	n.replica.read(func(s *fsm.State) {
		for i, h := range leases {
			lease, ok := s.Lease(h.Job)
			switch {
			case ok && lease.ID == h.ID && lease.Session == session:
				answers[i] = Unknown
				if leading {
					answers[i], found[i] = Admitted, lease
				}
			case h.ID > s.Index():
				answers[i] = Unknown
			default:
				answers[i] = Stale
			}
		}
	})
	return answers, found
}
