package wire

import (
	"strconv"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// maxPath bounds the bytes of a path; what lies deeper has none.
const maxPath = 16 * (maxText + 1)

// nesting follows the batches that enclose the present place of a depth-first
// list of nodes. The zero value stands in the root.
type nesting struct {
	open []int32 // numbers of the enclosing batches, outermost first; the root is left out
}

// enter places the node of that number into container and reports whether the
// list may go on there: only in a batch that is still open.
func (n *nesting) enter(number, container int32, isBatch bool) bool {
	for len(n.open) > 0 && n.open[len(n.open)-1] != container {
		n.open = n.open[:len(n.open)-1]
	}
	if len(n.open) == 0 && container != 0 {
		return false
	}
	if isBatch {
		n.open = append(n.open, number)
	}
	return true
}

// shape is where the nodes of a graph belong. Nodes are named by their number
// in the order given, from 1; 0 is what encloses them all.
type shape struct {
	container []int32          // by given number
	paths     map[string]int32 // of named nodes; nil if nothing is addressed by path
	order     []int32          // given numbers, depth first
	number    []int32          // by given number: number in that order
}

// arrange finds the containers of the nodes and their depth-first order. In a
// grown graph containers by number are negative.
func arrange(nodes []*heddlev1.NodeSpec, grown bool) (*shape, error) {
	s := &shape{container: make([]int32, len(nodes)+1)}
	byPath := false
	for i, n := range nodes {
		byPath = byPath || n.GetIn() != "" || len(n.GetAfter()) > 0
		c, err := containerNumber(n, int32(len(nodes)), grown)
		if err != nil {
			return nil, withinItem("nodes", i, err)
		}
		if c > 0 && nodes[c-1].GetBatch() == nil {
			return nil, withinItem("nodes", i, invalid("container", "%d is no batch", n.GetContainer()))
		}
		s.container[i+1] = c
	}
	if !byPath {
		return s, s.given(nodes)
	}
	if err := s.address(nodes); err != nil {
		return nil, err
	}
	return s, s.sort(nodes)
}

// containerNumber checks the number of a node's container.
func containerNumber(n *heddlev1.NodeSpec, count int32, grown bool) (int32, error) {
	c := n.GetContainer()
	if n.GetIn() != "" && c != 0 {
		return 0, invalid("in", "%q is set beside container, %d; give one of them", n.GetIn(), c)
	}
	if grown {
		if c > 0 || c < -count {
			return 0, invalid("container", "%d is no new batch (-1 to -%d; 0: the batch that grows)", c, count)
		}
		return -c, nil
	}
	if c < 0 || c > count {
		return 0, invalid("container", "%d is no node of the graph%s", c, span(1, count))
	}
	return c, nil
}

// given keeps the order of the request, which must be depth first.
func (s *shape) given(nodes []*heddlev1.NodeSpec) error {
	var n nesting
	s.order = make([]int32, len(nodes))
	s.number = make([]int32, len(nodes)+1)
	for i, spec := range nodes {
		g := int32(i + 1)
		if !n.enter(g, s.container[g], spec.GetBatch() != nil) {
			return withinItem("nodes", i, misplaced(spec.GetContainer()))
		}
		s.order[i], s.number[g] = g, g
	}
	return nil
}

// misplaced says that the members of a batch do not follow it.
func misplaced(container int32) error {
	return invalid("container", "%d does not enclose this place: the members of a batch must follow it directly", container)
}

// address gives each named node its path and resolves containers by path.
func (s *shape) address(nodes []*heddlev1.NodeSpec) error {
	texts := make([]string, len(nodes)+1)
	known := make([]bool, len(nodes)+1)
	known[0] = true
	s.paths = make(map[string]int32, len(nodes))
	var chain []int32
	for i := range nodes {
		chain = chain[:0]
		for g := int32(i + 1); !known[g]; g = s.container[g] {
			if len(chain) == len(nodes) {
				return withinItem("nodes", i, invalid("container", "%d is inside itself", nodes[i].GetContainer()))
			}
			chain = append(chain, g)
			if nodes[g-1].GetIn() != "" {
				break
			}
		}
		for j := len(chain) - 1; j >= 0; j-- {
			g := chain[j]
			known[g] = true
			p := join(nodes[g-1], texts[s.container[g]], s.container[g] == 0)
			texts[g] = p
			if _, twice := s.paths[p]; p != "" && !twice {
				s.paths[p] = g
			}
		}
	}
	for i, n := range nodes {
		if n.GetIn() == "" {
			continue
		}
		c, ok := s.paths[n.GetIn()]
		if !ok {
			return withinItem("nodes", i, invalid("in", "%q names no batch of the graph", clip(n.GetIn())))
		}
		if nodes[c-1].GetBatch() == nil {
			return withinItem("nodes", i, invalid("in", "%q is no batch", n.GetIn()))
		}
		s.container[i+1] = c
	}
	return nil
}

// join gives the path of a node; empty: it has none.
func join(n *heddlev1.NodeSpec, container string, outermost bool) string {
	switch {
	case n.GetName() == "" || len(container)+len(n.GetIn())+len(n.GetName())+1 > maxPath:
		return ""
	case n.GetIn() != "":
		return n.GetIn() + "/" + n.GetName()
	case outermost:
		return n.GetName()
	case container == "":
		return ""
	}
	return container + "/" + n.GetName()
}

// sort finds the depth-first order; siblings keep the order given.
func (s *shape) sort(nodes []*heddlev1.NodeSpec) error {
	count := len(nodes)
	first, next := make([]int32, count+1), make([]int32, count+1)
	for g := int32(count); g > 0; g-- {
		c := s.container[g]
		first[c], next[g] = g, first[c]
	}
	s.order = make([]int32, 0, count)
	s.number = make([]int32, count+1)
	stack := []int32{first[0]}
	for len(stack) > 0 {
		g := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if g == 0 {
			continue
		}
		s.order = append(s.order, g)
		s.number[g] = int32(len(s.order))
		stack = append(stack, next[g], first[g])
	}
	for g := 1; g <= count && len(s.order) < count; g++ {
		if s.number[g] == 0 {
			return withinItem("nodes", g-1, invalid("container", "%d is inside itself", nodes[g-1].GetContainer()))
		}
	}
	return nil
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }
