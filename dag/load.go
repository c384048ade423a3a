package dag

// Region is the part of one graph that has been loaded to decide an event. It
// grows by Put; Decide never changes what was put. A Region belongs to one
// goroutine. Slices that are put are kept, not copied.
type Region struct {
	// CascadeLimit replaces the constant of that name when it is positive.
	CascadeLimit int32

	index map[ID]int32
	slots []slot
}

// slot is what was put about one node.
type slot struct {
	node     Node
	have     uint8
	out, in  []Edge
	members  []ID
	troubled []ID
}

const (
	haveNode uint8 = 1 << iota
	haveOut
	haveIn
	haveMembers
	haveTroubled
)

// NewRegion gives an empty region.
func NewRegion() *Region {
	return &Region{index: make(map[ID]int32)}
}

// Grow makes room for n more nodes.
func (r *Region) Grow(n int) {
	if len(r.index) == 0 {
		r.index = make(map[ID]int32, n)
	}
	if need := len(r.slots) + n; need > cap(r.slots) {
		slots := make([]slot, len(r.slots), need)
		copy(slots, r.slots)
		r.slots = slots
	}
}

func (r *Region) at(id ID) *slot {
	s, ok := r.index[id]
	if !ok {
		s = int32(len(r.slots))
		r.index[id] = s
		r.slots = append(r.slots, slot{})
	}
	return &r.slots[s]
}

func (r *Region) find(id ID, have uint8) *slot {
	if s, ok := r.index[id]; ok && r.slots[s].have&have != 0 {
		return &r.slots[s]
	}
	return nil
}

// Put adds a node, or replaces it.
func (r *Region) Put(n Node) {
	s := r.at(n.ID)
	s.node = n
	s.have |= haveNode
}

// PutOut adds all edges out of parent.
func (r *Region) PutOut(parent ID, edges []Edge) {
	s := r.at(parent)
	s.out = edges
	s.have |= haveOut
}

// PutIn adds all edges into child.
func (r *Region) PutIn(child ID, edges []Edge) {
	s := r.at(child)
	s.in = edges
	s.have |= haveIn
}

// PutMembers adds the numbers of all direct members of batch.
func (r *Region) PutMembers(batch ID, members []ID) {
	s := r.at(batch)
	s.members = members
	s.have |= haveMembers
}

// PutTroubled adds the numbers of the direct members of batch that are batches
// themselves or have ended other than succeeded.
func (r *Region) PutTroubled(batch ID, members []ID) {
	s := r.at(batch)
	s.troubled = members
	s.have |= haveTroubled
}

// Node gives a node as it was put.
func (r *Region) Node(id ID) (Node, bool) {
	if s := r.find(id, haveNode); s != nil {
		return s.node, true
	}
	return Node{}, false
}

// Out gives the edges out of a node, and whether they were put.
func (r *Region) Out(parent ID) ([]Edge, bool) {
	if s := r.find(parent, haveOut); s != nil {
		return s.out, true
	}
	return nil, false
}

// In gives the edges into a node, and whether they were put.
func (r *Region) In(child ID) ([]Edge, bool) {
	if s := r.find(child, haveIn); s != nil {
		return s.in, true
	}
	return nil, false
}

// Members gives the direct members of a batch, and whether they were put.
func (r *Region) Members(batch ID) ([]ID, bool) {
	if s := r.find(batch, haveMembers); s != nil {
		return s.members, true
	}
	return nil, false
}

// Troubled gives what PutTroubled put, and whether it did.
func (r *Region) Troubled(batch ID) ([]ID, bool) {
	if s := r.find(batch, haveTroubled); s != nil {
		return s.troubled, true
	}
	return nil, false
}

// Len is the number of nodes that were put.
func (r *Region) Len() int {
	n := 0
	for i := range r.slots {
		if r.slots[i].have&haveNode != 0 {
			n++
		}
	}
	return n
}
