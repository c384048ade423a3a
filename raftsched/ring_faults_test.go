package raftsched

import "time"

// fault breaks something for a while.
func (r *ring) fault() {
	lasts := r.between(30*time.Millisecond, 800*time.Millisecond)
	switch k := r.intn(20); {
	case k < 3:
		r.fullPartition(lasts)
	case k < 6:
		r.oneWay(lasts)
	case k < 8:
		r.isolateLeader(lasts)
	case k < 11:
		r.pauseNode(lasts)
	case k < 13:
		r.cutDatabase(lasts)
	case k < 15:
		r.restart(false)
	case k < 16:
		r.restart(true)
	case k < 18:
		r.cutWorker(lasts)
	default:
		r.transfer()
	}
	time.Sleep(r.between(0, 400*time.Millisecond))
}

func (r *ring) node() *ringNode { return r.nodes[r.intn(len(r.nodes))] }

// some node, the leader more often than not.
func (r *ring) prey() *ringNode {
	if n := r.leader(); n != nil && r.chance(60) {
		return n
	}
	return r.node()
}

// fullPartition puts the nodes on two sides.
func (r *ring) fullPartition(lasts time.Duration) {
	side := map[string]bool{}
	for _, n := range r.nodes {
		side[n.addr] = r.chance(50)
	}
	r.logf("fault: partition %v for %v", side, lasts)
	cut := func(on bool) {
		for _, a := range r.nodes {
			for _, b := range r.nodes {
				if side[a.addr] != side[b.addr] {
					r.net.setCut(a.addr, b.addr, on)
				}
			}
		}
	}
	cut(true)
	time.Sleep(lasts)
	cut(false)
}

// oneWay loses what one node says to some others.
func (r *ring) oneWay(lasts time.Duration) {
	from := r.prey()
	var to []*ringNode
	for _, n := range r.nodes {
		if n != from && r.chance(70) {
			to = append(to, n)
		}
	}
	heard := r.chance(50)
	r.logf("fault: one way %s, %d others, heard %v, for %v", from.id, len(to), heard, lasts)
	cut := func(on bool) {
		for _, n := range to {
			if heard {
				r.net.setCut(n.addr, from.addr, on)
			} else {
				r.net.setCut(from.addr, n.addr, on)
			}
		}
	}
	cut(true)
	time.Sleep(lasts)
	cut(false)
}

func (r *ring) alone(n *ringNode, on bool) {
	for _, other := range r.nodes {
		if other != n {
			r.net.setCut(n.addr, other.addr, on)
			r.net.setCut(other.addr, n.addr, on)
		}
	}
}

// isolateLeader cuts the leader off the others; workers still reach it.
func (r *ring) isolateLeader(lasts time.Duration) {
	n := r.leader()
	if n == nil {
		n = r.node()
	}
	r.logf("fault: isolate %s for %v", n.id, lasts)
	r.alone(n, true)
	time.Sleep(lasts)
	r.alone(n, false)
}

// pauseNode holds a node's disk, network, database and callers. What its
// process would do by itself it does.
func (r *ring) pauseNode(lasts time.Duration) {
	n := r.prey()
	_, p := n.now()
	r.logf("fault: pause %s for %v", n.id, lasts)
	p.pause(true)
	r.alone(n, true)
	time.Sleep(lasts)
	if r.chance(50) {
		p.pause(false)
		time.Sleep(r.between(0, 50*time.Millisecond))
		r.alone(n, false)
	} else {
		r.alone(n, false)
		p.pause(false)
	}
}

// cutDatabase takes the database from a node.
func (r *ring) cutDatabase(lasts time.Duration) {
	n := r.prey()
	_, p := n.now()
	r.logf("fault: no database for %s for %v", n.id, lasts)
	set := func(on bool) {
		p.mu.Lock()
		p.noDB = on
		p.mu.Unlock()
	}
	set(true)
	time.Sleep(lasts)
	set(false)
}

// restart a node, gracefully or not.
func (r *ring) restart(graceful bool) {
	n := r.prey()
	r.logf("fault: restart %s, graceful %v", n.id, graceful)
	if graceful {
		n.shutdown()
	} else {
		n.crash()
	}
	time.Sleep(r.between(0, 800*time.Millisecond))
	n.start()
}

// cutWorker takes a worker from all nodes, for longer than its TTL now and then.
func (r *ring) cutWorker(lasts time.Duration) {
	w := r.workers[r.intn(len(r.workers))]
	if r.chance(20) {
		lasts = ringTTL + lasts
	}
	r.logf("fault: cut worker %s for %v", w.name, lasts)
	w.setCut(true)
	time.Sleep(lasts)
	w.setCut(false)
}

// transfer the leadership by hand.
func (r *ring) transfer() {
	n := r.leader()
	if n == nil {
		return
	}
	r.logf("fault: transfer from %s", n.id)
	node, _ := n.now()
	_, _ = node.Transfer(r.t.Context(), "")
}

// heal everything.
func (r *ring) heal() {
	for _, a := range r.nodes {
		for _, b := range r.nodes {
			if a != b {
				r.net.setCut(a.addr, b.addr, false)
			}
		}
	}
}
