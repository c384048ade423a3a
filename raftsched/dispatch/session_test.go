package dispatch

import (
	"testing"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

func TestReturnedAndRejectedGoToTheFront(t *testing.T) {
	r := newRig(t, Config{})
	rows := r.rows(1, 5)
	r.ready(rows...)
	r.wait(1, 2)
	r.wantRows(r.take(2), rows[:2])
	r.drop(rows[1].Job)
	r.d.Returned(rows[1])
	r.d.Returned(rows[1]) // said twice
	r.wait(1, 1)
	r.match(1) // rows[1]
	r.drop(rows[1].Job)
	r.d.Rejected(rows[1].Job)
	r.drop(rows[0].Job)
	r.d.Released(rows[0].Job)
	r.wait(1, 9)
	r.serveAll()
	r.wantRows(r.take(9), rows)
}

func TestReturnedAfterItsEnd(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(1, 5)
	r.ready(row)
	r.wait(1, 1)
	r.take(1)
	m := r.d.Begin()
	r.finished(row)
	r.d.Returned(row)
	r.wait(1, 1)
	r.wantRows(r.take(1), nil)
	r.d.End(m)
}

func TestLeasesFoundAtTheTakeover(t *testing.T) {
	r := newRig(t, Config{})
	rows := r.rows(1, 3)
	rows[0].Losses = 2
	r.store(rows...)
	r.d.Leased(fsm.Lease{Job: rows[0].Job, Session: 1}, &rows[0])
	r.d.Leased(fsm.Lease{Job: rows[1].Job, Session: 2}, &rows[1])
	r.leases[rows[0].Job] = &modelLease{session: 1, row: rows[0], granted: true}
	r.leases[rows[1].Job] = &modelLease{session: 2, row: rows[1], granted: true}
	r.lonely[1] = rows[0].Job
	m := r.d.Begin()
	r.d.Walked(m, r.load([]Load{{Lane: rows[0].stream(), Limit: 10}}))
	r.wait(1, 9)
	r.wantRows(r.take(9), nil) // session 1 runs a job alone
	r.wait(2, 9)
	r.wantRows(r.take(9), rows[2:])
	r.finished(rows[0])
	more := r.row(1, 5)
	r.ready(more)
	r.wantRows(r.take(9), []Row{more})
}

func TestJobLostTwiceRunsAlone(t *testing.T) {
	r := newRig(t, Config{})
	poison, a, b := r.row(1, 9), r.row(1, 8), r.row(1, 7)
	poison.Losses = 2
	r.wait(1, 9)
	r.ready(a)
	r.wantRows(r.take(9), []Row{a})
	r.ready(poison, b)
	r.wait(1, 9)
	r.wantRows(r.take(9), nil) // session 1 is being emptied for it
	r.wait(2, 9)
	r.wantRows(r.take(9), []Row{poison, b}) // session 2 holds nothing; nobody need be emptied any more
	if r.leases[poison.Job].session != 2 || r.leases[b.Job].session != 1 {
		t.Fatalf("poison went to session %d, the other to %d", r.leases[poison.Job].session, r.leases[b.Job].session)
	}
	c := r.row(1, 1)
	r.ready(c)
	r.wait(2, 9)
	r.wantRows(r.take(9), nil)
	r.finished(poison)
	r.wantRows(r.take(9), []Row{c})
}

// Poison does not starve ordinary jobs of the only worker, nor they it.
func TestPoisonAndOrdinaryJobsAlternate(t *testing.T) {
	r := newRig(t, Config{})
	var poison []Row
	for range 5 {
		row := r.row(1, 9)
		row.Losses = 2
		poison = append(poison, row)
	}
	ordinary := r.rows(1, 20)
	r.ready(append(ordinary, poison...)...)
	alone, beside := 0, 0
	for range 60 {
		r.wait(1, 2)
		rows := r.take(9)
		for _, row := range rows {
			if row.Losses >= 2 {
				alone++
				if want := (alone - 1) * 2; beside < want && beside < 20 {
					t.Fatalf("poison %d runs after %d ordinary jobs", alone, beside)
				}
			} else {
				beside++
			}
		}
		for _, row := range rows {
			r.finished(row)
		}
	}
	if alone != 5 || beside != 20 {
		t.Fatalf("%d poison and %d ordinary jobs ran", alone, beside)
	}
}

func TestClosedPolls(t *testing.T) {
	r := newRig(t, Config{})
	first, second := r.wait(1, 9), r.wait(1, 9)
	r.ready(r.row(1, 5))
	r.d.ClosePolls(1, second)
	delete(r.polls[1], first)
	delete(r.polls[1], second)
	r.wantRows(r.take(9), nil)
	r.d.Poll(Poll{Session: 1, Poll: second, Max: 1, Queues: []Queue{{Name: "a"}}, Kinds: []string{"x"}}) // arrives late
	r.wantRows(r.take(9), nil)
	third := r.wait(1, 9)
	r.d.ClosePoll(1, third)
	r.d.ClosePoll(1, third)
	delete(r.polls[1], third)
	r.wantRows(r.take(9), nil)
	r.wait(1, 9)
	r.d.DropSession(1)
	clear(r.polls[1])
	r.wantRows(r.take(9), nil)
	if s := r.d.Stats(); s.Polls != 0 {
		t.Fatalf("%+v", s)
	}
	r.d.ClosePolls(5, 3) // before the session's first poll
	r.d.Poll(Poll{Session: 5, Poll: 3, Max: 1, Queues: []Queue{{Name: "a"}}, Kinds: []string{"x"}})
	r.wantRows(r.take(9), nil)
}

func TestDroppedSessionKeepsItsLeases(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(1, 5)
	r.ready(row)
	r.wait(1, 1)
	r.take(1)
	r.d.DropSession(1)
	r.now += 2 * second
	r.wait(2, 1)
	r.serveAll()
	r.wantRows(r.take(1), nil)
	r.drop(row.Job)
	r.d.Returned(row)
	r.wantRows(r.take(1), []Row{row})
	if _, ok := r.d.sessions[1]; ok {
		t.Fatal("the session is remembered")
	}
}
