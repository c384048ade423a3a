package dispatch

import (
	"fmt"
	"testing"
)

// However many streams and rows there are, what is kept is bounded, and all
// rows run.
func TestBoundedOverManyStreams(t *testing.T) {
	r := newRig(t, Config{MaxRows: 300, MaxStreams: 50})
	total := 0
	for k := range 120 {
		rows := r.rows(1, 10)
		for i := range rows {
			rows[i] = keyed(rows[i], fmt.Sprintf("%03d", k))
		}
		total += len(rows)
		if k%2 == 0 {
			r.ready(rows...)
		} else {
			r.store(rows...)
		}
		if s := r.d.Stats(); s.Streams > 50 || s.Rows > 300 {
			t.Fatalf("%+v after %d streams", s, k+1)
		}
	}
	for range 400 {
		r.wait(1, 50)
		r.serve()
		if s := r.d.Stats(); s.Streams > 50 || s.Rows > 300 {
			t.Fatalf("%+v", s)
		}
		for _, row := range r.take(100) {
			total--
			r.finished(row)
		}
		r.now += second / 4
	}
	if total != 0 {
		t.Fatalf("%d jobs did not run", total)
	}
}

func TestWindowIsBounded(t *testing.T) {
	r := newRig(t, Config{Window: 10})
	rows := r.rows(1, 100)
	for i := range rows { // the last first
		r.ready(rows[len(rows)-1-i])
	}
	if n := r.d.Stats().Rows; n != 10 {
		t.Fatalf("%d rows are kept", n)
	}
	var got []Row
	for len(got) < 100 {
		r.wait(1, 7)
		r.serveAll()
		more := r.take(7)
		if len(more) == 0 {
			break
		}
		got = append(got, more...)
	}
	r.wantRows(got, rows)
}

func TestPausedFloodIsNotKept(t *testing.T) {
	r := newRig(t, Config{Window: 10})
	flood := r.rows(1, 300)
	for i := range flood {
		flood[i].Job.Workflow = flood[0].Job.Workflow
		flood[i].Job.Node, flood[i].Batch = int32(i+2), 0
	}
	r.pausedW[flood[0].Job.Workflow] = true
	r.d.PauseWorkflow(flood[0].Job.Workflow, true)
	r.store(flood...)
	behind := r.row(1, 0)
	r.store(behind)
	r.wait(1, 1)
	r.serveAll()
	r.wantRows(r.take(9), []Row{behind})
	if n := len(r.d.index); n != 1 {
		t.Fatalf("%d jobs are kept", n)
	}
	// A row that nobody tells of is found behind them.
	late := r.row(1, 0)
	late.RunAt = r.now + second
	r.store(late)
	r.wait(1, 1)
	found := false
	for start := r.now; !found && r.now < late.RunAt+2*second && r.now >= start; r.now += second / 10 {
		r.serveAll()
		found = len(r.take(1)) == 1
	}
	if !found {
		t.Fatal("not found within 2 s (I10)")
	}
	clear(r.pausedW)
	r.d.PauseWorkflow(flood[0].Job.Workflow, false)
	got := 0
	for range 200 {
		r.wait(1, 10)
		r.serve()
		got += len(r.take(10))
	}
	if got != len(flood) {
		t.Fatalf("%d of %d ran after the pause", got, len(flood))
	}
}

// Jobs that run alone are kept in bounds too.
func TestPoisonIsBounded(t *testing.T) {
	r := newRig(t, Config{Window: 5_000})
	rows := r.rows(1, 1_500)
	for i := range rows {
		rows[i].Losses = 2
	}
	r.ready(rows...)
	if n := r.d.Stats().Rows; n != maxApart {
		t.Fatalf("%d rows are kept", n)
	}
	left := len(rows)
	for range 6_000 {
		r.wait(1, 9)
		r.serve()
		for _, row := range r.take(9) {
			left--
			r.finished(row)
		}
		r.now += second / 1_000
	}
	if left != 0 {
		t.Fatalf("%d did not run", left)
	}
}

// Jobs that run alone, of a route that nobody serves or that has more than its
// share, keep none of another route out.
func TestPoisonOfOthersMakesRoom(t *testing.T) {
	lost := func(rows []Row) []Row {
		for i := range rows {
			rows[i].Losses = 2
		}
		return rows
	}
	t.Run("unserved", func(t *testing.T) {
		r := newRig(t, Config{Window: 5_000})
		r.ready(lost(r.rows(1, maxApart))...)
		r.wait(1, 1, Queue{Name: "b"})
		one := lost(r.rows(3, 1))
		r.ready(one...)
		r.wantRows(r.take(9), one)
		// Those that made room are found once somebody serves them.
		left := maxApart
		for range 6_000 {
			r.wait(2, 9)
			r.serve()
			for _, row := range r.take(9) {
				left--
				r.finished(row)
			}
			r.now += second / 1_000
		}
		if left != 0 {
			t.Errorf("%d did not run", left)
		}
	})
	t.Run("served", func(t *testing.T) {
		r := newRig(t, Config{Window: 5_000})
		r.wait(1, 1, Queue{Name: "a"})
		r.ready(lost(r.rows(1, 1))...)
		r.take(1) // session 1 is busy with it from now on
		r.ready(lost(r.rows(1, maxApart))...)
		r.wait(1, 1, Queue{Name: "a"})
		r.wait(2, 1, Queue{Name: "b"})
		one := lost(r.rows(3, 1))
		r.ready(one...)
		r.wantRows(r.take(9), one)
		if n := r.d.Stats().Rows; n > maxApart {
			t.Errorf("%d rows are kept", n)
		}
	})
}
