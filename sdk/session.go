package heddle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/signpost"
)

// version is told to the engine at the start of a session.
const version = "0.1"

// session is the worker's stay with the engine. Its rules are those of numbered
// polls and heartbeat snapshots: a lease is held from the moment the answer of
// its poll was taken in, in one step with closing that poll, until the report of
// its end is acknowledged. What the engine granted to a closed poll and does not
// find in a heartbeat never arrived, and is given to someone else.
//
// The fields below mu's line are guarded by the worker's mutex.
type session struct {
	w     *Worker
	id    uint64
	loops sync.WaitGroup
	gone  chan struct{} // closed: the engine does not know the session any more
	drain chan struct{} // closed: the engine wants the worker to stop
	kick  chan struct{} // a heartbeat is wanted at once
	wake  chan struct{} // slots have come free, or polls may start again

	// guarded by w.mu
	ttl      time.Duration
	epoch    uint64
	lastBeat time.Time // when the last answered heartbeat was sent
	lastPoll uint64    // number of the last poll
	polls    map[uint64]*poll
	polled   time.Time // when the last poll was sent
	resume   time.Time // no poll before
	held     map[leaseKey]*job
	commands uint64 // newest batch carried out
	mute     bool   // the newest heartbeat was not answered
	ended    bool   // gone is closed
	drained  bool   // drain is closed

	pollTries attempts  // the poll loop's
	broke     time.Time // when a poll broke last
}

// leaseKey names a lease.
type leaseKey struct {
	workflow [16]byte
	node     int32
	lease    uint64
}

func keyOf(workflow []byte, node int32, lease uint64) leaseKey {
	k := leaseKey{node: node, lease: lease}
	copy(k.workflow[:], workflow)
	return k
}

// openLimit is how long one call that opens a session may take. A node without a
// leader keeps it for two seconds or three.
const openLimit = 5 * time.Second

// open opens a session, trying one engine after the other until one answers. It
// gives nil when ctx ends first. Only the first time a refusal is an error.
func (w *Worker) open(ctx context.Context, first bool) (*session, error) {
	tries := newAttempts()
	for {
		e := w.endpoint()
		sent := time.Now()
		rctx, cancel := context.WithTimeout(ctx, openLimit)
		res, err := e.workers.OpenSession(rctx, connect.NewRequest(&heddlev1.OpenSessionRequest{
			Worker: w.cfg.Name, Version: version, Slots: int32(w.cfg.Slots), Process: w.process,
		}))
		cancel()
		if err == nil {
			if leader := res.Msg.GetLeader(); leader != "" {
				res.Header().Set(signpost.Leader, leader)
			}
			w.answered(e, res.Header())
			return w.opened(res.Msg, sent), nil
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		if code := connect.CodeOf(err); first && connect.IsWireError(err) &&
			(code == connect.CodeUnauthenticated || code == connect.CodePermissionDenied || code == connect.CodeInvalidArgument) {
			return nil, fromConnect("open session", err)
		}
		w.failed(e, err)
		d := tries.pause(w.c.engines.number(), err)
		w.outage.failed(e, err, d)
		if sleep(ctx, d) != nil {
			return nil, nil
		}
	}
}

func (w *Worker) opened(res *heddlev1.OpenSessionResponse, sent time.Time) *session {
	s := &session{
		w: w, id: res.GetSession(), epoch: res.GetEpoch(), ttl: ttlOf(res.GetTtl()), lastBeat: sent,
		gone: make(chan struct{}), drain: make(chan struct{}), kick: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		polls: make(map[uint64]*poll), held: make(map[leaseKey]*job), pollTries: *newAttempts(),
	}
	w.mu.Lock()
	w.session = s
	w.mu.Unlock()
	w.log.Info("session opened", "session", s.id, "worker", w.cfg.Name, "epoch", s.epoch)
	return s
}

// defaultTTL stands for one the engine did not tell.
const defaultTTL = 15 * time.Second

func ttlOf(d *durationpb.Duration) time.Duration {
	if ttl := d.AsDuration(); ttl > 0 {
		return ttl
	}
	return defaultTTL
}

// beatLoop keeps one heartbeat waiting for commands at the engine.
func (s *session) beatLoop(ctx context.Context) {
	tries := beatAttempts()
	for ctx.Err() == nil {
		s.w.mu.Lock()
		if s.ended {
			s.w.mu.Unlock()
			return
		}
		// An answered heartbeat is at most twice this old: well within the TTL.
		hold, before := s.ttl/4, s.commands
		if s.mute {
			hold = 0 // who answers first tells what is new
		}
		s.w.mu.Unlock()
		start := time.Now()
		if !s.beat(ctx, hold, tries) {
			continue
		}
		tries.reset()
		s.w.mu.Lock()
		news := s.commands != before
		s.w.mu.Unlock()
		// An engine that has nothing new and does not wait either, as while it
		// drains the worker, is not asked all the time.
		if !news && time.Since(start) < beatGap && sleep(ctx, beatGap) != nil {
			return
		}
	}
}

// beatAttempts pace heartbeats, on which everything else waits.
func beatAttempts() *attempts {
	return &attempts{backoff: backoff{first: 50 * time.Millisecond, most: time.Second}}
}

// beatGap is the least time between regular heartbeats.
const beatGap = 250 * time.Millisecond

// urgentLoop sends a heartbeat of its own when a poll broke, so that what was
// granted to it does not wait for the next regular one.
func (s *session) urgentLoop(ctx context.Context) {
	tries := beatAttempts()
	for {
		select {
		case <-s.kick:
		case <-ctx.Done():
			return
		}
		for !s.beat(ctx, 0, tries) {
			if ctx.Err() != nil {
				return
			}
		}
		tries.reset()
	}
}

// overdue is how long an answer may take beyond the wait that was asked for: an
// engine that hangs is left long before the session's time is up.
func overdue(ttl time.Duration) time.Duration {
	return min(max(ttl/6, time.Second), 1500*time.Millisecond)
}

// beat sends one heartbeat and carries out its answer; false: there was none, and
// the next one may be sent now.
func (s *session) beat(ctx context.Context, hold time.Duration, tries *attempts) bool {
	w := s.w
	w.mu.Lock()
	e := w.at
	req := s.snapshot()
	sent := time.Now()
	limit := hold + overdue(s.ttl)
	w.mu.Unlock()
	if hold > 0 {
		req.Wait = durationpb.New(hold)
	}
	rctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	res, err := e.workers.Heartbeat(rctx, connect.NewRequest(req))
	if err != nil {
		if ctx.Err() != nil {
			return false
		}
		if connect.IsWireError(err) && connect.CodeOf(err) == connect.CodeNotFound {
			w.mu.Lock()
			s.end()
			w.mu.Unlock()
			return true
		}
		w.failed(e, err)
		d := tries.pause(w.c.engines.number(), err)
		w.outage.failed(e, err, d)
		w.mu.Lock()
		s.mute = true
		w.mu.Unlock()
		_ = sleep(ctx, d)
		return false
	}
	s.heard(e, sent, res.Msg)
	if leader := w.answered(e, res.Header()); leader != nil {
		s.probe(ctx, leader, e)
	}
	return true
}

// heard carries out the answer of a heartbeat.
func (s *session) heard(e *endpoint, sent time.Time, res *heddlev1.HeartbeatResponse) {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.mute {
		s.mend()
	}
	if sent.After(s.lastBeat) {
		s.lastBeat = sent
		s.signal() // polls may have waited for it
	}
	if res.GetTtl() != nil {
		s.ttl = ttlOf(res.GetTtl())
	}
	s.observe(res.GetEpoch(), e)
	s.obey(res)
}

// probe turns to a leader that could not be reached before, if it can be now.
// Until then another engine passes the calls on, and they must not suffer from
// the attempt. A heartbeat does no harm, also beside others.
func (s *session) probe(ctx context.Context, leader, now *endpoint) {
	w := s.w
	w.mu.Lock()
	req := s.snapshot()
	limit := overdue(s.ttl)
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if _, err := leader.workers.Heartbeat(ctx, connect.NewRequest(req)); err != nil {
		leader.shun()
		return
	}
	leader.reached()
	w.turn(now, leader)
}

// mend has everything go on that pauses because engines could not be reached
// (w.mu is held).
func (s *session) mend() {
	s.mute = false
	close(s.w.mended)
	s.w.mended = make(chan struct{})
	s.pollTries.reset()
	s.resume = time.Time{}
	s.signal()
}

// snapshot is what the worker holds at this instant (w.mu is held).
func (s *session) snapshot() *heddlev1.HeartbeatRequest {
	req := &heddlev1.HeartbeatRequest{Session: s.id, PollsClosed: s.pollsClosed(), CommandsSeen: s.commands}
	if len(s.held) > 0 {
		req.Held = make([]*heddlev1.HeldLease, 0, len(s.held))
		for _, j := range s.held {
			req.Held = append(req.Held, &heddlev1.HeldLease{WorkflowId: j.Lease.GetWorkflowId(), Node: j.Lease.GetNode(), Lease: j.Lease.GetLease()})
		}
	}
	return req
}

// pollsClosed: all polls up to this number are closed (w.mu is held).
func (s *session) pollsClosed() uint64 {
	closed := s.lastPoll
	for n := range s.polls {
		closed = min(closed, n-1)
	}
	return closed
}

// observe takes note of an epoch. Polls opened under a lower one may wait at a
// leader that is none any more: they are closed, and a heartbeat says so at once.
// Reports on their way to another engine than the one that told of it are sent
// again (w.mu is held).
func (s *session) observe(epoch uint64, from *endpoint) {
	if epoch <= s.epoch {
		return
	}
	s.epoch = epoch
	stale := false
	for _, p := range s.polls {
		if p.epoch < epoch {
			s.closePoll(p)
			stale = true
		}
	}
	if stale {
		s.beatNow()
	}
	for f := range s.w.reports.under {
		if f.epoch < epoch && f.to != from {
			f.cancel()
		}
	}
	s.signal()
}

// obey carries out the commands of a heartbeat's answer (w.mu is held).
func (s *session) obey(res *heddlev1.HeartbeatResponse) {
	for _, l := range res.GetCancel() {
		if j := s.held[keyOf(l.GetWorkflowId(), l.GetNode(), l.GetLease())]; j != nil && j.running {
			j.cancel(ErrCancelled)
		}
	}
	for _, l := range res.GetLost() {
		if j := s.held[keyOf(l.GetWorkflowId(), l.GetNode(), l.GetLease())]; j != nil {
			s.lose(j)
		}
	}
	s.commands = max(s.commands, res.GetCommands())
	if res.GetDrain() && !s.drained {
		s.drained = true
		close(s.drain)
	}
	if res.GetReopen() {
		s.end()
	}
}

// lose gives a lease up that the engine does not know any more (w.mu is held). A
// report that is on its way is answered as stale by itself.
func (s *session) lose(j *job) {
	delete(s.held, j.key)
	if j.running {
		j.cancel(ErrLeaseLost)
	}
}

// end marks the session as gone (w.mu is held).
func (s *session) end() {
	if !s.ended {
		s.ended = true
		close(s.gone)
	}
}

// abandon closes the polls of a session that is gone and tells its handlers that
// their leases are lost.
func (s *session) abandon() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, p := range s.polls {
		s.closePoll(p)
	}
	for _, j := range s.held {
		s.lose(j)
	}
}

// beatNow asks for a heartbeat at once.
func (s *session) beatNow() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// signal wakes the poll loop.
func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// close ends the session at the engine.
func (s *session) close(ctx context.Context) error {
	w := s.w
	w.mu.Lock()
	e, closed, ended := w.at, s.pollsClosed(), s.ended
	w.mu.Unlock()
	if ended {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tries := newAttempts()
	for {
		_, err := e.workers.CloseSession(ctx, connect.NewRequest(&heddlev1.CloseSessionRequest{Session: s.id, PollsClosed: closed}))
		switch {
		case err == nil || connect.CodeOf(err) == connect.CodeNotFound:
			return nil
		case !errors.Is(err, context.DeadlineExceeded) && (connect.CodeOf(err) == connect.CodeUnavailable || reset(err)) && ctx.Err() == nil:
			w.failed(e, err)
			e = w.endpoint()
			if sleep(ctx, tries.pause(w.c.engines.number(), nil)) == nil {
				continue
			}
		}
		return fmt.Errorf("close session: %w", err)
	}
}
