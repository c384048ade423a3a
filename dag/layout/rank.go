package layout

import "github.com/heddle-io/heddle/dag"

// ranks orders the starts and ends of nodes. before[n] is how many nodes run one
// after the other before node n can start, until[n] the same for the last member
// of batch n (of a job: before[n]), after[n] how many run one after the other
// from the start of n on. Of a graph with a cycle the cycle is left at 0.
type ranks struct {
	before, until, after []int32
}

// adjacency lists the edges of each node.
type adjacency struct {
	first []int32
	to    []int32 // the other end
	on    []dag.Outcome
}

func (a *adjacency) of(id int32) (to []int32, on []dag.Outcome) {
	from, end := a.first[id], a.first[id+1]
	return a.to[from:end], a.on[from:end]
}

// adjacencies gives the edges out of and into each node.
func adjacencies(s Structure) (out, in adjacency) {
	n, m := s.Len()+1, s.NumEdges()
	for _, a := range [...]*adjacency{&out, &in} {
		a.first = make([]int32, n+1)
		a.to = make([]int32, m)
		a.on = make([]dag.Outcome, m)
	}
	for i := range m {
		e := s.Edge(i)
		out.first[e.Parent+1]++
		in.first[e.Child+1]++
	}
	for i := 1; i <= n; i++ {
		out.first[i] += out.first[i-1]
		in.first[i] += in.first[i-1]
	}
	atOut, atIn := make([]int32, n), make([]int32, n)
	copy(atOut, out.first)
	copy(atIn, in.first)
	for i := range m {
		e := s.Edge(i)
		out.to[atOut[e.Parent]], out.on[atOut[e.Parent]] = int32(e.Child), e.On
		atOut[e.Parent]++
		in.to[atIn[e.Child]], in.on[atIn[e.Child]] = int32(e.Parent), e.On
		atIn[e.Child]++
	}
	return out, in
}

// rank walks the events of the graph in an order in which they can happen:
// event 2n is the start of node n, 2n+1 its end.
func rank(s Structure, out, in *adjacency) ranks {
	n := int32(s.Len() + 1)
	batch := make([]int32, n)
	members := make([]int32, n+1) // first, counted up, as in adjacency
	for id := int32(1); id < n; id++ {
		batch[id] = int32(s.Batch(dag.ID(id)))
		members[batch[id]+1]++
	}
	for i := int32(1); i <= n; i++ {
		members[i] += members[i-1]
	}
	at := make([]int32, n)
	copy(at, members)
	member := make([]int32, n)
	for id := int32(1); id < n; id++ {
		member[at[batch[id]]] = id
		at[batch[id]]++
	}

	waits := make([]int32, 2*n)
	for id := int32(0); id < n; id++ {
		if id > 0 {
			waits[2*id] = 1 + in.first[id+1] - in.first[id]
		}
		waits[2*id+1] = 1 + members[id+1] - members[id]
	}
	depth := make([]int32, 2*n)
	order := make([]int32, 1, 2*n)
	follow := func(event, from, weight int32) {
		depth[event] = max(depth[event], depth[from]+weight)
		waits[event]--
		if waits[event] == 0 {
			order = append(order, event)
		}
	}
	for head := 0; head < len(order); head++ {
		event := order[head]
		id := event / 2
		if event%2 == 0 {
			follow(event+1, event, 1)
			for _, m := range member[members[id]:members[id+1]] {
				follow(2*m, event, 0)
			}
			continue
		}
		if id > 0 {
			follow(2*batch[id]+1, event, 0)
		}
		to, _ := out.of(id)
		for _, c := range to {
			follow(2*c, event, 0)
		}
	}

	r := ranks{before: make([]int32, n), until: make([]int32, n), after: make([]int32, n)}
	height := make([]int32, 2*n)
	for i := len(order) - 1; i >= 0; i-- {
		event := order[i]
		id := event / 2
		if event%2 == 1 {
			h := int32(0)
			if id > 0 {
				h = height[2*batch[id]+1]
			}
			to, _ := out.of(id)
			for _, c := range to {
				h = max(h, height[2*c])
			}
			height[event] = h
			r.until[id] = depth[event] - 1
			continue
		}
		h := height[event+1] + 1
		for _, m := range member[members[id]:members[id+1]] {
			h = max(h, height[2*m])
		}
		height[event] = h
		r.before[id], r.after[id] = depth[event], h
	}
	return r
}
