package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/engine/store"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// commandTime bounds a command's transaction: its caller's hanging up must not
// leave a COMMIT in doubt.
const commandTime = 30 * time.Second

type markID = raftsched.Mark

// commander carries out what people ask for. Commands run on the leader: the
// workflow is held, so that nothing of it is granted meanwhile, what is leased
// is told, and the rest is changed in one fenced transaction.
type commander struct{ e *Engine }

var _ api.Commander = commander{}

func done(mark markID, eff *model.Effects) raftsched.Done {
	return raftsched.Done{Ready: eff.Ready, Mark: mark, Gone: eff.Gone}
}

// command runs one fenced transaction under a hold of the workflow.
func (e *Engine) command(ctx context.Context, id fsm.WorkflowID, run func(ctx context.Context, reign model.Reign, leased []int32) (model.Effects, error)) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandTime)
	defer cancel()
	before := e.inbox.imported.Load()
	err := e.tryCommand(ctx, id, run)
	if errors.Is(err, model.ErrNotFound) && e.importOnce(ctx, before) {
		err = e.tryCommand(ctx, id, run)
	}
	return err
}

func (e *Engine) tryCommand(ctx context.Context, id fsm.WorkflowID, run func(ctx context.Context, reign model.Reign, leased []int32) (model.Effects, error)) error {
	reign, leading := e.reign()
	if !leading {
		return api.ErrNotLeader
	}
	release, leases, err := e.node.HoldWorkflow(ctx, id)
	if err != nil {
		return apiError(err)
	}
	defer release()
	mark := e.node.Begin()
	eff, err := run(ctx, reign, nodesOf(leases))
	e.settle(mark, &eff, err)
	return e.commandError(reign, err)
}

// commandError gives a failed transaction its name for the API.
func (e *Engine) commandError(reign model.Reign, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrFenced):
		e.node.Fenced(reign.Epoch)
		return fmt.Errorf("%w: %w", api.ErrNotLeader, err)
	case errors.Is(err, model.ErrDoubt):
		// It may commit yet, and what it changes would be dispatched as it was.
		// The next reign begins when its fate is known, and knows nothing else.
		e.node.Fenced(reign.Epoch)
		return fmt.Errorf("%w: it may or may not have been done: %w", api.ErrUnavailable, err)
	}
	return err
}

// Append implements api.Commander.
func (c commander) Append(ctx context.Context, req api.Append) (first dag.ID, n int32, created bool, err error) {
	e := c.e
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandTime)
	defer cancel()
	reign, leading := e.reign()
	if !leading {
		return 0, 0, false, api.ErrNotLeader
	}
	ask := store.AppendRequest{Reign: &reign, ID: req.ID, Batch: req.Batch, Chunk: req.Chunk, Key: req.Key}
	if req.Lease != nil {
		admissions, leases := e.node.Admit(req.Lease.Session, []raftsched.HeldLease{{Job: req.Lease.Job, ID: req.Lease.ID}})
		switch admissions[0] {
		case raftsched.Admitted:
			ask.Lease = &leases[0]
		case raftsched.Stale:
			return 0, 0, false, api.ErrStaleLease
		default:
			return 0, 0, false, api.ErrNotLeader
		}
	}
	try := func() error {
		mark := e.node.Begin()
		var eff model.Effects
		first, n, created, eff, err = e.store.Append(ctx, ask)
		e.settle(mark, &eff, err)
		return e.commandError(reign, err)
	}
	before := e.inbox.imported.Load()
	err = try()
	if errors.Is(err, model.ErrNotFound) && e.importOnce(ctx, before) {
		err = try()
	}
	return first, n, created, err
}

// Cancel implements api.Commander.
func (c commander) Cancel(ctx context.Context, id fsm.WorkflowID, node dag.ID, force bool) error {
	return c.e.command(ctx, id, func(ctx context.Context, reign model.Reign, leased []int32) (model.Effects, error) {
		return c.e.store.Cancel(ctx, reign, id, node, force, leased)
	})
}

// Retry implements api.Commander.
func (c commander) Retry(ctx context.Context, id fsm.WorkflowID, node dag.ID, downstream bool) (jobs int, err error) {
	err = c.e.command(ctx, id, func(ctx context.Context, reign model.Reign, leased []int32) (eff model.Effects, err error) {
		jobs, eff, err = c.e.store.Retry(ctx, reign, id, node, downstream, leased)
		return eff, err
	})
	return jobs, err
}

// Dismiss implements api.Commander.
func (c commander) Dismiss(ctx context.Context, id fsm.WorkflowID, node dag.ID, result []byte, note string) error {
	return c.e.command(ctx, id, func(ctx context.Context, reign model.Reign, _ []int32) (model.Effects, error) {
		return c.e.store.Dismiss(ctx, reign, id, node, result, note)
	})
}

// GiveUp implements api.Commander.
func (c commander) GiveUp(ctx context.Context, id fsm.WorkflowID, node dag.ID) error {
	return c.e.command(ctx, id, func(ctx context.Context, reign model.Reign, _ []int32) (model.Effects, error) {
		return c.e.store.GiveUp(ctx, reign, id, node)
	})
}

// Seal implements api.Commander.
func (c commander) Seal(ctx context.Context, id fsm.WorkflowID, node dag.ID) error {
	return c.e.command(ctx, id, func(ctx context.Context, reign model.Reign, _ []int32) (model.Effects, error) {
		return c.e.store.Seal(ctx, reign, id, node)
	})
}

// SetPaused implements api.Commander.
func (c commander) SetPaused(ctx context.Context, id fsm.WorkflowID, paused bool) error {
	return c.e.command(ctx, id, func(ctx context.Context, reign model.Reign, _ []int32) (model.Effects, error) {
		eff, err := c.e.store.SetPaused(ctx, reign, id, paused)
		if err == nil {
			c.e.node.SetWorkflowPaused(id, paused)
		}
		return eff, err
	})
}

// SetQueuePaused implements api.Commander.
func (c commander) SetQueuePaused(ctx context.Context, queue string, paused bool) error {
	if _, leading := c.e.reign(); !leading {
		return api.ErrNotLeader
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandTime)
	defer cancel()
	if err := c.e.store.SetQueuePaused(ctx, queue, paused); err != nil {
		return err
	}
	c.e.node.SetQueuePaused(queue, paused)
	return nil
}

// RunNow implements api.Commander.
func (c commander) RunNow(ctx context.Context, job fsm.JobID) error {
	return c.e.command(ctx, job.Workflow, func(ctx context.Context, reign model.Reign, leased []int32) (model.Effects, error) {
		return c.e.store.RunNow(ctx, reign, job, leased)
	})
}

// Drain implements api.Commander. It is noted in the audit before it is done:
// it needs no transaction that could carry both.
func (c commander) Drain(ctx context.Context, session uint64) error {
	if _, leading := c.e.reign(); !leading {
		return api.ErrNotLeader
	}
	if !slices.ContainsFunc(c.e.node.Sessions(), func(s raftsched.SessionInfo) bool { return s.ID == session && !s.Closing }) {
		return fmt.Errorf("%w: session %d", model.ErrNotFound, session)
	}
	if err := c.e.store.Audit(ctx, "drain", fmt.Sprintf("session %d, worker %s", session, c.e.workerOf(session))); err != nil {
		return err
	}
	if !c.e.node.Drain(session) {
		return fmt.Errorf("%w: session %d", model.ErrNotFound, session)
	}
	return nil
}

// Delete implements api.Commander.
func (c commander) Delete(ctx context.Context, id fsm.WorkflowID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandTime)
	defer cancel()
	err := c.e.store.Delete(ctx, id)
	if err == nil {
		c.e.hub.tell([]fsm.WorkflowID{id}, nil)
	}
	return err
}
