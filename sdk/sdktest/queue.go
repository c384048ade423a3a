package sdktest

import (
	"container/heap"
	"time"

	"github.com/heddle-io/heddle/dag"
)

// entry is a job that waits for a time.
type entry struct {
	run      *Run
	node     dag.ID
	due      time.Time
	priority int32
	order    int // of its being queued
	turn     int // of the job: others are history
}

func (a entry) before(b entry) bool {
	switch {
	case !a.due.Equal(b.due):
		return a.due.Before(b.due)
	case a.priority != b.priority:
		return a.priority < b.priority
	}
	return a.order < b.order
}

// queue is a heap of entries, the one due first at the top.
type queue []entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].before(q[j]) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push adds an entry, for container/heap.
func (q *queue) Push(x any) { *q = append(*q, x.(entry)) }

// Pop takes the last entry, for container/heap.
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// prune takes entries from the top that are history: their job has ended, or was
// queued anew.
func (q *queue) prune() {
	for len(*q) > 0 {
		en := (*q)[0]
		if n := en.run.sim.Node(en.node); n.State == dag.Released && !n.Running && en.run.jobs[en.node].turn == en.turn {
			return
		}
		heap.Pop(q)
	}
}
