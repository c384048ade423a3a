package heddle

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

const (
	// pollsAtOnce is how many polls wait at the engine: while the answer of one
	// is taken in, the other one can be answered.
	pollsAtOnce = 2
	// pollWait is how long a poll waits for its first job.
	pollWait = 30 * time.Second
	// pollGap is the least time between two polls, unless a good part of the
	// slots is free: slots come free in bursts, and one poll takes a burst.
	pollGap = time.Millisecond
	// pollMax is the most jobs one poll may ask for.
	pollMax = 10_000
)

// poll is one poll that waits at the engine.
type poll struct {
	number uint64
	epoch  uint64 // known when it was sent
	max    int
	sent   time.Time
	cancel context.CancelFunc
}

// closePoll closes a poll: its answer, if there is one, will be dropped (w.mu is
// held).
func (s *session) closePoll(p *poll) {
	delete(s.polls, p.number)
	p.cancel()
}

// pollLoop keeps polls for as many jobs as there are free slots.
func (s *session) pollLoop(ctx context.Context) {
	for {
		s.w.mu.Lock()
		n, wait := s.wanted(time.Now())
		var (
			p    *poll
			pctx context.Context
			at   *endpoint
		)
		if n > 0 {
			s.lastPoll++
			s.polled = time.Now()
			p = &poll{number: s.lastPoll, epoch: s.epoch, max: n, sent: s.polled}
			pctx, p.cancel = context.WithTimeout(ctx, pollWait+15*time.Second)
			s.polls[p.number] = p
			at = s.w.at
		}
		s.w.mu.Unlock()
		if p != nil {
			s.loops.Go(func() { s.poll(ctx, pctx, p, at) })
			continue
		}
		if wait > 0 {
			select {
			case <-time.After(wait):
			case <-s.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}

// wanted says for how many jobs the next poll should ask; with none, after what
// time to look again, zero: when something changes (w.mu is held).
func (s *session) wanted(now time.Time) (n int, wait time.Duration) {
	w := s.w
	if w.stopping || s.ended || s.drained || len(s.polls) >= pollsAtOnce || w.reports.full(w.cfg.Slots) {
		return 0, 0
	}
	free := w.cfg.Slots - w.running
	for _, p := range s.polls {
		free -= p.max
	}
	if free <= 0 || s.expired(now) {
		return 0, 0
	}
	if d := s.resume.Sub(now); d > 0 {
		return 0, d
	}
	if d := s.polled.Add(pollGap).Sub(now); d > 0 && free < w.cfg.Slots/4 {
		return 0, d
	}
	if len(s.polls) == 0 && free > 1 {
		free = (free + 1) / 2 // the other half is for the second poll
	}
	return min(free, pollMax), 0
}

// expired: the last answered heartbeat was sent more than a TTL ago, so the
// engine may have closed the session; nothing is started (w.mu is held).
func (s *session) expired(now time.Time) bool { return now.Sub(s.lastBeat) > s.ttl }

// poll waits for jobs and starts them.
func (s *session) poll(ctx, pctx context.Context, p *poll, at *endpoint) {
	defer p.cancel()
	w := s.w
	res, err := at.workers.Poll(pctx, connect.NewRequest(&heddlev1.PollRequest{
		Session: s.id, Poll: p.number, MaxJobs: int32(p.max), Queues: w.queues, Kinds: w.kinds, Wait: durationpb.New(pollWait),
	}))
	if err != nil {
		s.pollFailed(ctx, p, at, err)
		return
	}
	w.answered(at, res.Header())
	for _, j := range s.take(p, res.Msg, at) {
		go j.run()
	}
}

// take takes the answer of a poll in: the poll closes and its leases are held in
// the same step. The answer of a closed poll is dropped.
func (s *session) take(p *poll, res *heddlev1.PollResponse, from *endpoint) []*job {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	var jobs []*job
	switch {
	case s.polls[p.number] != p || s.ended || s.expired(now) || w.stopping:
		if s.polls[p.number] == p {
			delete(s.polls, p.number)
		}
		if len(res.GetLeases()) > 0 {
			s.beatNow() // says that the poll is closed and its jobs did not start
		}
	default:
		delete(s.polls, p.number)
		s.pollTries.reset()
		jobs = make([]*job, 0, len(res.GetLeases()))
		for _, l := range res.GetLeases() {
			j := newJob(s, l, now)
			if _, twice := s.held[j.key]; twice {
				continue
			}
			s.held[j.key] = j
			jobs = append(jobs, j)
		}
		w.running += len(jobs)
	}
	s.observe(res.GetEpoch(), from)
	s.signal()
	return jobs
}

// pollFailed closes a poll that broke, and those before it: only a closed prefix
// can be told, and what was granted to the broken one must not wait for them.
func (s *session) pollFailed(ctx context.Context, p *poll, at *endpoint, err error) {
	w := s.w
	w.mu.Lock()
	if s.polls[p.number] != p { // closed by this side
		w.mu.Unlock()
		return
	}
	for n, q := range s.polls {
		if n <= p.number {
			s.closePoll(q)
		}
	}
	var d time.Duration
	if !p.sent.Before(s.broke) { // else it broke with the one before
		d = s.pollTries.pause(w.c.engines.number(), err)
		s.broke = time.Now()
		s.resume = s.broke.Add(d)
	}
	s.beatNow()
	w.mu.Unlock()
	if ctx.Err() == nil {
		w.outage.failed(at, err, d)
		w.failed(at, err)
	}
	s.signal() // when it is known where to
}
