package dispatch

import (
	"slices"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// jobState tells where a known job is.
type jobState uint8

const (
	waiting  jobState = iota // in its stream's window
	apart                    // waiting in the list of jobs that run alone
	granting                 // matched; its grant is on its way
	leased
)

// job is what the dispatcher knows of a job that it keeps. Jobs are recycled:
// nothing may point at one that left the index.
type job struct {
	row     Row
	stream  *stream  // while waiting in a window
	session *session // while granting or leased
	state   jobState
	gone    bool // granting: the row is no longer available, do not take it back
	again   bool // granting, leased: a newer turn of the row was seen and dropped, or may be there
	// The waiting jobs of one graph form a list.
	graph      *graph
	next, prev *job
}

// graph lists the waiting jobs of a workflow of more than one node, so that a
// hold or a pause finds them.
type graph struct {
	id    fsm.WorkflowID
	first *job
}

// verdict on a row that is handed in.
type verdict uint8

const (
	fresh  verdict = iota // unknown: it may enter
	known                 // waiting, apart, granting, leased or kept back
	outran                // older than an end, or past its expiry
)

// judge compares a row read under m with what is known of its job (C3).
func (d *Dispatcher) judge(row *Row, m Mark) (verdict, entry) {
	e := d.index[row.Job]
	if e.shadows(m, row.Turn) {
		return outran, e
	}
	if j := e.job; j != nil {
		switch {
		case row.Turn <= j.row.Turn:
			return known, e
		case j.state == waiting || j.state == apart: // its place may have changed
			d.takeOut(j)
			d.release(j)
			e.job = nil
		default: // the fact is written, its end not yet heard of
			j.again = true
			return known, e
		}
	}
	if expired(row, d.now) {
		return outran, e
	}
	if d.barred(row, m) {
		return known, e
	}
	return fresh, e
}

// expired: the row's wait is over; it fails without being run.
func expired(row *Row, now int64) bool {
	return row.ExpiresAt != 0 && row.ExpiresAt <= now || row.DeadlineAt != 0 && row.DeadlineAt <= now
}

// enter puts a fresh row into its stream's window.
func (d *Dispatcher) enter(s *stream, row *Row, e entry) {
	if row.Losses >= aloneFrom {
		d.enterApart(s, row, e)
		return
	}
	j := d.newJob(row, s, e)
	j.state, j.stream = waiting, s
	s.window.insert(slot{pos: row.cursor(), job: j})
	d.rows++
}

// newJob indexes a row that starts to wait.
func (d *Dispatcher) newJob(row *Row, s *stream, e entry) *job {
	j := d.blank()
	j.row = *row
	j.row.Lane = s.id.Lane // one copy of the key
	e.job = j
	d.index[row.Job] = e
	d.link(j)
	return j
}

// blank gives an empty job.
func (d *Dispatcher) blank() *job {
	if len(d.free) == 0 {
		slab := make([]job, slabSize)
		for i := range slab {
			d.free = append(d.free, &slab[i])
		}
	}
	n := len(d.free)
	j := d.free[n-1]
	d.free = d.free[:n-1]
	return j
}

// recycle takes a job back that nothing points at any more.
func (d *Dispatcher) recycle(j *job) {
	*j = job{}
	if len(d.free) < d.config.MaxRows {
		d.free = append(d.free, j)
	}
}

// link lists a waiting job of a graph under its workflow.
func (d *Dispatcher) link(j *job) {
	id := j.row.Job.Workflow
	if j.row.Batch < 0 && j.row.Job.Node == loneNode {
		return
	}
	g := d.latestGraph
	if g == nil || g.id != id {
		if g = d.graphs[id]; g == nil {
			g = &graph{id: id}
			d.graphs[id] = g
		}
		d.latestGraph = g
	}
	j.graph, j.next = g, g.first
	if g.first != nil {
		g.first.prev = j
	}
	g.first = j
}

func (d *Dispatcher) unlink(j *job) {
	g := j.graph
	if g == nil {
		return
	}
	if j.prev != nil {
		j.prev.next = j.next
	} else {
		g.first = j.next
	}
	if j.next != nil {
		j.next.prev = j.prev
	}
	j.graph, j.next, j.prev = nil, nil, nil
	if g.first == nil {
		delete(d.graphs, g.id)
		if d.latestGraph == g {
			d.latestGraph = nil
		}
	}
}

// takeOut takes a waiting job out of where it waits. It stays in the index.
func (d *Dispatcher) takeOut(j *job) {
	d.unlink(j)
	if j.state == apart {
		i := slices.Index(d.apart, j)
		d.apart = slices.Delete(d.apart, i, i+1)
		return
	}
	s := j.stream
	s.window.remove(j.row.cursor())
	j.stream = nil
	d.rows--
	d.place(s)
	d.consider(s)
}
