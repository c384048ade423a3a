package dispatch

import (
	"testing"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// end writes a job's success.
func (r *rig) finished(row Row) {
	r.drop(row.Job)
	delete(r.table, row.Job)
	r.d.Commit(r.d.Begin(), []fsm.Lease{{Job: row.Job, Turn: row.Turn}}, nil, nil)
}

// C3: a read that saw the job before it ended is delivered afterwards.
func TestReadOlderThanTheEnd(t *testing.T) {
	for name, sweep := range map[string]bool{"refill": false, "sweep": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Config{})
			row := r.row(1, 5)
			r.wait(1, 1)
			if sweep {
				r.ready(row)
				r.now += second
			} else {
				r.store(row)
				r.serve() // scans
			}
			w := r.d.Wants(r.now)
			loads := append(w.Loads, w.Sweeps...)
			if len(loads) != 1 || loads[0].Sweep != sweep {
				t.Fatalf("wants %+v", w)
			}
			m := r.d.Begin()
			answers := r.load(loads)
			if !sweep {
				r.ready(row)
				r.d.Hint([]LanePriority{row.stream()})
				other := r.d.Begin() // a search by other means finds it first
				r.d.Walked(other, r.load(loads))
			}
			r.wantRows(r.take(1), []Row{row})
			r.finished(row)
			r.wait(1, 1)
			r.d.Loaded(m, loads, answers)
			r.wantRows(r.take(1), nil)
			r.serveAll()
			r.wantRows(r.take(1), nil)
			if s := r.d.Stats(); s.Past != 0 || len(r.d.index) != 0 {
				t.Errorf("%+v is remembered without an open mark", s)
			}
		})
	}
}

// C3 with a retry: of the old read's row and the new one, the new one runs.
func TestReadOlderThanARetry(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(1, 5)
	r.ready(row)
	r.wait(1, 1)
	r.take(1)
	m := r.d.Begin()
	again := row
	again.Turn, again.RunAt = 1, r.now+second
	r.table[row.Job] = &again
	r.drop(row.Job)
	r.d.Commit(r.d.Begin(), []fsm.Lease{{Job: row.Job}}, nil, []Row{again})
	r.d.Commit(m, nil, nil, []Row{row})
	r.wait(1, 1)
	r.wantRows(r.take(1), nil)
	r.now += second
	r.wantRows(r.take(1), []Row{again})
}

// The end may be the first thing to happen after the read's mark was given, and
// a job may end several times while reads are open.
func TestEndsAreRememberedForEveryOpenMark(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(1, 5)
	r.ready(row)
	r.wait(1, 1)
	r.take(1)
	first := r.d.Begin()
	r.drop(row.Job)
	r.d.Ended(row.Job, 0)
	again := row
	again.Turn = 1
	r.ready(again)
	r.wait(1, 1)
	r.wantRows(r.take(1), []Row{again})
	second := r.d.Begin()
	r.drop(row.Job)
	delete(r.table, row.Job)
	r.d.Ended(row.Job, 1)
	r.d.End(first)
	r.wait(1, 1)
	r.d.Commit(second, nil, nil, []Row{again})
	r.wantRows(r.take(1), nil)
}

// What is gone as of a turn may come again with that turn: a job that was
// blocked once more wrote no outcome.
func TestBlockedAndFreedAgain(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(1, 5)
	r.ready(row)
	old := r.d.Begin()
	r.d.Gone(row.Job, 0)
	r.ready(row) // of a transaction begun since
	r.wait(1, 1)
	r.wantRows(r.take(1), []Row{row})
	r.d.End(old)
}

// The retry's row may be seen before the end of the attempt is heard of.
func TestNewTurnSeenWhileLeased(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(1, 5)
	r.ready(row)
	r.wait(1, 1)
	r.take(1)
	again := row
	again.Turn = 1
	r.ready(again) // read from the table
	r.wait(1, 1)
	r.wantRows(r.take(1), nil)
	r.drop(row.Job)
	r.d.Ended(row.Job, 0)
	if w := r.serve(); len(w.Loads) != 1 {
		t.Fatalf("wants %+v", w)
	}
	r.wantRows(r.take(1), []Row{again})
}

// The cursor moves back while a refill is under way: its rows do not follow the
// window any more.
func TestRefillBehindAGap(t *testing.T) {
	r := newRig(t, Config{Window: 4})
	rows := r.rows(1, 20)
	r.store(rows[8:]...)
	r.wait(1, 3)
	r.serve() // scans
	r.serve() // loads 8 to 11
	r.wantRows(r.take(3), rows[8:11])
	w := r.d.Wants(r.now)
	m := r.d.Begin()
	answers := r.load(w.Loads)
	r.store(rows[:8]...) // committed late
	r.now += second
	r.wait(1, 3)
	if s := r.serve(); len(s.Sweeps) != 1 || len(s.Loads) != 0 {
		t.Fatalf("wants %+v", s)
	}
	got := r.take(3) // the window ends with 3 now
	r.d.Loaded(m, w.Loads, answers)
	for range 10 {
		r.wait(1, 3)
		for {
			if w := r.serve(); len(w.Loads) == 0 {
				break
			}
		}
		got = append(got, r.take(9)...)
	}
	r.wantRows(got, append(rows[:8:8], rows[11:]...))
}

// C4: a hint is a wake-up, however late and often it comes.
func TestLateHint(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(1, 5)
	r.ready(row)
	r.wait(1, 1)
	r.take(1)
	r.finished(row)
	r.wait(1, 1)
	for range 2 {
		r.d.Hint([]LanePriority{row.stream()})
		r.now += 5 * second
		r.serveAll()
		r.wantRows(r.take(1), nil)
	}
}

func TestNothingIsRememberedWithoutOldMarks(t *testing.T) {
	r := newRig(t, Config{})
	rows := r.rows(1, 3)
	r.ready(rows...)
	r.wait(1, 9)
	r.take(9)
	r.finished(rows[0])
	if n := r.d.Stats().Past; n != 0 {
		t.Fatalf("%d ends are remembered", n)
	}
	m := r.d.Begin()
	r.finished(rows[1])
	if n := r.d.Stats().Past; n != 1 {
		t.Fatalf("%d ends are remembered while a mark is open, want 1", n)
	}
	newer := r.d.Begin()
	r.d.End(m)
	r.finished(rows[2])
	if n := r.d.Stats().Past; n != 1 {
		t.Fatalf("%d ends are remembered, want the one after the open mark", n)
	}
	r.d.End(newer)
	if n := len(r.d.index); n != 0 {
		t.Fatalf("%d jobs are left in the index", n)
	}
}

// A mark that is open for too long is void: what it hands in is read again.
func TestTooMuchPastVoidsTheOldestMark(t *testing.T) {
	r := newRig(t, Config{MaxPast: 10})
	r.wait(1, 1)
	m := r.d.Begin()
	rows := r.rows(1, 30)
	r.ready(rows...)
	r.wait(1, 100)
	r.take(100)
	for _, row := range rows {
		r.finished(row)
	}
	if s := r.d.Stats(); s.Past > 10 || s.Marks != 0 {
		t.Fatalf("%+v with a bound of 10", s)
	}
	late := r.row(1, 5)
	r.store(late)
	r.d.Commit(m, nil, nil, []Row{rows[0], late})
	r.wait(1, 9)
	r.wantRows(r.take(9), nil)
	r.serveAll()
	r.wantRows(r.take(9), []Row{late})
}

func TestResetVoidsMarks(t *testing.T) {
	r := newRig(t, Config{})
	m := r.d.Begin()
	row := r.row(1, 5)
	r.d.Reset()
	r.d.SetRoutes([]Route{r.routes[1]})
	r.d.Commit(m, nil, nil, []Row{row})
	r.wait(1, 1)
	r.wantRows(r.take(1), nil)
	if again := r.d.Begin(); again == m {
		t.Fatal("a mark was given twice")
	}
}

func TestRowLeftToARefillUnderWay(t *testing.T) {
	r := newRig(t, Config{Window: 4})
	rows := r.rows(1, 12)
	r.store(rows[:6]...)
	r.wait(1, 2)
	r.serve() // scans
	r.serve() // loads four, more lie behind
	r.take(2)
	r.wait(1, 1)
	r.take(1)
	w := r.d.Wants(r.now)
	if len(w.Loads) != 1 {
		t.Fatalf("wants %+v", w)
	}
	m := r.d.Begin()
	answers := r.load(w.Loads) // reaches the end
	r.ready(rows[6])           // behind the cursor
	r.d.Loaded(m, w.Loads, answers)
	r.wait(1, 20)
	r.serveAll()
	r.wantRows(r.take(20), rows[3:7])
}

// A transaction that was open for long commits a million rows in front of all:
// the window is rebuilt from there.
func TestSweepRebuildsTheWindow(t *testing.T) {
	r := newRig(t, Config{Window: 10})
	late := r.rows(1, 40)
	rows := r.rows(1, 20)
	for i := range rows {
		rows[i].RunAt = r.now - 1
		rows[i].Job.Workflow[0] = 0xff
	}
	r.ready(rows...)
	r.store(late...) // nobody tells
	r.wait(1, 100)
	r.now += 2 * second
	r.serveAll()
	var got []Row
	for range 30 {
		got = append(got, r.take(5)...)
		r.serveAll()
		r.wait(1, 100)
	}
	r.wantRows(got[:40], late)
	if len(got) != 60 {
		t.Fatalf("%d of 60 jobs ran", len(got))
	}
}

// A single row committed late in the midst of known ones is found too, behind
// more running jobs than a page has.
func TestSweepFindsARowBehindRunningJobs(t *testing.T) {
	r := newRig(t, Config{Window: 1_000})
	rows := r.rows(1, 700)
	late := rows[650]
	r.ready(append(rows[:650:650], rows[651:]...)...)
	r.wait(1, 640)
	r.take(1_000)
	r.store(late)
	r.wait(2, 1_000)
	r.now += 2 * second
	r.serveAll()
	r.wantRows(r.take(1_000), rows[640:])
}

func TestLostHintOfANewStream(t *testing.T) {
	r := newRig(t, Config{})
	r.wait(1, 1)
	r.serveAll()
	row := keyed(r.row(2, 0), "new")
	r.store(row)
	for start := r.now; r.now < start+2*second; r.now += second / 10 {
		r.serve()
		if got := r.take(1); len(got) == 1 {
			r.wantRows(got, []Row{row})
			return
		}
	}
	t.Fatal("not found within 2 s (I10)")
}

func TestHintIsServedAtOnce(t *testing.T) {
	r := newRig(t, Config{})
	r.wait(1, 9)
	r.serveAll()
	known, unknown := r.row(1, 5), r.row(2, 5)
	r.ready(known)
	r.take(1)
	r.wait(1, 9)
	more := r.row(1, 7) // committed late, in front of the cursor
	r.store(more, unknown)
	r.d.Hint([]LanePriority{more.stream(), unknown.stream()})
	if w := r.serve(); len(w.Loads) != 2 {
		t.Fatalf("wants %+v", w)
	}
	r.wantRows(r.take(9), []Row{more, unknown})
}

// A hint that comes while a read is under way may be of rows it does not see.
func TestHintDuringARead(t *testing.T) {
	r := newRig(t, Config{})
	r.wait(1, 9)
	r.serveAll()
	row := r.row(1, 5)
	r.d.Hint([]LanePriority{row.stream()})
	w := r.d.Wants(r.now)
	m := r.d.Begin()
	answers := r.load(w.Loads)
	r.store(row)
	r.d.Hint([]LanePriority{row.stream()})
	r.d.Loaded(m, w.Loads, answers)
	r.serveAll()
	r.wantRows(r.take(9), []Row{row})
}

func TestFailedReadsAreWantedAgain(t *testing.T) {
	r := newRig(t, Config{})
	rows := r.rows(1, 3)
	r.store(rows...)
	r.wait(1, 9)
	w := r.d.Wants(r.now)
	r.d.Found(*w.Scan, nil, false)
	r.now += 2 * second
	r.serve()
	for range 3 {
		w = r.d.Wants(r.now)
		if len(w.Loads) != 1 {
			t.Fatalf("wants %+v", w)
		}
		r.d.Loaded(r.d.Begin(), w.Loads, nil)
	}
	r.serveAll()
	r.wantRows(r.take(9), rows)
}

func TestUnknownRoute(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(77, 5)
	r.ready(row)
	w := r.d.Wants(r.now)
	if !w.Routes {
		t.Fatal("the dictionary is not wanted")
	}
	if w = r.d.Wants(r.now); w.Routes {
		t.Fatal("the dictionary is wanted twice")
	}
	r.routes[77] = Route{ID: 77, Queue: "a", Kind: "x"}
	r.wait(1, 1)
	r.d.SetRoutes([]Route{r.routes[77]})
	r.serveAll()
	r.wantRows(r.take(1), []Row{row})
}
