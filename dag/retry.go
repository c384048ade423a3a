package dag

// retry takes outcomes back. Everything that hangs on them is opened first and
// decided after, so that no node is released or skipped on a stale outcome.
func (d *decider) retry(e *Event) error {
	s, ok := d.find(e.Node)
	if !ok {
		return nil
	}
	if err := d.enclosed(s); err != nil {
		return err
	}
	n := &d.nodes[s]
	if n.IsBatch {
		if err := d.retryBatch(s); err != nil {
			return err
		}
	} else {
		if err := retriable(n, "retried"); err != nil {
			return err
		}
		d.reset(s, false)
	}
	if e.Downstream {
		if err := d.unrun(); err != nil {
			return err
		}
	}
	for _, s := range d.passed {
		d.unskip(s)
	}
	d.passed = d.passed[:0]
	d.closeOver()
	return nil
}

// dismiss takes the outcome of a job back as if it ran again, and reports its
// success before anything could have noticed.
func (d *decider) dismiss(e *Event) error {
	s, ok := d.find(e.Node)
	if !ok {
		return nil
	}
	if err := d.enclosed(s); err != nil {
		return err
	}
	n := &d.nodes[s]
	if n.IsBatch {
		return invalid("%s is no job and cannot be dismissed", noun(n))
	}
	if err := retriable(n, "dismissed"); err != nil {
		return err
	}
	d.reset(s, false)
	n.State = Released // as if it ran, so that nobody skips or releases it
	d.closeOver()
	d.settle()
	d.end(s, Succeeded)
	return nil
}

// retriable refuses jobs that have nothing to take back. what is to be done with
// them.
func retriable(n *Node, what string) error {
	switch {
	case n.State != Ended:
		return refused("%s has not ended", noun(n))
	case n.Outcome != Failed && n.Outcome != Cancelled:
		return refused("%s ended %s; only failed and cancelled jobs can be %s", noun(n), n.Outcome, what)
	}
	return nil
}

// enclosed refuses when a batch around a node is cancelled, naming the
// outermost.
func (d *decider) enclosed(s int32) error {
	var outermost *Node
	for id := d.nodes[s].Batch; id != NoBatch; {
		b, ok := d.find(id)
		if !ok {
			return nil
		}
		n := &d.nodes[b]
		if n.Cancelled {
			outermost = n
		}
		id = n.Batch
	}
	if outermost != nil {
		return refused("%s lies in %s, which is cancelled; retry %s instead", noun(&d.nodes[s]), noun(outermost), noun(outermost))
	}
	return nil
}

// retryBatch resets the failed and cancelled jobs and the cancelled batches of
// a batch at any depth, and clears the marks.
func (d *decider) retryBatch(s int32) error {
	fate, ok := d.fate(s)
	if !ok {
		return nil
	}
	n := &d.nodes[s]
	if n.State == Ended && n.Outcome == Skipped || d.doomed(s) || n.State != Ended && fate == fateSkip {
		return refused("%s was skipped; retry what it waited for", noun(n))
	}
	found := false
	stack := []int32{s}
	for len(stack) > 0 {
		b := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		n := &d.nodes[b]
		wasCancelled := n.Cancelled
		if wasCancelled {
			d.unmark(b)
			found = true
		}
		if n.State == Ended && n.Outcome == Cancelled {
			d.reset(b, false)
			found = true
		}
		stored, appended := d.troubledOf(b)
		for _, list := range [...][]ID{stored, appended} {
			for _, id := range list {
				m, ok := d.find(id)
				if !ok {
					continue
				}
				n := &d.nodes[m]
				if wasCancelled && n.State == Ended && n.Outcome == Skipped && !n.Released {
					// While the mark stood, other retries passed it by.
					d.passed = append(d.passed, m)
				}
				if n.IsBatch {
					stack = append(stack, m)
				} else if n.State == Ended && n.Outcome&(Failed|Cancelled) != 0 {
					d.reset(m, false)
					found = true
				}
			}
		}
	}
	if !found {
		return refused("nothing in %s has failed or was cancelled", noun(&d.nodes[s]))
	}
	return nil
}

// unmark takes a cancel of a batch back. A cancel still on its way down stops;
// it may have replaced a start, so the members that wait are looked at again.
func (d *decider) unmark(b int32) {
	n := d.touch(b)
	n.Cancelled = false
	d.doubt(b)
	d.push(b)
	if n.Cascade == NoCascade {
		return
	}
	n.Cascade = NoCascade
	if n.State == Released {
		d.start(b)
	}
}

// reset gives a node a new life. It keeps having been released unless unrun is
// set; then it waits for its edges again.
func (d *decider) reset(s int32, unrun bool) {
	n := d.touch(s)
	if n.State == Ended {
		if n.Batch != NoBatch {
			if b, ok := d.find(n.Batch); ok {
				d.touch(b).count(n.Outcome, -1)
			}
		}
		n.Outcome = None
	}
	n.Life++
	if unrun {
		n.Released = false
	}
	if !n.IsBatch {
		n.Cancelled = false
	}
	n.Cascade = NoCascade
	n.State = Blocked
	if n.Released {
		n.State = Released
	} else {
		n.ReleasedBy = 0
		d.doubt(s)
	}
	d.marks[s] |= markReset
	d.marks[s] &^= markEnded | markReleased | markTold | markDoomed
	d.reopen = append(d.reopen, s)
}

// doubt notes that the counters of a node must be counted again.
func (d *decider) doubt(s int32) {
	if d.marks[s]&markRecount == 0 {
		d.marks[s] |= markRecount
		d.recount = append(d.recount, s)
	}
}

// closeOver follows from the reset nodes to everything that ended or was
// skipped because of them, and then counts and queues what it opened.
func (d *decider) closeOver() {
	var inside []int32
	for len(d.reopen) > 0 {
		s := d.reopen[len(d.reopen)-1]
		d.reopen = d.reopen[:len(d.reopen)-1]
		n := &d.nodes[s]
		if n.IsBatch && n.State == Blocked && d.marks[s]&markInside == 0 {
			d.marks[s] |= markInside
			inside = append(inside, s)
			d.reopenMembers(s)
		}
		if d.marks[s]&markReset == 0 {
			continue // a batch that was only on its way to be skipped
		}
		d.push(s)
		d.reopenBatch(n.Batch)
		d.reopenChildren(s)
		if faulty(faultSettleBetween) {
			d.countDoubted()
			d.settle()
		}
	}
	d.countDoubted()
	for _, s := range inside {
		d.marks[s] &^= markInside
	}
}

func (d *decider) countDoubted() {
	for _, s := range d.recount {
		d.marks[s] &^= markRecount
		d.countEdges(s)
	}
	d.recount = d.recount[:0]
}

// reopenBatch resets an ended batch around a reset node.
func (d *decider) reopenBatch(id ID) {
	if id == NoBatch || faulty(faultNoReopen) {
		return
	}
	b, ok := d.find(id)
	if !ok {
		return
	}
	switch {
	case d.nodes[b].State == Ended:
		d.reset(b, false)
	case d.doomed(b):
		d.undoom(b)
	}
}

// reopenChildren unskips what waits for a reset node.
func (d *decider) reopenChildren(s int32) {
	stored, appended := d.outOf(s)
	for _, list := range [...][]Edge{stored, appended} {
		for _, e := range list {
			c, ok := d.find(e.Child)
			if !ok {
				continue
			}
			switch {
			case d.doomed(c):
				d.undoom(c)
			case d.nodes[c].State == Blocked:
				d.doubt(c)
			default:
				d.unskip(c)
			}
		}
	}
}

// reopenMembers unskips the members of a batch that waits again.
func (d *decider) reopenMembers(s int32) {
	if faulty(faultNoUnskipInside) {
		return
	}
	stored, appended := d.troubledOf(s)
	for _, list := range [...][]ID{stored, appended} {
		for _, id := range list {
			m, ok := d.find(id)
			if !ok {
				continue
			}
			if n := &d.nodes[m]; n.State == Blocked && n.IsBatch && !n.Cancelled {
				d.undoom(m)
			} else {
				d.unskip(m)
			}
		}
	}
}

// unskip takes back that a node was skipped, unless it lies in a cancelled
// batch, in which only nodes that clean up go on following their edges.
func (d *decider) unskip(s int32) {
	n := &d.nodes[s]
	if n.State != Ended || n.Outcome != Skipped || n.Released || faulty(faultNoUnskip) {
		return
	}
	if shut, ok := d.shut(s); ok && !shut {
		d.reset(s, true)
	}
}

// undoom stops a batch on its way to be skipped. What is left of its skip may
// begin anew, once everything is counted again.
func (d *decider) undoom(s int32) {
	if shut, ok := d.shut(s); !ok || shut {
		return
	}
	n := d.touch(s)
	n.Cascade = NoCascade
	d.marks[s] |= markUndoomed
	d.marks[s] &^= markDoomed
	d.doubt(s)
	d.reopen = append(d.reopen, s)
}

// shut tells whether a cancelled batch around a node keeps it as it is.
func (d *decider) shut(s int32) (shut, ok bool) {
	cleanup := d.nodes[s].Cleanup
	for id := d.nodes[s].Batch; id != NoBatch; {
		b, ok := d.find(id)
		if !ok {
			return false, false
		}
		n := &d.nodes[b]
		if n.Cancelled && (!cleanup || !n.Released || n.Cascade == CascadeForceCancel) {
			return true, true
		}
		cleanup = n.follows(cleanup)
		id = n.Batch
	}
	return false, true
}

// countEdges sets the counters of a blocked node from its edges.
func (d *decider) countEdges(s int32) {
	if d.nodes[s].State != Blocked || faulty(faultNoRecount) {
		return
	}
	edges, ok := d.into(s)
	if !ok {
		return
	}
	var fired, dead int32
	for _, e := range edges {
		p, ok := d.find(e.Parent)
		if !ok {
			continue
		}
		switch n := &d.nodes[p]; {
		case n.State != Ended || n.holds(e.On):
		case n.Outcome&e.On != 0:
			fired++
		default:
			dead++
		}
	}
	n := d.touch(s)
	k := n.required(int32(len(edges)))
	n.Need, n.Slack, n.ReleasedBy = k-fired, int32(len(edges))-k-dead, 0
	d.push(s)
}

// holds tells that an edge on these outcomes stays open by the failure of n.
func (n *Node) holds(on Outcome) bool {
	return n.Hold && n.Outcome == Failed && on&Failed == 0
}

// required is how many of so many edges must fire.
func (n *Node) required(edges int32) int32 {
	switch {
	case n.Join == 0 && edges > 1 && faulty(faultJoinAllIsAny):
		return 1
	case n.Join == 0:
		return edges
	}
	return n.Join
}

// unrun resets every released node that may have started because of a node in
// reopen: those whose start can be reached from its end.
func (d *decider) unrun() error {
	starts := d.reach()
	for _, s := range starts {
		n := &d.nodes[s]
		if !n.Released {
			continue
		}
		switch {
		case !n.IsBatch && n.State != Ended && d.marks[s]&markReset == 0:
			return refused("%s has not ended; a retry with downstream would start it again", noun(n))
		case n.Cascade == CascadeStart:
			return refused("%s is being started; a retry with downstream would start it again", noun(n))
		}
		if err := d.enclosed(s); err != nil {
			return err
		}
	}
	if faulty(faultDownstreamKeeps) {
		return nil
	}
	for _, s := range starts {
		n := &d.nodes[s]
		if !n.Released {
			continue
		}
		if d.marks[s]&markReset != 0 { // chosen itself, and after another chosen one
			n.Life--
		}
		d.reset(s, true)
		d.nodes[s].Cancelled = false
	}
	return nil
}

// reach gives the nodes whose start can be reached from the end of a node in
// reopen: an end leads to the starts of the children and to the end of the
// batch, a start to the own end and to the starts of the members.
func (d *decider) reach() []int32 {
	var starts, ends []int32
	var work []int32 // a node whose end is reached; bitwise not: its start
	end := func(s int32) {
		if d.marks[s]&markReachedEnd == 0 {
			d.marks[s] |= markReachedEnd
			ends = append(ends, s)
			work = append(work, s)
		}
	}
	start := func(s int32) {
		if d.marks[s]&markReachedStart == 0 {
			d.marks[s] |= markReachedStart
			work = append(work, ^s)
		}
	}
	for _, s := range d.reopen {
		end(s)
	}
	for len(work) > 0 {
		s := work[len(work)-1]
		work = work[:len(work)-1]
		if s < 0 {
			s = ^s
			starts = append(starts, s)
			end(s)
			if d.nodes[s].IsBatch {
				stored, appended := d.membersOf(s)
				for _, list := range [...][]ID{stored, appended} {
					for _, id := range list {
						if m, ok := d.find(id); ok {
							start(m)
						}
					}
				}
			}
			continue
		}
		stored, appended := d.outOf(s)
		for _, list := range [...][]Edge{stored, appended} {
			for _, e := range list {
				if c, ok := d.find(e.Child); ok {
					start(c)
				}
			}
		}
		if batch := d.nodes[s].Batch; batch != NoBatch && batch != Root {
			if b, ok := d.find(batch); ok {
				end(b)
			}
		}
	}
	for _, s := range ends { // every start that is reached reaches its end
		d.marks[s] &^= markReachedStart | markReachedEnd
	}
	return starts
}
