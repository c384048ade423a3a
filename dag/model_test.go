package dag_test

import (
	"slices"

	"github.com/heddle-io/heddle/dag"
)

// model is the slow and obvious form of the rules: no counters, no loading, no
// cascades. It keeps the facts of every node and finds everything else by going
// over the whole graph again and again until nothing changes.
type model struct {
	nodes []fact
	edges []dag.Edge
}

type fact struct {
	def       dag.Def
	released  bool
	outcome   dag.Outcome // None: has not ended
	cancelled bool
	running   bool
}

func newModel(g *dag.Graph) *model {
	m := &model{edges: slices.Clone(g.Edges)}
	m.nodes = append(m.nodes, fact{def: dag.Def{IsBatch: true, Batch: dag.NoBatch, Tolerance: g.Tolerance, Open: g.Open}, released: true})
	for _, def := range g.Nodes {
		m.nodes = append(m.nodes, fact{def: def})
	}
	m.settle()
	return m
}

// state is what a node is compared by.
type state struct {
	State   dag.State
	Outcome dag.Outcome
}

func (m *model) state(id dag.ID) state {
	n := &m.nodes[id]
	switch {
	case n.outcome != dag.None:
		return state{dag.Ended, n.outcome}
	case n.released:
		return state{dag.Released, dag.None}
	}
	return state{dag.Blocked, dag.None}
}

// tally counts the edges into a node.
func (m *model) tally(id dag.ID) (fired, dead, k int) {
	n := 0
	for _, e := range m.edges {
		if e.Child != id {
			continue
		}
		n++
		p := &m.nodes[e.Parent]
		switch {
		case p.outcome == dag.None || p.outcome == dag.Failed && p.def.Hold && e.On&dag.Failed == 0:
		case p.outcome&e.On != 0:
			fired++
		default:
			dead++
		}
	}
	if k = int(m.nodes[id].def.Join); k == 0 {
		k = n
	}
	if n-dead < k {
		return fired, -1, k // hopeless
	}
	return fired, dead, k
}

func (m *model) settle() {
	for again := true; again; {
		again = false
		for i := len(m.nodes) - 1; i >= 0; i-- {
			again = m.look(dag.ID(i)) || again
		}
	}
}

func (m *model) look(id dag.ID) bool {
	n := &m.nodes[id]
	switch {
	case n.outcome != dag.None:
		return false
	case n.released && n.def.IsBatch:
		return m.endBatch(id)
	case n.released:
		return false
	}
	batch := &m.nodes[n.def.Batch]
	fired, dead, k := m.tally(id)
	switch {
	case n.def.IsBatch && n.cancelled: // everything inside is cancelled at once
		return false
	case dead < 0 || batch.outcome != dag.None && !batch.released:
		m.skip(id)
		return true
	case batch.released && fired >= k:
		n.released = true
		return true
	}
	return false
}

func (m *model) skip(id dag.ID) {
	for i := range m.nodes {
		if m.inside(dag.ID(i), id) && m.nodes[i].outcome == dag.None {
			m.nodes[i].outcome = dag.Skipped
		}
	}
	m.nodes[id].outcome = dag.Skipped
}

// inside tells whether a node lies in a batch, at any depth.
func (m *model) inside(id, batch dag.ID) bool {
	for at := m.nodes[id].def.Batch; at != dag.NoBatch; at = m.nodes[at].def.Batch {
		if at == batch {
			return true
		}
	}
	return false
}

func (m *model) endBatch(id dag.ID) bool {
	n := &m.nodes[id]
	var total, failed, cancelled, skipped int
	for i := range m.nodes {
		if m.nodes[i].def.Batch != id {
			continue
		}
		total++
		switch m.nodes[i].outcome {
		case dag.None:
			return false
		case dag.Failed:
			failed++
		case dag.Cancelled:
			cancelled++
		case dag.Skipped:
			skipped++
		}
	}
	beyond := func(bad int) bool {
		if n.def.Tolerance.Percent > 0 {
			return float64(bad)*100 > n.def.Tolerance.Percent*float64(total)
		}
		return bad > int(n.def.Tolerance.Count)
	}
	switch {
	case n.cancelled:
		n.outcome = dag.Cancelled
	case n.def.Open:
		return false
	case beyond(failed):
		n.outcome = dag.Failed
	case beyond(failed + cancelled):
		n.outcome = dag.Cancelled
	case total > 0 && skipped == total:
		n.outcome = dag.Skipped
	default:
		n.outcome = dag.Succeeded
	}
	return true
}

// apply gives whether the event is accepted.
func (m *model) apply(e dag.Event) bool {
	n := &m.nodes[e.Node]
	ok := true
	switch e.Kind {
	case dag.Report:
		if ok = !n.def.IsBatch && n.released && n.outcome == dag.None; ok {
			n.outcome = e.Outcome
			if n.cancelled && e.Outcome == dag.Failed {
				n.outcome = dag.Cancelled
			}
			n.running = false
		}
	case dag.Cancel:
		if n.outcome != dag.None {
			n.def.Hold = false
		} else {
			m.cancel(e.Node, e.Force)
		}
	case dag.Retry:
		ok = m.retry(e.Node, e.Downstream)
	case dag.Dismiss:
		was := n.released
		n.released = true // as if it ran
		if ok = !n.def.IsBatch && m.retry(e.Node, false); ok {
			n.outcome = dag.Succeeded
		}
		n.released = was
	case dag.GiveUp:
		ok = n.def.Hold
		n.def.Hold = false
	case dag.Seal:
		if ok = n.def.IsBatch; ok {
			n.def.Open = false
		}
	}
	if ok && e.Kind != dag.Retry {
		m.settle()
	}
	return ok
}

func (m *model) cancel(id dag.ID, force bool) {
	n := &m.nodes[id]
	switch {
	case n.outcome != dag.None:
	case !n.def.IsBatch && n.released && n.running:
		n.cancelled = true
	case !n.def.IsBatch:
		n.outcome = dag.Cancelled
	case !n.released:
		for i := range m.nodes {
			if in := &m.nodes[i]; (dag.ID(i) == id || m.inside(dag.ID(i), id)) && in.outcome == dag.None {
				in.outcome = dag.Cancelled
				in.cancelled = in.def.IsBatch
			}
		}
	case n.cancelled && !force:
	default:
		n.cancelled = true
		for i := range m.nodes {
			if in := &m.nodes[i]; in.def.Batch == id && (force || !in.def.Cleanup) {
				m.cancel(dag.ID(i), force)
			}
		}
	}
}

// retry resets, closes and settles; a dismissed job settles after its report.
func (m *model) retry(id dag.ID, downstream bool) bool {
	n := &m.nodes[id]
	for at := n.def.Batch; at != dag.NoBatch; at = m.nodes[at].def.Batch {
		if m.nodes[at].cancelled {
			return false
		}
	}
	var chosen []dag.ID
	unmarked := map[dag.ID]bool{}
	if !n.def.IsBatch {
		if n.outcome != dag.Failed && n.outcome != dag.Cancelled {
			return false
		}
		chosen = append(chosen, id)
	} else {
		if n.outcome == dag.Skipped {
			return false
		}
		for i := range m.nodes {
			in := &m.nodes[i]
			if dag.ID(i) != id && !m.inside(dag.ID(i), id) {
				continue
			}
			if in.def.IsBatch && in.cancelled {
				unmarked[dag.ID(i)] = true
			}
			if in.outcome == dag.Cancelled || in.outcome == dag.Failed && !in.def.IsBatch {
				chosen = append(chosen, dag.ID(i))
			}
		}
		if len(chosen)+len(unmarked) == 0 {
			return false
		}
	}
	var unrun []dag.ID
	if downstream {
		starts, _ := m.reach(chosen, true)
		for _, i := range starts {
			in := &m.nodes[i]
			if !in.released {
				continue
			}
			if !in.def.IsBatch && in.outcome == dag.None {
				return false
			}
			for at := in.def.Batch; at != dag.NoBatch; at = m.nodes[at].def.Batch {
				if m.nodes[at].cancelled && !unmarked[at] {
					return false
				}
			}
			unrun = append(unrun, i)
		}
	}
	reset := map[dag.ID]bool{}
	back := func(i dag.ID) {
		in := &m.nodes[i]
		in.outcome = dag.None
		if !in.def.IsBatch {
			in.cancelled = false
		}
		reset[i] = true
	}
	for i := range unmarked {
		m.nodes[i].cancelled = false
		for j := range m.nodes {
			if in := &m.nodes[j]; in.def.Batch == i && in.outcome == dag.Skipped && !in.released {
				back(dag.ID(j))
			}
		}
	}
	for _, i := range chosen {
		back(i)
	}
	for _, i := range unrun {
		back(i)
		m.nodes[i].released = false
		m.nodes[i].cancelled = false
	}
	m.closeOver(reset, back)
	m.settle()
	return true
}

func (m *model) closeOver(reset map[dag.ID]bool, back func(dag.ID)) {
	for again := true; again; {
		again = false
		for i := range m.nodes {
			in := &m.nodes[i]
			id := dag.ID(i)
			if in.outcome == dag.None {
				continue
			}
			around := false // an ended batch around a reset node
			for r := range reset {
				around = around || m.nodes[r].def.Batch == id
			}
			skipped := in.outcome == dag.Skipped && !in.released && !m.shut(id)
			after := false
			for _, e := range m.edges {
				after = after || e.Child == id && reset[e.Parent]
			}
			within := false
			if b := in.def.Batch; b != dag.NoBatch {
				within = reset[b] && !m.nodes[b].released
			}
			if around || skipped && (after || within) {
				back(id)
				again = true
			}
		}
	}
}

// shut tells that a cancelled batch keeps a skipped node as it is.
func (m *model) shut(id dag.ID) bool {
	cleanup := m.nodes[id].def.Cleanup
	for at := m.nodes[id].def.Batch; at != dag.NoBatch; at = m.nodes[at].def.Batch {
		if b := &m.nodes[at]; b.cancelled && (!cleanup || !b.released) {
			return true
		}
		cleanup = m.nodes[at].def.Cleanup || cleanup && m.nodes[at].released
	}
	return false
}

// reach gives the nodes whose start, and those whose end, can be reached from
// the ends of some nodes, or from their starts.
func (m *model) reach(from []dag.ID, fromEnds bool) (starts, ends []dag.ID) {
	type event struct {
		id  dag.ID
		end bool
	}
	seen := map[event]bool{}
	var walk func(event)
	walk = func(e event) {
		if seen[e] {
			return
		}
		seen[e] = true
		if !e.end {
			walk(event{e.id, true})
			for i := range m.nodes {
				if m.nodes[i].def.Batch == e.id {
					walk(event{dag.ID(i), false})
				}
			}
			return
		}
		if b := m.nodes[e.id].def.Batch; b != dag.NoBatch {
			walk(event{b, true})
		}
		for _, edge := range m.edges {
			if edge.Parent == e.id {
				walk(event{edge.Child, false})
			}
		}
	}
	for _, id := range from {
		walk(event{id, fromEnds})
	}
	for i := range m.nodes {
		if seen[event{dag.ID(i), false}] {
			starts = append(starts, dag.ID(i))
		}
		if seen[event{dag.ID(i), true}] {
			ends = append(ends, dag.ID(i))
		}
	}
	return starts, ends
}
