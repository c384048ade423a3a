package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/dispatch"
)

// submitter writes workflows and hands what can start to the dispatcher, here or
// on the node that leads, which would find it by itself a second later.
type submitter struct{ e *Engine }

var _ api.Submitter = submitter{}

// Submit implements api.Submitter.
func (s submitter) Submit(ctx context.Context, subs []model.Submission) []model.Submitted {
	mark := s.e.node.Begin()
	done := s.e.store.Submit(ctx, subs)
	s.e.submitted(mark, done)
	return done
}

// SubmitStream implements api.Submitter.
func (s submitter) SubmitStream(ctx context.Context, header model.Submission, next func() (*model.Chunk, error)) (model.Submitted, error) {
	mark := s.e.node.Begin()
	done, err := s.e.store.SubmitStream(ctx, header, next)
	if err != nil {
		s.e.node.End(mark)
		return done, err
	}
	s.e.submitted(mark, []model.Submitted{done})
	return done, nil
}

// submitted hands the rows of committed submissions to the dispatcher.
func (e *Engine) submitted(mark raftsched.Mark, done []model.Submitted) {
	var ready []dispatch.Row
	var lanes []dispatch.LanePriority
	touched, cascades := false, false
	for i := range done {
		if done[i].Err != nil || !done[i].Created {
			continue
		}
		touched, cascades = true, cascades || done[i].Cascades
		if len(ready) == 0 {
			ready = done[i].Ready
		} else {
			ready = append(ready, done[i].Ready...)
		}
		lanes = append(lanes, done[i].Lanes...)
	}
	if !touched {
		e.node.End(mark)
		return
	}
	if epoch, _ := e.node.Leader(); epoch == 0 {
		e.hints.add(api.Hint{Lanes: append(lanes, streamsOf(ready)...), Cascades: cascades, Expires: firstExpiry(ready)})
		return
	}
	e.node.Done(raftsched.Done{Ready: ready, Mark: mark})
	e.leader.expect(ready)
	if len(lanes) > 0 {
		e.node.Hint(lanes)
	}
	if cascades {
		put(e.leader.cascades)
	}
}

// streamsOf names the lanes of rows, each once where they stand together.
func streamsOf(rows []dispatch.Row) []dispatch.LanePriority {
	var out []dispatch.LanePriority
	for i := range rows {
		lane := dispatch.LanePriority{Lane: rows[i].Lane, Priority: rows[i].Priority}
		if len(out) == 0 || out[len(out)-1] != lane {
			out = append(out, lane)
		}
	}
	return out
}

// inbox takes turns at importing and counts what was imported.
type inbox struct {
	turn     sync.Mutex
	imported atomic.Uint64
}

// importBatch takes submissions that users wrote in their own transactions. One
// import runs at a time: who comes second finds the rows of the first one
// committed.
func (e *Engine) importBatch(ctx context.Context) (n int, err error) {
	e.inbox.turn.Lock()
	defer e.inbox.turn.Unlock()
	mark := e.node.Begin()
	done, err := e.store.Import(ctx, e.cfg.limits().Decode, inboxLimit)
	if err != nil {
		e.node.End(mark)
		return 0, err
	}
	e.submitted(mark, done)
	for i := range done {
		if done[i].Err != nil {
			e.log.Warn("submission from the inbox refused", "workflow", done[i].ID.String(), "error", done[i].Err)
		}
	}
	e.inbox.imported.Add(uint64(len(done)))
	return len(done), nil
}

// importInbox imports after each notification, and now and then without one.
func (e *Engine) importInbox(ctx context.Context) {
	trouble := e.trouble("import of the inbox")
	for {
		n, err := e.importBatch(ctx)
		again, stop := trouble.handle(ctx, err)
		switch {
		case stop:
			return
		case again || n >= inboxLimit:
		case !wait(ctx, e.leader.inbox, inboxPoll):
			return
		}
	}
}

// listenInbox waits for notifications; its connection may break.
func (e *Engine) listenInbox(ctx context.Context) {
	pause := newBackoff(200*time.Millisecond, 10*time.Second)
	for {
		begin := time.Now()
		err := e.store.Listen(ctx, func() { put(e.leader.inbox) })
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > time.Minute {
			pause.reset()
		}
		if pause.tries() == 0 {
			e.log.Warn("listening for submissions broke off, begun again", "error", err)
		}
		if !pause.sleep(ctx.Done()) {
			return
		}
		put(e.leader.inbox) // what came meanwhile
	}
}

// importOnce looks into the inbox before somebody is told that a workflow does
// not exist. It reports whether anything was imported since the count that was
// read before they looked, by whomever.
func (e *Engine) importOnce(ctx context.Context, before uint64) bool {
	_, err := e.importBatch(ctx)
	return err == nil && e.inbox.imported.Load() != before
}
