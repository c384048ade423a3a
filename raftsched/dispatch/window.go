package dispatch

import (
	"encoding/binary"
	"slices"
	"sort"
)

// Compare orders cursors as the ready index does: by time, workflow, node.
func (c Cursor) Compare(o Cursor) int {
	switch {
	case c.RunAt != o.RunAt:
		if c.RunAt < o.RunAt {
			return -1
		}
		return 1
	case c.Job.Workflow != o.Job.Workflow:
		a, b := binary.BigEndian.Uint64(c.Job.Workflow[:8]), binary.BigEndian.Uint64(o.Job.Workflow[:8])
		if a == b {
			a, b = binary.BigEndian.Uint64(c.Job.Workflow[8:]), binary.BigEndian.Uint64(o.Job.Workflow[8:])
		}
		if a < b {
			return -1
		}
		return 1
	case c.Job.Node < o.Job.Node:
		return -1
	case c.Job.Node > o.Job.Node:
		return 1
	}
	return 0
}

// before is the position right in front of c.
func (c Cursor) before() Cursor {
	c.Job.Node--
	return c
}

// cursor is the row's position in its stream.
func (r *Row) cursor() Cursor { return Cursor{RunAt: r.RunAt, Job: r.Job} }

// slot is a row in a window. The position stands beside the pointer, so that
// searching touches no row.
type slot struct {
	pos Cursor
	job *job
}

// window keeps the known ready rows of a stream in order. It is a slice that is
// consumed at its front.
type window struct {
	slots []slot
	head  int
}

func (w *window) len() int     { return len(w.slots) - w.head }
func (w *window) front() *slot { return &w.slots[w.head] }
func (w *window) back() *slot  { return &w.slots[len(w.slots)-1] }

// live is the window's content in order.
func (w *window) live() []slot { return w.slots[w.head:] }

func (w *window) popFront() slot {
	s := w.slots[w.head]
	w.slots[w.head] = slot{}
	w.head++
	if w.head == len(w.slots) {
		w.slots, w.head = w.slots[:0], 0
	}
	return s
}

func (w *window) popBack() slot {
	last := len(w.slots) - 1
	s := w.slots[last]
	w.slots[last] = slot{}
	w.slots = w.slots[:last]
	if w.head == last {
		w.slots, w.head = w.slots[:0], 0
	}
	return s
}

// search gives the index in live of the first slot that is not before pos.
func (w *window) search(pos Cursor) int {
	live := w.live()
	return sort.Search(len(live), func(i int) bool { return live[i].pos.Compare(pos) >= 0 })
}

func (w *window) insert(s slot) {
	if cap(w.slots) == 0 {
		w.slots = make([]slot, 0, minWindow)
	}
	if w.len() == 0 || w.back().pos.Compare(s.pos) < 0 {
		w.makeRoom()
		w.slots = append(w.slots, s)
		return
	}
	i := w.search(s.pos)
	if w.head > 0 && i < w.len()/2 {
		w.head--
		copy(w.slots[w.head:], w.slots[w.head+1:w.head+1+i])
		w.slots[w.head+i] = s
		return
	}
	w.makeRoom()
	w.slots = slices.Insert(w.slots, w.head+i, s)
}

// makeRoom moves the content to the front of a full slice that was half
// consumed, so that appending does not grow it.
func (w *window) makeRoom() {
	if len(w.slots) < cap(w.slots) || w.head < len(w.slots)/2 || w.head == 0 {
		return
	}
	n := copy(w.slots, w.live())
	clear(w.slots[n:])
	w.slots, w.head = w.slots[:n], 0
}

// remove takes out the slot at pos; false if there is none.
func (w *window) remove(pos Cursor) bool {
	i := w.search(pos)
	if i == w.len() || w.live()[i].pos != pos {
		return false
	}
	if i == 0 {
		w.popFront()
		return true
	}
	w.slots = slices.Delete(w.slots, w.head+i, w.head+i+1)
	return true
}
