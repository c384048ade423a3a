package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/internal/process"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// scheduler gives the API its view of the node.
type scheduler struct{ e *Engine }

var _ api.Scheduler = scheduler{}

// apiError gives the scheduler's errors the names the API branches on.
func apiError(err error) error {
	for _, known := range []struct{ theirs, ours error }{
		{raftsched.ErrNotLeader, api.ErrNotLeader},
		{raftsched.ErrUnknownSession, api.ErrUnknownSession},
		{raftsched.ErrStaleLease, api.ErrStaleLease},
	} {
		switch {
		case !errors.Is(err, known.theirs):
		case err.Error() == known.ours.Error():
			return known.ours // nothing more is said: not twice
		default:
			return fmt.Errorf("%w: %w", known.ours, err)
		}
	}
	return err
}

// OpenSession implements api.Scheduler. A worker in this very process is noted
// as one: it dies with the engine.
func (s scheduler) OpenSession(ctx context.Context, w api.Worker) (uint64, uint64, error) {
	if strings.HasPrefix(w.Process, process.ID()) {
		w.Process = inProcess + s.e.cfg.NodeID + ":" + w.Process
	}
	session, epoch, err := s.e.node.OpenSession(ctx, raftsched.Worker{
		Name: w.Name, Process: w.Process, Version: w.Version, Slots: w.Slots, At: s.e.clock.now(),
	})
	if err == nil {
		s.e.sessions.put(session, w.Name)
	}
	return session, epoch, apiError(err)
}

// CloseSession implements api.Scheduler.
func (s scheduler) CloseSession(ctx context.Context, session, pollsClosed uint64) error {
	return apiError(s.e.node.CloseSession(ctx, session, pollsClosed))
}

// Poll implements api.Scheduler. What a report will need is noted before the
// worker learns of its jobs.
func (s scheduler) Poll(ctx context.Context, req api.PollRequest) ([]api.Grant, uint64, error) {
	queues := make([]raftsched.Queue, len(req.Queues))
	for i, q := range req.Queues {
		queues[i] = raftsched.Queue(q)
	}
	grants, epoch, err := s.e.node.Poll(ctx, raftsched.PollRequest{
		Session: req.Session, Poll: req.Poll, Max: req.Max, Queues: queues, Kinds: req.Kinds, Wait: req.Wait,
	})
	s.e.meters.granted.Add(float64(len(grants)))
	s.e.completer.held.granted(grants, time.Now())
	out := make([]api.Grant, len(grants))
	touched := make([]fsm.WorkflowID, len(grants))
	for i, g := range grants {
		out[i] = api.Grant(g)
		touched[i] = g.Lease.Job.Workflow
	}
	s.e.hub.tell(touched, nil)
	s.e.tally.started(s.e.clock.now(), len(grants))
	return out, epoch, apiError(err)
}

// Heartbeat implements api.Scheduler.
func (s scheduler) Heartbeat(ctx context.Context, hb api.Heartbeat) (api.Commands, error) {
	held := make([]raftsched.HeldLease, len(hb.Held))
	for i, h := range hb.Held {
		held[i] = raftsched.HeldLease(h)
	}
	c, err := s.e.node.Heartbeat(ctx, raftsched.Heartbeat{
		Session: hb.Session, PollsClosed: hb.PollsClosed, Held: held, CommandsSeen: hb.CommandsSeen, Wait: hb.Wait,
	})
	out := api.Commands{Epoch: c.Epoch, Number: c.Number, Drain: c.Drain}
	for _, l := range c.Cancel {
		out.Cancel = append(out.Cancel, api.HeldLease(l))
	}
	for _, l := range c.Lost {
		out.Lost = append(out.Lost, api.HeldLease(l))
	}
	return out, apiError(err)
}

// Leader implements api.Scheduler.
func (s scheduler) Leader() (uint64, bool) { return s.e.node.Leader() }

// Ready implements api.Scheduler.
func (s scheduler) Ready() bool { return s.e.leadership.known() }

// Now implements api.Scheduler.
func (s scheduler) Now() int64 { return s.e.clock.now() }

// Leased implements api.Scheduler.
func (s scheduler) Leased(id fsm.WorkflowID) []fsm.Lease { return s.e.node.Leased(id) }

// LeaseOf implements api.Scheduler.
func (s scheduler) LeaseOf(job fsm.JobID) (fsm.Lease, string, bool) { return s.e.node.LeaseOf(job) }

// Running implements api.Scheduler.
func (s scheduler) Running() map[string]int {
	out := make(map[string]int)
	for id, n := range s.e.node.Running() {
		if r, ok := s.e.routes.get(s.e, id); ok {
			out[r.Queue] += n
		}
	}
	return out
}

// Serving implements api.Scheduler.
func (s scheduler) Serving(queue, kind string) api.Serving {
	var out api.Serving
	for _, info := range s.e.node.Sessions() {
		if info.Closing || !contains(info.Queues, queue) {
			continue
		}
		out.Queue = true
		if contains(info.Kinds, kind) {
			out.Kind = true
			out.Free = out.Free || info.Slots > 0
		}
	}
	return out
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// routeNames caches the dictionary of (queue, kind). Safe for concurrent use.
type routeNames struct {
	mu   sync.Mutex
	byID map[int32]dispatch.Route
}

// get finds a route; the dictionary is read again when it is unknown.
func (r *routeNames) get(e *Engine, id int32) (dispatch.Route, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if route, ok := r.byID[id]; ok {
		return route, true
	}
	ctx, cancel := context.WithTimeout(e.life, 5*time.Second)
	defer cancel()
	routes, err := e.store.Routes(ctx)
	if err != nil {
		return dispatch.Route{}, false
	}
	r.byID = make(map[int32]dispatch.Route, len(routes))
	for _, route := range routes {
		r.byID[route.ID] = route
	}
	route, ok := r.byID[id]
	return route, ok
}

// sessionNames remembers the worker of each session. Safe for concurrent use.
type sessionNames struct {
	mu     sync.RWMutex
	worker map[uint64]string
}

func (s *sessionNames) put(session uint64, worker string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.worker == nil {
		s.worker = make(map[uint64]string)
	}
	s.worker[session] = worker
}

// workerOf names the worker of a session; sessions opened before this start are
// asked of the node.
func (e *Engine) workerOf(session uint64) string {
	e.sessions.mu.RLock()
	worker, ok := e.sessions.worker[session]
	e.sessions.mu.RUnlock()
	if ok {
		return worker
	}
	e.renewSessions()
	e.sessions.mu.RLock()
	defer e.sessions.mu.RUnlock()
	if worker, ok = e.sessions.worker[session]; !ok {
		return "unknown"
	}
	return worker
}

// renewSessions reads the names of the sessions there are; others are dropped.
func (e *Engine) renewSessions() {
	known := make(map[uint64]string)
	for _, info := range e.node.Sessions() {
		known[info.ID] = info.Worker
	}
	e.sessions.mu.Lock()
	defer e.sessions.mu.Unlock()
	e.sessions.worker = known
}
