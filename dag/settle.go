package dag

// settle looks at queued nodes until none is left. Every step only ends or
// releases nodes, so that the order makes no difference to the end.
func (d *decider) settle() {
	for d.head < len(d.queue) {
		s := d.queue[d.head]
		d.head++
		d.marks[s] &^= markQueued
		d.look(s)
	}
	d.queue, d.head = d.queue[:0], 0
}

// look applies the equations to one node.
func (d *decider) look(s int32) {
	n := &d.nodes[s]
	switch n.State {
	case Blocked:
		d.lookBlocked(s)
	case Released:
		if n.IsBatch && n.unended() == 0 {
			d.endReleased(s)
		}
	}
}

func (d *decider) lookBlocked(s int32) {
	n := &d.nodes[s]
	if n.IsBatch && n.Cancelled {
		if n.unended() == 0 {
			d.endByRule(s, Cancelled)
		}
		return
	}
	if d.doomed(s) {
		if n.unended() == 0 {
			d.endByRule(s, Skipped)
		}
		return
	}
	doomed := n.Slack < 0
	ready := n.Need <= 0
	if !doomed && ready && !faulty(faultGateIgnored) {
		open, ok := d.gateOpen(n)
		if !ok {
			return
		}
		ready = open
	}
	// A node that was taken back, or a batch whose last member has ended, may
	// lie in a batch that is on its way to be skipped.
	within := d.marks[s]&(markReset|markUndoomed) != 0 || n.IsBatch && n.Total > 0 && n.unended() == 0
	if !doomed && !ready && !within {
		return
	}
	fate, ok := d.fate(s)
	switch {
	case !ok:
	case fate == fateCancel:
		d.bringDown(s, false)
	case fate == fateSkip || doomed:
		d.skip(s)
	case ready:
		d.release(s)
	}
}

// gateOpen tells whether the batch of a node has been released in this life.
func (d *decider) gateOpen(n *Node) (open, ok bool) {
	if n.Batch == NoBatch {
		return true, true
	}
	b, ok := d.find(n.Batch)
	if !ok {
		return false, false
	}
	return d.nodes[b].Released, true
}

// fate is what the batches around a node have already decided about it,
// although a cascade has not yet reached it.
type fate uint8

const (
	fateNone fate = iota
	fateSkip
	fateCancel
)

// fate walks outwards through the batches around a node. The innermost that
// decides was the first to decide: a node that an outer batch decides about
// takes that outcome before any of its own is looked at.
func (d *decider) fate(s int32) (fate, bool) {
	n := &d.nodes[s]
	cleanup := n.Cleanup
	if faulty(faultFateOverlooked) {
		return fateNone, true
	}
	for id := n.Batch; id != NoBatch; {
		b, ok := d.find(id)
		if !ok {
			return fateNone, false
		}
		n := &d.nodes[b]
		switch {
		case n.State == Blocked && n.Cancelled:
			return fateCancel, true
		case d.doomed(b):
			return fateSkip, true
		case n.State == Ended && !n.Released && n.Outcome == Cancelled:
			return fateCancel, true
		case n.State == Ended && !n.Released:
			return fateSkip, true
		case n.Cascade == CascadeForceCancel, n.Cascade == CascadeCancel && !cleanup:
			return fateCancel, true
		}
		cleanup = n.follows(cleanup)
		id = n.Batch
	}
	return fateNone, true
}

// doomed tells that a blocked batch is on its way to be skipped: its slack was
// below zero when it was put, or this decision has begun to skip it. It ends
// once the last large batch inside it has.
func (d *decider) doomed(s int32) bool {
	n, marks := &d.nodes[s], d.marks[s]
	switch {
	case !n.IsBatch || n.State != Blocked || n.Cancelled:
		return false
	case marks&markDoomed != 0 || n.Cascade == CascadeSkip:
		return true
	case marks&(markUndoomed|markReset|markNew) != 0:
		return false
	}
	was := &d.r.slots[s].node
	return was.State == Blocked && was.Slack < 0 && !was.Cancelled
}

// follows tells whether something inside a batch is left alone when a batch
// around that one is cancelled, given whether it, or a batch around it, cleans
// up: of a batch that has not been released nothing inside is.
func (n *Node) follows(cleanup bool) bool {
	return n.Cleanup || cleanup && n.Released
}

// release sets a blocked node free, once in its life.
func (d *decider) release(s int32) {
	n := d.touch(s)
	n.State = Released
	n.Released = true
	d.marks[s] |= markReleased
	if n.IsBatch {
		d.start(s)
	}
}

// start opens the gate for the members of a batch.
func (d *decider) start(s int32) {
	if d.nodes[s].unended() == 0 {
		d.push(s)
		return
	}
	if !d.inline(s) {
		d.cascade(s, CascadeStart)
		return
	}
	stored, appended := d.membersOf(s)
	for _, list := range [...][]ID{stored, appended} {
		for _, id := range list {
			if m, ok := d.find(id); ok && d.nodes[m].State == Blocked {
				d.startMember(m)
			}
		}
	}
}

// startMember looks at a member whose gate has opened. What releases it now is
// its batch, not the parent that ended last.
func (d *decider) startMember(m int32) {
	if d.nodes[m].ReleasedBy != 0 {
		d.touch(m).ReleasedBy = 0
	}
	d.push(m)
}

func (d *decider) cascade(s int32, c Cascade) {
	d.touch(s).Cascade = c
	d.marks[s] |= markCascade
}

// skip ends a blocked node that can never start; of a batch everything inside
// first, from the bottom up: the batch ends when its last member has.
func (d *decider) skip(s int32) {
	d.stack = append(d.stack[:0], s)
	for len(d.stack) > 0 {
		s := d.stack[len(d.stack)-1]
		d.stack = d.stack[:len(d.stack)-1]
		n := &d.nodes[s]
		switch {
		case n.State != Blocked || n.IsBatch && n.Cancelled || n.Cascade == CascadeSkip && n.unended() > 0:
			continue
		case !n.IsBatch || n.unended() == 0:
			d.endByRule(s, Skipped)
			continue
		}
		d.marks[s] |= markDoomed
		if !d.inline(s) {
			d.cascade(s, CascadeSkip)
			continue
		}
		stored, appended := d.membersOf(s)
		for _, list := range [...][]ID{stored, appended} {
			for _, id := range list {
				if m, ok := d.find(id); ok {
					d.stack = append(d.stack, m)
				}
			}
		}
	}
}

// endReleased ends a released batch all of whose members have ended, unless
// somebody may still add to it.
func (d *decider) endReleased(s int32) {
	n := &d.nodes[s]
	if n.Open && !n.Cancelled && !faulty(faultOpenIgnored) {
		return
	}
	cancelled := n.Cancelled
	if !cancelled {
		fate, ok := d.fate(s)
		if !ok {
			return
		}
		cancelled = fate == fateCancel
	}
	d.endByRule(s, n.result(cancelled))
}

// result is the outcome of a batch all of whose members have ended.
func (n *Node) result(cancelled bool) Outcome {
	bad := n.NumFailed + n.NumCancelled
	if faulty(faultToleranceFailedOnly) {
		bad = n.NumFailed
	}
	switch {
	case faulty(faultFailedBeatsCancel) && n.Tolerance.exceeded(n.NumFailed, n.Total):
		return Failed
	case cancelled:
		return Cancelled
	case n.Tolerance.exceeded(n.NumFailed, n.Total):
		return Failed
	case n.Tolerance.exceeded(bad, n.Total):
		return Cancelled
	case n.Total > 0 && n.NumSkipped == n.Total && !faulty(faultAllSkippedSucceeds):
		return Skipped
	}
	return Succeeded
}

func (t Tolerance) exceeded(bad, total int32) bool {
	if t.Percent > 0 {
		return float64(bad)*100 > t.Percent*float64(total)
	}
	if faulty(faultToleranceStrict) && t.Count > 0 {
		return bad >= t.Count
	}
	return bad > t.Count
}

// unended is how many direct members of a batch have not ended.
func (n *Node) unended() int32 {
	return n.Total - n.NumSucceeded - n.NumFailed - n.NumCancelled - n.NumSkipped
}

// count adds delta to the members of a batch that ended with o.
func (n *Node) count(o Outcome, delta int32) {
	switch o {
	case Succeeded:
		n.NumSucceeded += delta
	case Failed:
		n.NumFailed += delta
	case Cancelled:
		n.NumCancelled += delta
	case Skipped:
		n.NumSkipped += delta
	}
}

func (d *decider) endByRule(s int32, o Outcome) {
	d.marks[s] |= markEnded
	d.end(s, o)
}

// end gives a node its outcome, tells it to the node's edges and counts it in
// the node's batch. Whoever that sets free or dooms is queued, not followed.
func (d *decider) end(s int32, o Outcome) {
	n := d.touch(s)
	n.State = Ended
	n.Outcome = o
	n.Running = false
	n.Cascade = NoCascade
	parent, hold := n.ID, n.Hold && !faulty(faultHoldIgnored)
	stored, appended := d.outOf(s)
	for _, list := range [...][]Edge{stored, appended} {
		for _, e := range list {
			if e.On&o == 0 && hold && o == Failed {
				continue
			}
			if c, ok := d.find(e.Child); ok && d.nodes[c].State == Blocked {
				d.tell(c, parent, e.On&o != 0)
			}
		}
	}
	if batch := d.nodes[s].Batch; batch != NoBatch {
		if b, ok := d.find(batch); ok {
			n := d.touch(b)
			n.count(o, 1)
			if n.unended() == 0 {
				d.push(b)
			}
		}
	}
}

// tell lets an edge into a blocked node fire or die.
func (d *decider) tell(c int32, parent ID, fires bool) {
	n := d.touch(c)
	if fires {
		n.Need--
		if n.Need == 0 {
			n.ReleasedBy = parent
			d.push(c)
		}
		return
	}
	if faulty(faultSkipsOverlooked) && d.nodes[c].IsBatch {
		return
	}
	n.Slack--
	if n.Slack == -1 && !faulty(faultHopelessWaits) {
		d.push(c)
	}
}
