package dag

// cancel ends or marks a node and what is inside it. Nothing happens to a node
// that has ended, except that one which holds on its failure gives up.
func (d *decider) cancel(e *Event) error {
	s, ok := d.find(e.Node)
	if !ok {
		return nil
	}
	if d.nodes[s].State == Ended {
		d.letGo(s)
		return nil
	}
	fate, ok := d.fate(s)
	switch {
	case !ok:
	case fate == fateSkip:
		d.skip(s)
	default:
		d.bringDown(s, e.Force)
	}
	return nil
}

// bringDown cancels a node: first everything inside it, then the queue decides
// what that sets free. A batch below the limit is done at once, a larger one
// gets a cascade.
func (d *decider) bringDown(s int32, force bool) {
	d.stack = append(d.stack[:0], s)
	for len(d.stack) > 0 {
		s := d.stack[len(d.stack)-1]
		d.stack = d.stack[:len(d.stack)-1]
		n := &d.nodes[s]
		switch {
		case n.State == Ended:
		case n.IsBatch:
			d.bringDownBatch(s, force)
		case n.Running:
			if !n.Cancelled {
				d.touch(s).Cancelled = true
				d.marks[s] |= markTold
			}
		default:
			d.endByRule(s, Cancelled)
		}
	}
}

// bringDownBatch marks a batch and puts its members on the stack.
func (d *decider) bringDownBatch(s int32, force bool) {
	n := &d.nodes[s]
	blocked := n.State == Blocked
	switch {
	case blocked && (n.Cancelled || d.doomed(s)):
		return // all inside has its fate
	case n.Cancelled && (!force || n.Cascade == CascadeForceCancel):
		return
	}
	n = d.touch(s)
	n.Cancelled = true
	d.push(s)
	if n.unended() == 0 {
		n.Cascade = NoCascade
		return
	}
	if !d.inline(s) {
		if force || blocked {
			d.cascade(s, CascadeForceCancel)
		} else {
			d.cascade(s, CascadeCancel)
		}
		return
	}
	n.Cascade = NoCascade
	stored, appended := d.membersOf(s)
	for _, list := range [...][]ID{stored, appended} {
		for _, id := range list {
			if m, ok := d.find(id); ok {
				d.bringDownMember(m, force || blocked)
			}
		}
	}
}

// bringDownMember puts a member of a cancelled batch on the stack, unless it
// cleans up: then it goes on following its edges.
func (d *decider) bringDownMember(m int32, force bool) {
	if d.nodes[m].Cleanup && !force && !faulty(faultCleanupCancelled) {
		d.push(m)
		return
	}
	d.stack = append(d.stack, m)
}

// giveUp ends a hold on request.
func (d *decider) giveUp(e *Event) error {
	s, ok := d.find(e.Node)
	if !ok {
		return nil
	}
	n := &d.nodes[s]
	if !n.Hold {
		return refused("%s does not hold on its failure", noun(n))
	}
	if n.State == Ended {
		d.letGo(s)
		return nil
	}
	d.touch(s).Hold = false
	return nil
}

// letGo lets the edges die that an ended node held open.
func (d *decider) letGo(s int32) {
	n := &d.nodes[s]
	if !n.Hold {
		return
	}
	d.touch(s).Hold = false
	if n.Outcome != Failed {
		return
	}
	stored, appended := d.outOf(s)
	for _, list := range [...][]Edge{stored, appended} {
		for _, e := range list {
			if e.On&Failed != 0 {
				continue
			}
			if c, ok := d.find(e.Child); ok && d.nodes[c].State == Blocked {
				d.tell(c, e.Parent, false)
			}
		}
	}
}

// seal closes an open batch; sealing twice does nothing.
func (d *decider) seal(e *Event) error {
	s, ok := d.find(e.Node)
	if !ok {
		return nil
	}
	n := &d.nodes[s]
	if !n.IsBatch {
		return invalid("%s is no batch and cannot be sealed", noun(n))
	}
	if n.Open {
		d.touch(s).Open = false
		d.push(s)
	}
	return nil
}

// step hands a cascade down to some of the direct members of a batch.
func (d *decider) step(e *Event) error {
	s, ok := d.find(e.Node)
	if !ok {
		return nil
	}
	n := &d.nodes[s]
	if !n.IsBatch {
		return invalid("%s is no batch and has no cascade", noun(n))
	}
	cascade, blocked := n.Cascade, n.State == Blocked
	if cascade == NoCascade {
		return nil
	}
	for _, id := range e.Members {
		m, ok := d.find(id)
		if !ok {
			continue
		}
		switch cascade {
		case CascadeStart:
			if d.nodes[m].State == Blocked {
				d.startMember(m)
			}
		case CascadeSkip:
			d.skip(m)
		case CascadeCancel, CascadeForceCancel:
			d.stepCancel(m, cascade == CascadeForceCancel || blocked)
		}
	}
	if e.Last {
		d.touch(s).Cascade = NoCascade
	}
	d.push(s)
	return nil
}

func (d *decider) stepCancel(m int32, force bool) {
	if d.nodes[m].Cleanup && !force {
		d.push(m)
		return
	}
	d.bringDown(m, force)
}
