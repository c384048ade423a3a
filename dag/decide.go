package dag

import (
	"cmp"
	"slices"
)

// spread is how many times CascadeLimit direct members one decision may touch
// through batches below the limit; beyond, smaller batches cascade too.
const spread = 10

// Marks on the nodes of a decision.
const (
	markTouched uint32 = 1 << iota
	markQueued
	markNew
	markReleased
	markEnded
	markReset
	markTold
	markCascade
	markRecount
	markDoomed
	markUndoomed
	markInside
	markReachedStart
	markReachedEnd
	askedOut
	askedIn
	askedMembers
	askedTroubled
)

// decider is the working state of one Decide: copies of the region's nodes,
// indexed like its slots, followed by the nodes that events appended.
type decider struct {
	r     *Region
	limit int32

	nodes   []Node
	marks   []uint32
	touched []int32

	queue []int32 // nodes to look at
	head  int

	// Of Append events: what the region does not hold.
	index   map[ID]int32
	out, in map[ID][]Edge
	members map[ID][]ID

	stack    []int32 // batches on their way to be skipped or cancelled
	expanded int64   // members touched through batches below the limit
	reopen   []int32 // nodes that a retry took back, to be closed over
	passed   []int32 // skipped nodes that retries passed by, as their batch was cancelled
	recount  []int32 // blocked nodes whose counters a retry made doubtful

	missing Missing
	asked   map[ID]struct{}
	dropped []int
}

// Decide applies the events in order, each followed by settling, and answers
// what changed; or what is missing to know it, then without changes; or an
// error wrapping ErrRefused or ErrInvalid, and then nothing at all is to be
// done. It is pure over what was put.
//
// The nodes of the enclosing batches are asked for one level at a time: putting
// all of them along with a node saves rounds.
func (r *Region) Decide(events ...Event) (Decision, error) {
	d := decider{
		r:     r,
		limit: r.CascadeLimit,
		nodes: make([]Node, len(r.slots), len(r.slots)+8),
		marks: make([]uint32, len(r.slots), len(r.slots)+8),
	}
	if d.limit <= 0 {
		d.limit = CascadeLimit
	}
	for i := range r.slots {
		d.nodes[i] = r.slots[i].node
	}
	for i := range events {
		if err := d.apply(i, &events[i]); err != nil {
			if !d.missing.Empty() {
				break
			}
			return Decision{}, err
		}
		d.settle()
	}
	if !d.missing.Empty() {
		return Decision{Missing: d.missing}, nil
	}
	return Decision{Changes: d.changes(), Dropped: d.dropped}, nil
}

func (d *decider) apply(i int, e *Event) error {
	switch e.Kind {
	case Report:
		return d.report(e)
	case Cancel:
		return d.cancel(e)
	case Retry:
		return d.retry(e)
	case Dismiss:
		return d.dismiss(e)
	case GiveUp:
		return d.giveUp(e)
	case Seal:
		return d.seal(e)
	case Append:
		return d.append(i, e)
	case Step:
		return d.step(e)
	case Settle:
		if s, ok := d.find(e.Node); ok {
			d.push(s)
		}
		return nil
	}
	return invalid("no event has the kind %d", e.Kind)
}

// report ends a released job.
func (d *decider) report(e *Event) error {
	switch e.Outcome {
	case Succeeded, Failed, Cancelled:
	default:
		return invalid("a job cannot be reported %s (job %d)", e.Outcome, e.Node)
	}
	s, ok := d.find(e.Node)
	if !ok {
		return nil
	}
	n := &d.nodes[s]
	switch {
	case n.IsBatch:
		return invalid("%s is no job and cannot be reported", noun(n))
	case n.State == Ended:
		return refused("%s has already ended %s", noun(n), n.Outcome)
	case n.State == Blocked:
		return refused("%s has not been released", noun(n))
	}
	o := e.Outcome
	if o == Failed {
		// Done is done, but any other end after a cancel request is cancelled,
		// also if the request has not yet been handed down to this job.
		fate, ok := d.fate(s)
		if !ok {
			return nil
		}
		if (n.Cancelled || fate == fateCancel) && !faulty(faultCancelledFails) {
			o = Cancelled
		}
	}
	d.end(s, o)
	return nil
}

// find gives the place of a node and asks for it if it was not put.
func (d *decider) find(id ID) (int32, bool) {
	if s, ok := d.known(id); ok {
		return s, true
	}
	if _, done := d.asked[id]; !done {
		if d.asked == nil {
			d.asked = make(map[ID]struct{})
		}
		d.asked[id] = struct{}{}
		d.missing.Nodes = append(d.missing.Nodes, id)
	}
	return 0, false
}

func (d *decider) known(id ID) (int32, bool) {
	if s, ok := d.r.index[id]; ok && d.r.slots[s].have&haveNode != 0 {
		return s, true
	}
	s, ok := d.index[id]
	return s, ok
}

// put gives what the region holds about a node, nil for an appended one.
func (d *decider) put(s int32) *slot {
	if int(s) < len(d.r.slots) {
		return &d.r.slots[s]
	}
	return nil
}

// ask notes once that something of a node is missing.
func (d *decider) ask(s int32, mark uint32, list *[]ID) {
	if d.marks[s]&mark == 0 {
		d.marks[s] |= mark
		*list = append(*list, d.nodes[s].ID)
	}
}

// outOf gives the edges out of a node: stored ones and appended ones.
func (d *decider) outOf(s int32) (stored, appended []Edge) {
	n := &d.nodes[s]
	if !n.HasChildren {
		return nil, nil
	}
	appended = d.out[n.ID]
	p := d.put(s)
	if p == nil || !p.node.HasChildren {
		return nil, appended
	}
	if p.have&haveOut == 0 {
		d.ask(s, askedOut, &d.missing.Out)
		return nil, appended
	}
	return p.out, appended
}

// into gives the edges into a node. Appended edges lead to appended nodes only,
// so that a node has the one or the other.
func (d *decider) into(s int32) ([]Edge, bool) {
	p := d.put(s)
	if p == nil {
		return d.in[d.nodes[s].ID], true
	}
	if p.have&haveIn == 0 {
		d.ask(s, askedIn, &d.missing.In)
		return nil, false
	}
	return p.in, true
}

// membersOf gives the direct members of a batch: stored ones and appended ones.
func (d *decider) membersOf(s int32) (stored, appended []ID) {
	appended = d.members[d.nodes[s].ID]
	p := d.put(s)
	if p == nil || p.node.Total == 0 {
		return nil, appended
	}
	if p.have&haveMembers == 0 {
		d.ask(s, askedMembers, &d.missing.Members)
		return nil, appended
	}
	return p.members, appended
}

func (d *decider) troubledOf(s int32) (stored, appended []ID) {
	appended = d.members[d.nodes[s].ID]
	p := d.put(s)
	if p == nil || p.node.Total == 0 {
		return nil, appended
	}
	if p.have&haveMembers != 0 {
		return p.members, appended
	}
	if p.have&haveTroubled == 0 {
		d.ask(s, askedTroubled, &d.missing.Troubled)
		return nil, appended
	}
	return p.troubled, appended
}

// inline decides whether an event goes down to the members of a batch at once
// or by a cascade. Members that this decision appends are written by it anyway.
func (d *decider) inline(s int32) bool {
	if d.marks[s]&markNew != 0 {
		return true
	}
	total := d.nodes[s].Total
	if total > d.limit || d.expanded+int64(total) > spread*int64(d.limit) {
		return false
	}
	d.expanded += int64(total)
	return true
}

// touch gives a node to change. The pointer is good until the next append.
func (d *decider) touch(s int32) *Node {
	if d.marks[s]&markTouched == 0 {
		d.marks[s] |= markTouched
		d.touched = append(d.touched, s)
	}
	return &d.nodes[s]
}

// push puts a node into the queue of those to look at.
func (d *decider) push(s int32) {
	if d.marks[s]&markQueued == 0 {
		d.marks[s] |= markQueued
		d.queue = append(d.queue, s)
	}
}

// changes sums up the decision.
func (d *decider) changes() []Change {
	if len(d.touched) == 0 {
		return nil
	}
	byID := func(a, b int32) int { return cmp.Compare(d.nodes[a].ID, d.nodes[b].ID) }
	if !slices.IsSortedFunc(d.touched, byID) {
		slices.SortFunc(d.touched, byID)
	}
	changes := make([]Change, 0, len(d.touched))
	for _, s := range d.touched {
		n, marks := &d.nodes[s], d.marks[s]
		if p := d.put(s); p != nil {
			if d.unmoved(s) {
				marks &^= markReset | markEnded
				n.Life, n.Need, n.Slack, n.ReleasedBy = p.node.Life, p.node.Need, p.node.Slack, p.node.ReleasedBy
			}
			if marks&(markReleased|markEnded|markReset|markTold|markCascade) == 0 && *n == p.node {
				continue
			}
		}
		changes = append(changes, Change{
			Node:     *n,
			New:      marks&markNew != 0,
			Released: marks&markReleased != 0,
			Ended:    marks&markEnded != 0,
			Reset:    marks&markReset != 0,
			Told:     marks&markTold != 0,
			Cascade:  marks&markCascade != 0,
		})
	}
	return changes
}

// unmoved tells that a node was taken back and has ended again as before,
// without having been released: a skipped node that another parent keeps
// skipped. Nothing of that needs to be written.
func (d *decider) unmoved(s int32) bool {
	was, n := &d.r.slots[s].node, &d.nodes[s]
	return d.marks[s]&markReset != 0 && was.State == Ended && n.State == Ended &&
		was.Outcome == n.Outcome && !was.Released && !n.Released
}
