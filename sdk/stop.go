package heddle

import (
	"context"
	"fmt"
	"time"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// reportsAtStop is how long a stopping worker waits for its last reports to be
// acknowledged.
const reportsAtStop = 10 * time.Second

// stop ends the worker gracefully. A drain waits for handlers without a limit
// until ctx ends too.
func (w *Worker) stop(ctx context.Context, s *session, drain bool) error {
	w.mu.Lock()
	w.stopping = true
	for _, p := range s.polls {
		s.closePoll(p)
	}
	s.beatNow()
	w.mu.Unlock()

	stuck := w.stopHandlers(ctx, s, drain)

	select {
	case <-w.whenReported():
	case <-time.After(reportsAtStop):
		w.log.Warn("worker stopped with reports that are not acknowledged", "session", s.id)
	}
	if err := s.close(context.WithoutCancel(ctx)); err != nil {
		w.log.Warn("session not closed", "session", s.id, "error", err)
	}
	w.log.Info("worker stopped", "session", s.id)
	if stuck > 0 {
		return fmt.Errorf("worker: %d handlers did not return within %v of being told to stop: %w", stuck, w.cfg.StopGrace, ErrShutdown)
	}
	return nil
}

// finishWithout stops a worker that has no session: handlers of a lost one may
// still run.
func (w *Worker) finishWithout(ctx context.Context) error {
	w.mu.Lock()
	w.stopping = true
	w.mu.Unlock()
	select {
	case <-w.whenIdle():
		return nil
	case <-time.After(w.cfg.StopGrace):
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Errorf("worker: %d handlers did not return within %v of being told to stop: %w", w.running, w.cfg.StopGrace, ErrShutdown)
}

// stopHandlers waits for the running handlers, then cancels them, then gives
// their jobs back; it says how many did not return.
func (w *Worker) stopHandlers(ctx context.Context, s *session, drain bool) (stuck int) {
	idle := w.whenIdle()
	gone := s.gone
	asked := ctx.Done()
	var late <-chan time.Time
	if !drain {
		late, asked = time.After(max(w.cfg.StopTimeout, 0)), nil
	}
	for waiting := true; waiting; {
		select {
		case <-idle:
			return 0
		case <-gone:
			gone = nil
			s.abandon()
		case <-asked:
			late, asked = time.After(max(w.cfg.StopTimeout, 0)), nil
		case <-late:
			waiting = false
		}
	}
	w.mu.Lock()
	for _, j := range s.held {
		if j.running {
			j.cancel(ErrShutdown)
		}
	}
	w.mu.Unlock()
	select {
	case <-idle:
		return 0
	case <-time.After(w.cfg.StopGrace):
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	stuck = w.running // also of handlers whose session was lost
	for _, j := range s.held {
		if !j.running {
			continue
		}
		w.release(j)
		w.put(j, &heddlev1.AttemptReport{
			WorkflowId: j.Lease.GetWorkflowId(), Node: j.Lease.GetNode(), Lease: j.Lease.GetLease(),
			Ending: heddlev1.Ending_ENDING_RELEASED, Error: errGivenUp.Error(),
		})
	}
	return stuck
}
