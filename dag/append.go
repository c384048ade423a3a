package dag

// append adds nodes to a batch. Edges lead into new nodes only, and come from
// new nodes or from inside the batch: a parent outside could wait for the very
// batch its new child keeps from ending, and no state would show it.
func (d *decider) append(i int, e *Event) error {
	b, ok := d.find(e.Node)
	if !ok {
		return nil
	}
	if !d.nodes[b].IsBatch {
		return invalid("%s is no batch; nothing can be appended to it", noun(&d.nodes[b]))
	}
	fits, err := d.accepts(b, e.Inside)
	if err != nil || !fits {
		if err == nil && d.missing.Empty() {
			d.dropped = append(d.dropped, i)
		}
		return err
	}
	if len(e.New) == 0 {
		return nil
	}
	first := len(d.nodes)
	if err := d.addNodes(b, e.New); err != nil {
		return err
	}
	if err := d.addEdges(b, first, e.Edges); err != nil {
		return err
	}
	if err := d.addCounters(first); err != nil {
		return err
	}
	if d.nodes[b].State == Ended { // only the root comes here
		d.reset(b, false)
		d.reopen = d.reopen[:0]
	}
	d.push(b)
	return nil
}

// accepts tells whether nodes may go into a batch. An outsider is refused when
// they may not; the graph of a job inside is dropped.
func (d *decider) accepts(b int32, inside bool) (bool, error) {
	n := &d.nodes[b]
	fate, ok := d.fate(b)
	if !ok {
		return false, nil
	}
	cancelled := n.Cancelled
	for id := n.Batch; id != NoBatch; {
		a, ok := d.find(id)
		if !ok {
			return false, nil
		}
		cancelled = cancelled || d.nodes[a].Cancelled
		id = d.nodes[a].Batch
	}
	switch {
	case cancelled && inside:
		return false, nil
	case cancelled:
		return false, refused("%s is cancelled; nothing can be appended to it", noun(n))
	case n.ID == Root:
		return true, nil
	case n.State == Ended:
		return false, refused("%s has ended %s; append to the workflow instead", noun(n), n.Outcome)
	case d.doomed(b) || fate == fateSkip:
		return false, refused("%s has ended %s; append to the workflow instead", noun(n), Skipped)
	}
	return true, nil
}

// addNodes brings new nodes in, in their depth-first order, and counts them in
// their batches.
func (d *decider) addNodes(b int32, news []Node) error {
	if d.index == nil {
		d.index = make(map[ID]int32, len(news))
		d.members = make(map[ID][]ID)
		d.in = make(map[ID][]Edge)
		d.out = make(map[ID][]Edge)
	}
	target := d.nodes[b].ID
	first, last := news[0].ID, news[len(news)-1].ID
	for i := range news {
		n := news[i]
		if n.ID != first+ID(i) {
			return invalid("new nodes must be numbered in a row: %d follows %d", n.ID, first+ID(i)-1)
		}
		if _, ok := d.known(n.ID); ok {
			return invalid("node %d exists already", n.ID)
		}
		at := b
		if n.Batch != target {
			var ok bool
			if at, ok = d.index[n.Batch]; !ok || n.Batch < first || n.Batch >= n.ID || !d.nodes[at].IsBatch {
				return invalid("new node %d must lie in batch %d or in a new batch before it, not in %d", n.ID, target, n.Batch)
			}
		}
		n.State, n.Outcome, n.Released, n.Cancelled, n.Running = Blocked, None, false, false, false
		n.Cascade, n.ReleasedBy, n.HasChildren, n.Life = NoCascade, 0, false, 0
		n.Total, n.NumSucceeded, n.NumFailed, n.NumCancelled, n.NumSkipped = 0, 0, 0, 0, 0
		n.Lo, n.Hi = 0, -1
		if n.IsBatch {
			n.Lo, n.Hi = n.ID+1, n.ID
		}
		s := int32(len(d.nodes))
		d.nodes = append(d.nodes, n)
		d.marks = append(d.marks, markNew)
		d.index[n.ID] = s
		d.members[n.Batch] = append(d.members[n.Batch], n.ID)
		d.touch(s)
		d.touch(at).Total++
		for ; at != b; at = d.index[d.nodes[at].Batch] {
			d.nodes[at].Hi = n.ID
			if d.nodes[at].Batch == target {
				break
			}
		}
	}
	// The range of an older batch covers its new members; other nodes may lie
	// in it too.
	for id := target; id != NoBatch; {
		a, ok := d.find(id)
		if !ok {
			return nil
		}
		n := d.touch(a)
		if n.Hi < n.Lo {
			n.Lo = first
		}
		n.Hi = max(n.Hi, last)
		id = n.Batch
	}
	return nil
}

// addEdges checks the edges and hangs them in.
func (d *decider) addEdges(b int32, first int, edges []Edge) error {
	target := d.nodes[b].ID
	for _, e := range edges {
		c, ok := d.index[e.Child]
		if !ok || int(c) < first {
			return invalid("an appended edge must lead into a new node (%d after %d)", e.Child, e.Parent)
		}
		if e.On == None || e.On&^Always != 0 {
			return invalid("the edge from %d to %d has the condition %d", e.Parent, e.Child, e.On)
		}
		if e.Parent == Root {
			return invalid("the workflow itself cannot be a parent (of node %d)", e.Child)
		}
		p, ok := d.find(e.Parent)
		if !ok {
			continue
		}
		if int(p) < first && target != Root && !faulty(faultParentOutside) {
			inside, ok := d.inside(p, target)
			if ok && !inside {
				return refused("%s lies outside batch %d; a node put into that batch may only wait for nodes inside it", noun(&d.nodes[p]), target)
			}
		}
		if !d.nodes[p].HasChildren {
			d.touch(p).HasChildren = true
		}
		d.out[e.Parent] = append(d.out[e.Parent], e)
		d.in[e.Child] = append(d.in[e.Child], e)
	}
	return nil
}

// inside tells whether a node lies in a batch, at any depth.
func (d *decider) inside(s int32, batch ID) (inside, ok bool) {
	for id := d.nodes[s].Batch; id != NoBatch; {
		if id == batch {
			return true, true
		}
		b, ok := d.find(id)
		if !ok {
			return false, false
		}
		id = d.nodes[b].Batch
	}
	return false, true
}

// addCounters gives the new nodes their counters: parents that have ended
// decide at once.
func (d *decider) addCounters(first int) error {
	for s := first; s < len(d.nodes); s++ {
		n := &d.nodes[s]
		edges := int32(len(d.in[n.ID]))
		if n.Join < 0 || n.Join > edges {
			return invalid("node %d is to start after %d of %d parents", n.ID, n.Join, edges)
		}
		d.countEdges(int32(s))
	}
	return nil
}
