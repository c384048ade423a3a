package dispatch

import "github.com/heddle-io/heddle/raftsched/fsm"

// HoldID names a hold.
type HoldID uint64

// bar keeps back jobs of a workflow: it is paused, or commands hold some of its
// nodes. Rows that are kept back are not kept in memory: their streams are read
// again when the bar is lifted.
type bar struct {
	id      fsm.WorkflowID
	paused  bool
	holds   []*hold
	skipped map[LanePriority]Cursor // the first row kept back of each stream
}

// hold covers the nodes lo to hi. Once released, it still covers rows read
// under marks up to at.
type hold struct {
	id       HoldID
	bar      *bar
	lo, hi   int32
	released bool
	at       Mark
}

// covers says whether a row of the node, read under m, is kept back. Mark 0
// stands for rows from memory.
func (b *bar) covers(node int32, m Mark) bool {
	if b.paused {
		return true
	}
	for _, h := range b.holds {
		if node >= h.lo && node <= h.hi && (!h.released || m <= h.at) {
			return true
		}
	}
	return false
}

// barred says whether the row is kept back, and notes it if so.
func (d *Dispatcher) barred(row *Row, m Mark) bool {
	if len(d.bars) == 0 {
		return false
	}
	b := d.bars[row.Job.Workflow]
	if b == nil || !b.covers(row.Job.Node, m) {
		return false
	}
	b.skip(row)
	return true
}

func (b *bar) skip(row *Row) {
	id := LanePriority{Lane: row.Lane, Priority: row.Priority}
	if first, ok := b.skipped[id]; !ok || row.cursor().Compare(first) < 0 {
		if b.skipped == nil {
			b.skipped = map[LanePriority]Cursor{}
		}
		b.skipped[id] = row.cursor()
	}
}

// HoldJob keeps a job from being matched until the hold is released.
func (d *Dispatcher) HoldJob(id fsm.JobID) HoldID {
	return d.HoldNodes(id.Workflow, id.Node, id.Node)
}

// HoldWorkflow holds all jobs of a workflow.
func (d *Dispatcher) HoldWorkflow(id fsm.WorkflowID) HoldID {
	return d.HoldNodes(id, 0, 1<<31-1)
}

// HoldNodes holds the jobs numbered lo to hi of a workflow. What is granting or
// leased already is the caller's to know.
func (d *Dispatcher) HoldNodes(id fsm.WorkflowID, lo, hi int32) HoldID {
	b := d.bar(id)
	d.lastHold++
	h := &hold{id: d.lastHold, bar: b, lo: lo, hi: hi}
	b.holds = append(b.holds, h)
	d.holds[h.id] = h
	d.keepBack(b)
	return h.id
}

// ReleaseHold ends a hold after its command was committed or given up. It stays
// in force for rows read under marks that are open now. What it kept back is
// read again from the database, as the command left it.
func (d *Dispatcher) ReleaseHold(id HoldID) {
	h := d.holds[id]
	if h == nil {
		return
	}
	delete(d.holds, id)
	h.released, h.at = true, d.marks.last
	if d.fault == faultNoHolds {
		h.at = 0
	}
	d.releasing.push(h)
	d.resume(h.bar)
	d.purge()
}

// settle removes a released hold when the reads older than it are through.
func (d *Dispatcher) settle(h *hold) {
	b := h.bar
	for i, other := range b.holds {
		if other == h {
			b.holds = append(b.holds[:i], b.holds[i+1:]...)
			break
		}
	}
	d.resume(b)
	d.lift(b)
}

// PauseWorkflow stops or resumes a workflow. While it is paused its rows are
// passed over.
func (d *Dispatcher) PauseWorkflow(id fsm.WorkflowID, paused bool) {
	b := d.bars[id]
	if paused {
		b = d.bar(id)
		b.paused = true
		d.keepBack(b)
		return
	}
	if b == nil || !b.paused {
		return
	}
	b.paused = false
	d.resume(b)
	d.lift(b)
}

func (d *Dispatcher) bar(id fsm.WorkflowID) *bar {
	b := d.bars[id]
	if b == nil {
		b = &bar{id: id}
		d.bars[id] = b
	}
	return b
}

// lift forgets a bar that bars nothing.
func (d *Dispatcher) lift(b *bar) {
	if !b.paused && len(b.holds) == 0 {
		delete(d.bars, b.id)
	}
}

// resume has the streams read again from where rows were kept back.
func (d *Dispatcher) resume(b *bar) {
	skipped := b.skipped
	b.skipped = nil
	for id, pos := range skipped {
		if s := d.find(id); s == nil {
			d.discover(id)
		} else {
			d.search(s, pos.before())
		}
	}
}

// keepBack takes the waiting rows that the bar covers out of their windows.
func (d *Dispatcher) keepBack(b *bar) {
	if g := d.graphs[b.id]; g != nil {
		for j := g.first; j != nil; {
			next := j.next
			d.keepBackJob(b, j)
			j = next
		}
	}
	if e := d.index[fsm.JobID{Workflow: b.id, Node: loneNode}]; e.job != nil && e.job.graph == nil {
		d.keepBackJob(b, e.job)
	}
}

func (d *Dispatcher) keepBackJob(b *bar, j *job) {
	if (j.state == waiting || j.state == apart) && b.covers(j.row.Job.Node, 0) {
		b.skip(&j.row)
		d.takeOut(j)
		d.release(j)
	}
}
