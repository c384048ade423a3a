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
	ended    bool   // gone is closed
	drained  bool   // drain is closed

	pollBackoff backoff // the poll loop's, under w.mu
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

// open opens a session, trying one engine after the other until one answers. It
// gives nil when ctx ends first. Only the first time a refusal is an error.
func (w *Worker) open(ctx context.Context, first bool) (*session, error) {
	wait := newBackoff()
	for {
		e := w.endpoint()
		sent := time.Now()
		rctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		res, err := e.workers.OpenSession(rctx, connect.NewRequest(&heddlev1.OpenSessionRequest{
			Worker: w.cfg.Name, Version: version, Slots: int32(w.cfg.Slots), Process: w.process,
		}))
		cancel()
		if err == nil {
			w.outage.answered(e)
			return w.opened(res.Msg, sent), nil
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		if code := connect.CodeOf(err); first && connect.IsWireError(err) &&
			(code == connect.CodeUnauthenticated || code == connect.CodePermissionDenied || code == connect.CodeInvalidArgument) {
			return nil, fromConnect("open session", err)
		}
		w.outage.failed(e, err)
		w.failed(e)
		if wait.wait(ctx, pause(err)) != nil {
			return nil, nil
		}
	}
}

func (w *Worker) opened(res *heddlev1.OpenSessionResponse, sent time.Time) *session {
	s := &session{
		w: w, id: res.GetSession(), epoch: res.GetEpoch(), ttl: ttlOf(res.GetTtl()), lastBeat: sent,
		gone: make(chan struct{}), drain: make(chan struct{}), kick: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		polls: make(map[uint64]*poll), held: make(map[leaseKey]*job), pollBackoff: *newBackoff(),
	}
	w.mu.Lock()
	w.session = s
	if addr := res.GetLeader(); addr != "" {
		w.at = w.c.leader(addr)
	}
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
	wait := backoff{first: 50 * time.Millisecond, most: time.Second}
	for ctx.Err() == nil {
		s.w.mu.Lock()
		if s.ended {
			s.w.mu.Unlock()
			return
		}
		// An answered heartbeat is at most twice this old: well within the TTL.
		hold, before := s.ttl/4, s.commands
		s.w.mu.Unlock()
		start := time.Now()
		if !s.beat(ctx, hold) {
			if wait.wait(ctx, 0) != nil {
				return
			}
			continue
		}
		wait.reset()
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

// beatGap is the least time between regular heartbeats.
const beatGap = 250 * time.Millisecond

// urgentLoop sends a heartbeat of its own when a poll broke, so that what was
// granted to it does not wait for the next regular one.
func (s *session) urgentLoop(ctx context.Context) {
	wait := backoff{first: 50 * time.Millisecond, most: time.Second}
	for {
		select {
		case <-s.kick:
		case <-ctx.Done():
			return
		}
		for !s.beat(ctx, 0) {
			if wait.wait(ctx, 0) != nil {
				return
			}
		}
		wait.reset()
	}
}

// beat sends one heartbeat and carries out its answer; false: there was none.
func (s *session) beat(ctx context.Context, hold time.Duration) bool {
	w := s.w
	w.mu.Lock()
	e := w.at
	req := s.snapshot()
	sent := time.Now()
	limit := hold + max(s.ttl/6, time.Second)
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
		w.outage.failed(e, err)
		w.failed(e)
		return false
	}
	w.outage.answered(e)
	w.mu.Lock()
	defer w.mu.Unlock()
	if sent.After(s.lastBeat) {
		s.lastBeat = sent
		s.signal() // polls may have waited for it
	}
	if res.Msg.GetTtl() != nil {
		s.ttl = ttlOf(res.Msg.GetTtl())
	}
	s.observe(res.Msg.GetEpoch())
	s.obey(res.Msg)
	return true
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
// leader that is none any more: they are closed, and a heartbeat says so at once
// (w.mu is held).
func (s *session) observe(epoch uint64) {
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
	wait := newBackoff()
	for {
		_, err := e.workers.CloseSession(ctx, connect.NewRequest(&heddlev1.CloseSessionRequest{Session: s.id, PollsClosed: closed}))
		switch {
		case err == nil || connect.CodeOf(err) == connect.CodeNotFound:
			return nil
		case !errors.Is(err, context.DeadlineExceeded) && (connect.CodeOf(err) == connect.CodeUnavailable || reset(err)) && ctx.Err() == nil:
			w.failed(e)
			e = w.endpoint()
			if wait.wait(ctx, 0) == nil {
				continue
			}
		}
		return fmt.Errorf("close session: %w", err)
	}
}
