package engine

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/engine/store"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// flusher writes the ends of attempts of its share of the workflows, a group in
// a transaction, one transaction at a time.
type flusher struct {
	c    *completer
	wake chan struct{}

	mu      sync.Mutex
	pending []item
	buffer  []item // where pending begins again when it is empty
}

// push appends items to the next group.
func (f *flusher) push(items []item) {
	f.mu.Lock()
	room, size := max(pendingLimit-len(f.pending), 0), cap(f.pending)
	for i := range items {
		// Only reports can be refused: nobody else would come again.
		if items[i].call == nil || room > 0 {
			f.pending = append(f.pending, items[i])
			room--
			continue
		}
		items[i].call.answer(items[i].index, again("too many reports wait"))
	}
	if cap(f.pending) != size { // it has moved; a huge one is not kept
		if f.buffer = f.pending[:0]; cap(f.buffer) > 4*flushLimit {
			f.buffer = nil
		}
	}
	f.mu.Unlock()
	f.poke()
}

func (f *flusher) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *flusher) run() {
	var group []item
	seen := make(map[fsm.JobID]struct{}, flushLimit)
	for {
		select {
		case <-f.wake:
		case <-f.c.closed:
			// What came before the end is still written.
			select {
			case <-f.wake:
			default:
				return
			}
		case <-f.c.ctx.Done():
			return
		}
		for {
			group = f.gather(group[:0], seen)
			if len(group) == 0 {
				break
			}
			f.write(group)
			clear(group) // let go of results
			if f.c.ctx.Err() != nil {
				return
			}
		}
	}
}

// gather takes the next group: each job at most once, so that a report sent
// twice meets its own fact in a later transaction. What nobody waits for any
// more is left out.
func (f *flusher) gather(group []item, seen map[fsm.JobID]struct{}) []item {
	clear(seen)
	f.mu.Lock()
	defer f.mu.Unlock()
	next, twice := 0, 0 // what is behind next stays; before it, the repeats
	for ; next < len(f.pending) && len(group) < flushLimit; next++ {
		it := &f.pending[next]
		if it.call.abandoned() {
			continue
		}
		if _, met := seen[it.lease.Job]; met {
			f.pending[twice] = *it
			twice++
			continue
		}
		seen[it.lease.Job] = struct{}{}
		group = append(group, *it)
	}
	copy(f.pending[next-twice:next], f.pending[:twice])
	clear(f.pending[:next-twice]) // let go of results
	f.pending = f.pending[next-twice:]
	if len(f.pending) == 0 {
		f.pending = f.buffer[:0]
	}
	return group
}

// write writes a group until its fate is known or nobody waits for it.
func (f *flusher) write(group []item) {
	c := f.c
	pause := newBackoff(50*time.Millisecond, 2*time.Second)
	doubted := false
	for len(group) > 0 {
		reign, leading := c.reign()
		if !leading {
			// Reports are sent again; what the scheduler found, the next reign
			// finds anew.
			f.answer(group, "this node does not lead")
			return
		}
		finishes := f.decide(group)
		mark := c.sched.Begin()
		flushed, effects, err := c.store.Flush(c.ctx, reign, finishes)
		doubted = doubted || errors.Is(err, model.ErrDoubt)
		for tries := 0; errors.Is(err, model.ErrDoubt); tries++ {
			// The very same flush, until a COMMIT answers: the turn makes it
			// idempotent, and only a later COMMIT proves the earlier one.
			if tries == 0 {
				c.log.Warn("flush in doubt, repeated", "reports", len(group), "error", err)
			}
			if !pause.sleep(c.ctx.Done()) {
				c.sched.End(mark)
				f.answer(group, "not yet durable")
				return
			}
			flushed, effects, err = c.store.Flush(c.ctx, reign, finishes)
		}
		switch {
		case err == nil:
			if n := pause.tries(); n > 0 {
				c.log.Info("flush succeeded after failures", "reports", len(group), "tries", n+1)
			}
			// What a try in doubt had written is not told again.
			effects.Cascades = effects.Cascades || doubted
			f.done(group, flushed, &effects, mark)
			return
		case errors.Is(err, store.ErrFenced):
			c.sched.End(mark)
			c.sched.Fenced(reign.Epoch)
			f.answer(group, "this node does not lead any more")
			return
		case store.Transient(err):
			c.sched.End(mark)
			if pause.tries() == 0 {
				c.log.Warn("flush failed, tried again", "reports", len(group), "error", err)
			}
			if !pause.sleep(c.ctx.Done()) {
				f.answer(group, "the engine stops")
				return
			}
			group = f.waiting(group)
		case len(group) > 1:
			// One of them is at fault: halves find it.
			c.sched.End(mark)
			half := len(group) / 2
			f.write(group[:half])
			f.write(group[half:])
			return
		default:
			c.sched.End(mark)
			f.poison(&group[0], err)
			return
		}
	}
}

// decide applies the policies of a group.
func (f *flusher) decide(group []item) []model.Finish {
	finishes := make([]model.Finish, len(group))
	now := f.c.now()
	for i := range group {
		it := &group[i]
		if !it.raw {
			it.job.told = it.job.told || f.c.held.isTold(it.lease)
			decide(&it.finish, it.end, it.job, now, rand.Float64())
		}
		finishes[i] = it.finish
	}
	return finishes
}

// done hands on what a committed flush changed, and then answers.
func (f *flusher) done(group []item, flushed []model.Flushed, effects *model.Effects, mark raftsched.Mark) {
	c := f.c
	ended := make([]fsm.Lease, 0, len(group))
	gone := effects.Gone
	for i := range group {
		switch {
		case flushed[i].Err != nil:
			// Nothing was written of it; the lease stands.
		case group[i].lease.ID != 0:
			ended = append(ended, group[i].lease)
		case !flushed[i].Stale:
			gone = append(gone, dispatch.JobTurn{Job: group[i].lease.Job, Turn: group[i].lease.Turn})
		}
	}
	c.sched.Done(raftsched.Done{Ended: ended, Ready: effects.Ready, Mark: mark, Gone: gone})
	c.held.ended(ended)
	c.finished.Add(int64(len(ended) + len(gone)))
	c.tally.ended(c.now(), group, flushed)
	for i := range group {
		it := &group[i]
		switch {
		case flushed[i].Err != nil:
			f.refuse(it, flushed[i].Err)
		case flushed[i].Stale:
			it.call.answer(it.index, reportStale)
		default:
			it.call.answer(it.index, reportDone)
		}
	}
	c.onEffect(effects)
}

// refuse answers a report that is itself at fault.
func (f *flusher) refuse(it *item, err error) {
	if it.call == nil {
		f.c.log.Error("end of an attempt cannot be written", "job", it.lease.Job.String(), "error", err)
	}
	it.call.answer(it.index, invalid(err.Error()))
}

// poison ends the way of an item that no transaction takes. A worker is told,
// and sends another report. What the scheduler found must come to an end all
// the same: it is tried as a failure without any text, once.
func (f *flusher) poison(it *item, err error) {
	f.refuse(it, err)
	if it.call != nil || it.raw {
		return
	}
	it.raw = true
	it.finish.Ending, it.finish.Error, it.finish.Result, it.finish.Then = model.EndFailed, "lost, and its end could not be written", nil, nil
	f.push([]item{*it})
}

// waiting keeps the items somebody waits for.
func (f *flusher) waiting(group []item) []item {
	kept := group[:0]
	for i := range group {
		if !group[i].call.abandoned() {
			kept = append(kept, group[i])
		}
	}
	return kept
}

func (f *flusher) answer(group []item, why string) {
	for i := range group {
		group[i].call.answer(group[i].index, again(why))
	}
}
