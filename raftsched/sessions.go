package raftsched

import (
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// session is what only the leader knows of a session.
type session struct {
	id      uint64
	worker  string
	process string
	closing bool // its end is under way; nothing is granted or told any more
	leaving bool // closing gracefully: its leases are given back, not lost

	deadline time.Time // silent until then, it is lost
	beat     time.Time // last heartbeat; zero: none in this reign
	endAgain time.Time // closing: when its ends are asked for again

	polls       map[uint64]*waitingPoll
	pollsClosed uint64
	queues      []string // of its newest poll
	kinds       []string

	waiting  *waitingBeat
	snapshot *Heartbeat // the newest, kept until the leader may act on it

	number  uint64 // of the newest command
	seen    uint64
	told    bool // it has had an answer of this reign, so it knows the epoch
	drain   uint64
	cancels map[HeldLease]uint64
	lost    map[HeldLease]uint64
}

type waitingPoll struct {
	req    PollRequest
	gone   bool // its caller has left
	answer chan pollAnswer
}

type pollAnswer struct {
	grants []Grant
	epoch  uint64
	err    error
}

type waitingBeat struct {
	answer chan beatAnswer
}

type beatAnswer struct {
	commands Commands
	err      error
}

// session is made on first sight; se is its part of the state.
func (l *loop) session(se fsm.Session) *session {
	s := l.sessions[se.ID]
	if s == nil {
		s = &session{
			id: se.ID, worker: se.Worker, process: se.Process, closing: se.Closing,
			deadline: l.now.Add(l.cfg.SessionTTL),
			polls:    map[uint64]*waitingPoll{}, cancels: map[HeldLease]uint64{}, lost: map[HeldLease]uint64{},
			// Numbers rise from reign to reign.
			number: l.r.epoch.Load() << 24,
		}
		l.sessions[se.ID] = s
		if l.nextExpiry.IsZero() || s.deadline.Before(l.nextExpiry) {
			l.nextExpiry = s.deadline
		}
	}
	return s
}

// find a session for one of its calls. One that is not there is gone for good,
// unless it was opened behind what this node has applied: it may be deposed and
// unaware (C2). Nor is one gone whose loss is not committed yet.
func (l *loop) find(id uint64) (*session, error) {
	s := l.sessions[id]
	if s != nil && !s.closing {
		return s, nil
	}
	if s != nil && s.leaving {
		return nil, ErrUnknownSession
	}
	var se fsm.Session
	var ok, follows bool
	l.n.replica.read(func(st *fsm.State) {
		se, ok = st.Session(id)
		follows = st.Follows(id)
	})
	switch {
	case !follows, s != nil && ok && !se.Closing:
		return nil, ErrNotLeader
	case !ok || se.Closing:
		return nil, ErrUnknownSession
	}
	return l.session(se), nil
}

// poll takes a poll in.
func (l *loop) poll(w *waitingPoll) {
	s, err := l.find(w.req.Session)
	if err != nil {
		w.answer <- pollAnswer{err: err}
		return
	}
	if w.req.Poll <= s.pollsClosed {
		w.answer <- pollAnswer{epoch: l.r.epoch.Load()}
		return
	}
	queues := make([]dispatch.Queue, len(w.req.Queues))
	s.queues = s.queues[:0]
	for i, q := range w.req.Queues {
		queues[i] = dispatch.Queue{Name: q.Name, Weight: q.Weight}
		s.queues = append(s.queues, q.Name)
	}
	s.kinds = w.req.Kinds
	if old := s.polls[w.req.Poll]; old != nil {
		// Sent again: the newer call takes the older one's place, and what is
		// being granted to it.
		old.answer <- pollAnswer{epoch: l.r.epoch.Load()}
		if l.granting(s.id, w.req.Poll) {
			s.polls[w.req.Poll] = w
			return
		}
		l.d.ClosePoll(s.id, w.req.Poll)
	}
	s.polls[w.req.Poll] = w
	l.d.Poll(dispatch.Poll{Session: s.id, Poll: w.req.Poll, Max: w.req.Max, Queues: queues, Kinds: w.req.Kinds})
}

// leave takes a poll back whose time is over or whose caller has gone. One that
// is being granted something is answered when that is committed.
func (l *loop) leave(w *waitingPoll, gone bool) {
	s := l.sessions[w.req.Session]
	if s == nil || s.polls[w.req.Poll] != w {
		return // answered
	}
	w.gone = gone
	if l.granting(w.req.Session, w.req.Poll) {
		return
	}
	l.d.ClosePoll(s.id, w.req.Poll)
	delete(s.polls, w.req.Poll)
	w.answer <- pollAnswer{epoch: l.r.epoch.Load()}
}

// granting tells whether a poll has grants in flight, or arguments under way.
func (l *loop) granting(session, poll uint64) bool {
	if f := l.schedule.flight; f != nil {
		for i := range f.matches {
			if f.matches[i].Session == session && f.matches[i].Poll == poll {
				return true
			}
		}
	}
	return l.schedule.fetching[pollKey{session, poll}] > 0
}

// heartbeat takes in what a worker holds and tells it what it should know.
func (l *loop) heartbeat(hb *Heartbeat, w *waitingBeat) {
	s, err := l.find(hb.Session)
	if err != nil {
		w.answer <- beatAnswer{err: err}
		return
	}
	s.deadline, s.beat = l.now.Add(l.cfg.SessionTTL), l.now
	if s.waiting != nil {
		l.answerBeat(s)
	}
	s.seen = max(s.seen, hb.CommandsSeen)
	for n := range s.polls {
		if n <= hb.PollsClosed {
			p := s.polls[n]
			if !l.granting(s.id, n) {
				delete(s.polls, n)
				p.answer <- pollAnswer{epoch: l.r.epoch.Load()}
			}
		}
	}
	if hb.PollsClosed > s.pollsClosed {
		s.pollsClosed = hb.PollsClosed
		l.d.ClosePolls(s.id, hb.PollsClosed)
	}
	if l.dispatching {
		l.takeBack(s, hb)
	} else {
		s.snapshot = hb
	}
	s.waiting = w
	if !s.told || hb.Wait <= 0 || s.unseen() {
		l.answerBeat(s)
	}
}

// takeBack compares a snapshot with the state. A lease whose poll is closed and
// which is not named never reached the worker (C1). The snapshot is one moment
// of the worker's, so it may come late or twice: a poll once closed stays so.
// What the worker names and the state does not have is lost.
func (l *loop) takeBack(s *session, hb *Heartbeat) {
	held := make(map[HeldLease]bool, len(hb.Held))
	for _, h := range hb.Held {
		held[h] = true
	}
	var never []HeldLease
	lost := map[HeldLease]uint64{}
	l.n.replica.read(func(st *fsm.State) {
		for lease := range st.SessionLeases(s.id) {
			h := HeldLease{Job: lease.Job, ID: lease.ID}
			if lease.Poll <= hb.PollsClosed && !held[h] {
				never = append(never, h)
			}
		}
		for _, h := range hb.Held {
			if h.ID > st.Index() {
				continue // another leader granted it (C2)
			}
			if lease, ok := st.Lease(h.Job); !ok || lease.ID != h.ID || lease.Session != s.id {
				lost[h] = s.lost[h]
			}
		}
	})
	for _, h := range never {
		l.takeBackLease(h.Job, h.ID)
	}
	for h, number := range lost {
		if number == 0 {
			s.number++
			lost[h] = s.number
		}
	}
	s.lost = lost
	for h := range s.cancels {
		if a, ok := l.running[h.Job]; !ok || a.id != h.ID || a.ending {
			delete(s.cancels, h)
		}
	}
}

// unseen: there are commands that the worker has not carried out.
func (s *session) unseen() bool {
	if s.drain > s.seen {
		return true
	}
	for _, number := range s.cancels {
		if number > s.seen {
			return true
		}
	}
	for _, number := range s.lost {
		if number > s.seen {
			return true
		}
	}
	return false
}

// answerBeat answers the waiting heartbeat, if any.
func (l *loop) answerBeat(s *session) {
	if s.waiting == nil {
		return
	}
	c := Commands{Epoch: l.r.epoch.Load(), Number: s.number, Drain: s.drain != 0}
	for h, number := range s.cancels {
		if number > s.seen {
			c.Cancel = append(c.Cancel, h)
		}
	}
	for h, number := range s.lost {
		if number > s.seen {
			c.Lost = append(c.Lost, h)
		}
	}
	s.waiting.answer <- beatAnswer{commands: c}
	s.waiting, s.told = nil, true
}

// retell has the next heartbeat of each session answered at once.
func (l *loop) retell() {
	for _, s := range l.sessions {
		s.told = false
		s.number = max(s.number, l.r.epoch.Load()<<24)
		l.answerBeat(s)
	}
}

// tell the holders of jobs to cancel them.
func (l *loop) tell(jobs []fsm.JobID) {
	for _, job := range jobs {
		a, ok := l.running[job]
		if !ok || a.ending {
			continue
		}
		s := l.sessions[a.session]
		if s == nil {
			var se fsm.Session
			l.n.replica.read(func(st *fsm.State) { se, ok = st.Session(a.session) })
			if !ok {
				continue
			}
			s = l.session(se)
		}
		s.number++
		s.cancels[HeldLease{Job: job, ID: a.id}] = s.number
		l.answerBeat(s)
	}
}

// heldUpPart of the TTL is the least time between two turns while there are
// sessions, and by how much a turn that came later shows that this process
// stood still.
const heldUpPart = 10

// heldUp lets all workers speak before the next ones are lost: while this
// process stood still, it heard none.
func (l *loop) heldUp() {
	for _, s := range l.sessions {
		if soon := l.now.Add(l.cfg.SessionTTL / 3); s.deadline.Before(soon) {
			s.deadline = soon
		}
	}
}

// expireSessions begins the end of sessions that were silent for too long, and
// tells when to look again.
func (l *loop) expireSessions() time.Time {
	next := l.lookForExpired()
	if soon := l.now.Add(l.cfg.SessionTTL / heldUpPart); len(l.sessions) > 0 && soon.Before(next) {
		return soon
	}
	return next
}

func (l *loop) lookForExpired() time.Time {
	if l.now.Before(l.nextExpiry) {
		return l.nextExpiry
	}
	l.nextExpiry = l.now.Add(l.cfg.SessionTTL)
	for _, s := range l.sessions {
		switch {
		case s.leaving:
		case s.closing && !l.now.Before(s.endAgain):
			l.endLeases(s)
			fallthrough
		case s.closing:
			if s.endAgain.Before(l.nextExpiry) {
				l.nextExpiry = s.endAgain
			}
		case !l.now.Before(s.deadline):
			l.lose(s)
		case s.deadline.Before(l.nextExpiry):
			l.nextExpiry = s.deadline
		}
	}
	return l.nextExpiry
}

// lose is the first of the three steps of a lost session: closing, through the
// log. The second is its attempts' facts in the database, written by the sink;
// the third their release.
func (l *loop) lose(s *session) {
	l.cfg.Logger.Info("session lost", "session", s.id, "worker", s.worker)
	l.shut(s)
	s.endAgain = l.now.Add(againAfter)
	l.r.proposer.propose(fsm.CloseSession{Session: s.id, Lost: true}, func(_ *fsm.Result, err error) {
		l.r.put(func(l *loop) {
			if err != nil {
				l.failed(err)
				return
			}
			l.dismiss(s)
			l.endLeases(s)
		})
	})
}

// shut stops granting to a session.
func (l *loop) shut(s *session) {
	s.closing = true
	l.d.DropSession(s.id)
}

// dismiss tells the waiting calls of a session that it is gone.
func (l *loop) dismiss(s *session) {
	for n, w := range s.polls {
		delete(s.polls, n)
		w.answer <- pollAnswer{err: ErrUnknownSession}
	}
	if s.waiting != nil {
		s.waiting.answer <- beatAnswer{err: ErrUnknownSession}
		s.waiting = nil
	}
}

// endLeases has the attempts of a lost session written as ended. One whose
// report was written first is not touched: the turn decides.
func (l *loop) endLeases(s *session) {
	s.endAgain = l.now.Add(againAfter)
	var leases []fsm.Lease
	open := false
	l.n.replica.read(func(st *fsm.State) {
		_, open = st.Session(s.id)
		for lease := range st.SessionLeases(s.id) {
			leases = append(leases, lease)
		}
	})
	if !open {
		delete(l.sessions, s.id)
		return
	}
	ends := make([]End, 0, len(leases))
	for _, lease := range leases {
		if a, ok := l.running[lease.Job]; ok && a.id == lease.ID && !a.ending {
			ends = append(ends, End{Lease: lease, Reason: EndLost, Worker: s.worker})
		}
	}
	l.tellSink(ends)
}

// closed takes the outcome of a graceful close.
func (l *loop) closed(id uint64, res *fsm.Result) {
	delete(l.sessions, id)
	var back []fsm.Lease
	for _, lease := range res.Leases {
		a, ok := l.running[lease.Job]
		if !ok || a.id != lease.ID {
			continue
		}
		l.stop(lease.Job)
		if !a.ending {
			back = append(back, lease)
		}
	}
	l.reread(back)
}
