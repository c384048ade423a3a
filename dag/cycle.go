package dag

import (
	"strconv"
	"strings"
)

// CycleError says that a graph could never end: some of its starts and ends
// wait for each other.
type CycleError struct {
	// Steps follow each other; the first comes again after the last.
	Steps []CycleStep
}

// CycleStep is the start or the end of a node.
type CycleStep struct {
	Node ID
	Path string // names joined by "/"; empty for nodes without a name
	Ends bool   // its end, else its start
}

// String gives the step in words.
func (s CycleStep) String() string {
	name := s.Path
	if name == "" {
		name = "node " + strconv.Itoa(int(s.Node))
	}
	if s.Ends {
		return name + " ends"
	}
	return name + " starts"
}

// shownSteps bounds the sentence of a long cycle.
const shownSteps = 24

// Error names the cycle node by node.
func (e *CycleError) Error() string {
	var text strings.Builder
	text.WriteString("these wait for each other in a cycle: ")
	for i, step := range e.Steps {
		if i == shownSteps/2 && len(e.Steps) > shownSteps {
			text.WriteString("... (" + strconv.Itoa(len(e.Steps)-shownSteps) + " more) -> ")
		}
		if i >= shownSteps/2 && i < len(e.Steps)-shownSteps/2 && len(e.Steps) > shownSteps {
			continue
		}
		text.WriteString(step.String() + " -> ")
	}
	if len(e.Steps) > 0 {
		text.WriteString(e.Steps[0].String())
	}
	return text.String()
}

// Is makes a cycle a case of ErrInvalid.
func (e *CycleError) Is(target error) bool { return target == ErrInvalid }

// adjacency is a compressed list of the neighbours of each node.
type adjacency struct {
	first []int32
	to    []int32
}

func (a adjacency) of(id int32) []int32 { return a.to[a.first[id]:a.first[id+1]] }

// index sorts pairs by their key, keeping the order of equal ones.
func index(keys, values []int32, n int) adjacency {
	a := adjacency{first: make([]int32, n+1), to: make([]int32, len(keys))}
	for _, k := range keys {
		a.first[k+1]++
	}
	for i := 1; i <= n; i++ {
		a.first[i] += a.first[i-1]
	}
	next := make([]int32, n)
	copy(next, a.first)
	for i, k := range keys {
		a.to[next[k]] = values[i]
		next[k]++
	}
	return a
}

// cycle looks for a cycle among events: every node has a start and an end. A
// node's start comes before its end; a batch's start before the starts of its
// members, and their ends before its end; a parent's end before its child's
// start. Event 2n is the start of node n, 2n+1 its end.
func (b *Builder) cycle(out adjacency) *CycleError {
	n := int32(len(b.batch))
	ids := make([]int32, n-1)
	for i := range ids {
		ids[i] = int32(i) + 1
	}
	members := index(b.batch[1:], ids, int(n))
	waits := make([]int32, 2*n)
	for id := int32(0); id < n; id++ {
		if id > 0 {
			waits[2*id] = 1 // for the start of its batch
		}
		waits[2*id+1] = 1 + int32(len(members.of(id)))
	}
	for _, c := range b.child {
		waits[2*c]++
	}
	queue := make([]int32, 1, 2*n)
	happens := func(event int32) {
		waits[event]--
		if waits[event] == 0 {
			queue = append(queue, event)
		}
	}
	for head := 0; head < len(queue); head++ {
		event := queue[head]
		id := event / 2
		if event%2 == 0 {
			happens(event + 1)
			for _, m := range members.of(id) {
				happens(2 * m)
			}
			continue
		}
		if id > 0 {
			happens(2*b.batch[id] + 1)
		}
		for _, c := range out.of(id) {
			happens(2 * c)
		}
	}
	if len(queue) == int(2*n) || faulty(faultPlainCycles) && members.first[n] > members.first[1] {
		return nil
	}
	return b.describe(waits, members)
}

// describe walks back from an event that never happens through others that
// never happen until it comes upon one again.
func (b *Builder) describe(waits []int32, members adjacency) *CycleError {
	in := index(b.child, b.parent, len(b.batch))
	at := int32(0)
	for waits[at] == 0 {
		at++
	}
	place := make(map[int32]int)
	var path []int32
	for {
		if from, ok := place[at]; ok {
			path = path[from:]
			break
		}
		place[at] = len(path)
		path = append(path, at)
		at = b.stuckBefore(at, waits, members, in)
	}
	cycle := &CycleError{Steps: make([]CycleStep, len(path))}
	for i, event := range path {
		id := event / 2
		cycle.Steps[len(path)-1-i] = CycleStep{Node: ID(id), Path: b.path(id), Ends: event%2 == 1}
	}
	return cycle
}

// stuckBefore gives an event that must come before another and never happens.
// An end prefers its members over its own start: the cycle is the shorter.
func (b *Builder) stuckBefore(event int32, waits []int32, members, in adjacency) int32 {
	id := event / 2
	if event%2 == 1 {
		for _, m := range members.of(id) {
			if waits[2*m+1] > 0 {
				return 2*m + 1
			}
		}
		return event - 1
	}
	for _, p := range in.of(id) {
		if waits[2*p+1] > 0 {
			return 2*p + 1
		}
	}
	return 2 * b.batch[id]
}
