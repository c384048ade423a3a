package dispatch

import "github.com/heddle-io/heddle/raftsched/fsm"

// Mark is the start of a read or a transaction whose rows are handed in later.
type Mark uint64

// marks numbers the reads and transactions under way. An event happens "at" the
// last mark given before it: a read of mark m was begun before the event if
// m <= at.
type marks struct {
	last Mark   // given last
	base Mark   // the mark of open[0]
	open []bool // from base on
	n    int    // open ones
}

func (m *marks) begin() Mark {
	m.last++
	if len(m.open) == 0 {
		m.base = m.last
	}
	m.open = append(m.open, true)
	m.n++
	return m.last
}

func (m *marks) isOpen(k Mark) bool {
	return k >= m.base && k-m.base < Mark(len(m.open)) && m.open[k-m.base]
}

func (m *marks) close(k Mark) {
	if !m.isOpen(k) {
		return
	}
	m.open[k-m.base] = false
	m.n--
	i := 0
	for i < len(m.open) && !m.open[i] {
		i++
	}
	if i == len(m.open) {
		m.open = m.open[:0]
		return
	}
	m.open, m.base = m.open[i:], m.base+Mark(i)
}

// oldest is the oldest open mark, or the next one to be given.
func (m *marks) oldest() Mark {
	if m.n == 0 {
		return m.last + 1
	}
	return m.base
}

// entry is what the index knows of a job: the job itself while it is kept, and
// the highest turn that ended (or went) with the mark at that time, while a
// mark so old is open.
type entry struct {
	job  *job
	at   Mark
	turn int32
}

// past refers to an entry that may be dropped once no mark <= at is open.
type past struct {
	job fsm.JobID
	at  Mark
}

// shadows says whether a row read under m is older than what the entry
// remembers.
func (e entry) shadows(m Mark, turn int32) bool { return e.at != 0 && e.at >= m && e.turn >= turn }

// remember notes that turn of a job is over now; j is the job if it is still
// kept. Without an open mark there is nobody to be protected from.
func (d *Dispatcher) remember(id fsm.JobID, e entry, j *job, turn int32) {
	if d.marks.n == 0 || d.fault == faultNoMarks {
		if j == nil {
			delete(d.index, id)
		} else {
			d.index[id] = entry{job: j}
		}
		return
	}
	if e.at != 0 && e.at >= d.marks.oldest() {
		turn = max(turn, e.turn)
	}
	d.index[id] = entry{job: j, at: d.marks.last, turn: turn}
	d.past.push(past{job: id, at: d.marks.last})
	if d.past.len() > d.config.MaxPast {
		d.marks.close(d.marks.oldest())
		d.purge()
	}
}

// release drops a job that left the windows without an end: its row may come
// again with any read, but those that are older than an end still remembered.
func (d *Dispatcher) release(j *job) {
	id := j.row.Job
	if e := d.index[id]; e.at != 0 && e.at >= d.marks.oldest() {
		d.index[id] = entry{at: e.at, turn: e.turn}
	} else {
		delete(d.index, id)
	}
	d.recycle(j)
}

// purge forgets what only closed marks needed, and ends the holds that waited
// for them.
func (d *Dispatcher) purge() {
	oldest := d.marks.oldest()
	for d.past.len() > 0 && d.past.front().at < oldest {
		p := d.past.pop()
		if e := d.index[p.job]; e.job == nil && e.at == p.at {
			delete(d.index, p.job)
		}
	}
	for d.releasing.len() > 0 && (*d.releasing.front()).at < oldest {
		d.settle(d.releasing.pop())
	}
}

// Begin opens a mark. Call it before the read or the transaction begins. Every
// mark is ended by exactly one of Loaded, Walked, Commit or End.
func (d *Dispatcher) Begin() Mark { return d.marks.begin() }

// End closes a mark under which nothing is handed in: the read or transaction
// did not happen, or changed nothing here.
func (d *Dispatcher) End(m Mark) {
	d.marks.close(m)
	d.purge()
}

// fifo is a queue over a slice.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int  { return len(q.items) - q.head }
func (q *fifo[T]) front() *T { return &q.items[q.head] }

func (q *fifo[T]) push(v T) {
	if q.head > 0 && len(q.items) == cap(q.items) && q.head >= len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (q *fifo[T]) pop() T {
	v := q.items[q.head]
	var none T
	q.items[q.head] = none
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v
}
