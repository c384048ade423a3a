package dispatch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestTimeOrderWithinALane(t *testing.T) {
	r := newRig(t, Config{})
	rows := r.rows(1, 50)
	shuffled := slices.Clone(rows)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(rows), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	r.ready(shuffled...)
	r.wait(1, 100)
	r.wantRows(r.take(100), rows)
}

func TestEqualTimesGoByWorkflowAndNode(t *testing.T) {
	r := newRig(t, Config{})
	a, b, c := r.row(1, 5), r.row(1, 5), r.row(1, 5)
	c.Job.Workflow, c.Job.Node, c.Batch = b.Job.Workflow, 7, 0
	b.Batch, b.Job.Node = 0, 2
	r.ready(c, b, a)
	r.wait(1, 9)
	r.wantRows(r.take(9), []Row{a, b, c})
}

func TestPriorityBeforeKeysBeforeTime(t *testing.T) {
	r := newRig(t, Config{})
	old := r.row(1, 100)
	k1, k2 := keyed(r.row(1, 50), "k"), keyed(r.row(1, 49), "k")
	m1, m2 := keyed(r.row(1, 20), "m"), keyed(r.row(1, 19), "m")
	urgent := r.row(1, 1)
	urgent.Priority = 1
	r.ready(k1, k2, m1, m2, old, urgent)
	r.wait(1, 9)
	r.wantRows(r.take(9), []Row{urgent, k1, m1, old, k2, m2})
}

func TestKeyHasOneTurnAcrossKinds(t *testing.T) {
	r := newRig(t, Config{})
	kx, ky := keyed(r.row(1, 50), "k"), keyed(r.row(2, 60), "k")
	mx := keyed(r.row(1, 10), "m")
	r.ready(kx, ky, mx)
	r.wait(1, 9)
	r.wantRows(r.take(9), []Row{ky, mx, kx})
}

// One key's flood does not starve others: between two of its jobs every other
// key that waits has one.
func TestKeysTakeTurns(t *testing.T) {
	r := newRig(t, Config{})
	var all []Row
	for k := range 5 {
		n := 10
		if k == 0 {
			n = 1_000
		}
		for _, row := range r.rows(1, n) {
			all = append(all, keyed(row, fmt.Sprint("key", k)))
		}
	}
	r.ready(all...)
	var got []Row
	for len(got) < 200 {
		r.wait(1, 7)
		got = append(got, r.take(100)...)
	}
	for i := range 50 {
		if seen := slices.IndexFunc(got[:i], func(row Row) bool { return row.Lane.Key == got[i].Lane.Key }); seen >= 0 && i-seen < 5 {
			t.Fatalf("key %q came again after %d jobs", got[i].Lane.Key, i-seen)
		}
		if i >= 5 && got[i].Lane.Key != got[i-5].Lane.Key {
			t.Fatalf("turn %d went to %q, the one before to %q", i, got[i].Lane.Key, got[i-5].Lane.Key)
		}
	}
}

func TestQueuesInStrictOrder(t *testing.T) {
	r := newRig(t, Config{})
	a, b := r.rows(1, 3), r.rows(3, 3)
	r.ready(append(b, a...)...)
	r.wait(1, 9)
	r.wantRows(r.take(9), append(a, b...))

	a, b = r.rows(1, 3), r.rows(3, 3)
	r.ready(append(a, b...)...)
	r.wait(2, 9, Queue{Name: "b"}, Queue{Name: "a"})
	r.wantRows(r.take(9), append(b, a...))
}

func TestWeightedQueuesShare(t *testing.T) {
	r := newRig(t, Config{})
	r.ready(append(r.rows(1, 100), r.rows(3, 100)...)...)
	queues := []Queue{{Name: "b", Weight: 2}, {Name: "a", Weight: 5}}
	r.wait(1, 70, queues...)
	inA := 0
	for i, row := range r.take(70) {
		if row.Lane.Route == 1 {
			inA++
		}
		if want := (i + 1) * 5 / 7; inA < want-1 || inA > want+1 {
			t.Fatalf("after %d jobs %d were of the queue of weight 5, want about %d", i+1, inA, want)
		}
	}
	if inA != 50 {
		t.Fatalf("%d of 70 were of the queue of weight 5, want 50", inA)
	}
	// While one queue is empty the other has all, and nothing is saved up.
	r.wait(1, 200, queues...)
	if n := len(r.take(200)); n != 130 {
		t.Fatalf("%d jobs, want the 130 that were left", n)
	}
	r.ready(r.rows(1, 50)...)
	r.wait(1, 50, queues...)
	r.take(50)
	r.ready(append(r.rows(1, 70), r.rows(3, 70)...)...)
	r.wait(1, 14, queues...)
	inA = 0
	for _, row := range r.take(14) {
		if row.Lane.Route == 1 {
			inA++
		}
	}
	if inA < 9 || inA > 11 {
		t.Fatalf("%d of 14 were of the queue of weight 5, want about 10", inA)
	}
}

func TestWeightOfZeroBesideWeights(t *testing.T) {
	r := newRig(t, Config{})
	a, b := r.rows(1, 3), r.rows(3, 3)
	r.ready(append(b, a...)...)
	r.wait(1, 9, Queue{Name: "b"}, Queue{Name: "a", Weight: 5})
	r.wantRows(r.take(9), append(a, b...))
}

func TestUnservedKindBlocksNothing(t *testing.T) {
	r := newRig(t, Config{})
	other, mine := r.rows(1, 3), r.rows(2, 2)
	r.ready(append(other, mine...)...)
	r.pollNo++
	r.add(Poll{Session: 1, Poll: r.pollNo, Max: 9, Queues: []Queue{{Name: "a"}}, Kinds: []string{"y"}})
	r.wantRows(r.take(9), mine)
	if worker, _ := r.d.Served(1); worker {
		t.Error("route 1 is said to be served")
	}
	r.pollNo++
	r.add(Poll{Session: 1, Poll: r.pollNo, Max: 9, Queues: []Queue{{Name: "a"}}, Kinds: []string{"y"}})
	if worker, free := r.d.Served(2); !worker || !free {
		t.Errorf("route 2: worker %v, free %v", worker, free)
	}
}

func TestHeldLaneAndPausesBlockNothing(t *testing.T) {
	r := newRig(t, Config{})
	first, second, third := r.row(1, 30), keyed(r.row(1, 20), "k"), r.row(1, 10)
	other := r.row(3, 5)
	r.ready(first, second, third, other)
	r.heldL[Lane{Route: 1, Key: "k"}] = true
	r.d.HoldLane(Lane{Route: 1, Key: "k"}, true)
	r.pausedW[first.Job.Workflow] = true
	r.d.PauseWorkflow(first.Job.Workflow, true)
	r.pausedQ["b"] = true
	r.d.PauseQueue("b", true)
	r.wait(1, 9)
	r.wantRows(r.take(9), []Row{third})

	clear(r.heldL)
	r.d.HoldLane(Lane{Route: 1, Key: "k"}, false)
	r.wait(1, 9)
	r.wantRows(r.take(9), []Row{second})

	clear(r.pausedQ)
	r.d.PauseQueue("b", false)
	r.wait(1, 9)
	r.wantRows(r.take(9), []Row{other})

	clear(r.pausedW)
	r.d.PauseWorkflow(first.Job.Workflow, false)
	r.wait(1, 9)
	r.serveAll() // its rows are read again
	r.wantRows(r.take(9), []Row{first})
}

func TestLaneHeldBeforeItsFirstRow(t *testing.T) {
	r := newRig(t, Config{})
	l := Lane{Route: 1, Key: "k"}
	r.d.HoldLane(l, true)
	row := keyed(r.row(1, 5), "k")
	r.ready(row)
	r.wait(1, 1)
	r.wantRows(r.take(9), nil)
	r.d.HoldLane(l, false)
	r.wantRows(r.take(9), []Row{row})
}

func TestIdleWorkersShareABurst(t *testing.T) {
	r := newRig(t, Config{})
	for s := range uint64(4) {
		r.wait(s+1, 100)
	}
	r.ready(r.rows(1, 10)...)
	perSession := map[uint64]int{}
	for _, m := range r.match(100) {
		perSession[m.Session]++
	}
	for s, want := range map[uint64]int{1: 3, 2: 3, 3: 2, 4: 2} {
		if perSession[s] != want {
			t.Errorf("session %d got %d, want %d", s, perSession[s], want)
		}
	}
}

func TestPollsAreServedInOrderOfArrival(t *testing.T) {
	r := newRig(t, Config{})
	r.wait(3, 1)
	r.wait(1, 1, Queue{Name: "a", Weight: 1}) // of another class
	r.wait(2, 1)
	for _, want := range []uint64{3, 1, 2} {
		r.ready(r.row(1, 5))
		got := r.match(10)
		if len(got) != 1 || got[0].Session != want {
			t.Fatalf("got %v, want session %d", got, want)
		}
	}
	if r.d.Stats().Polls != 0 {
		t.Error("polls are left")
	}
}

func TestMatchLimitAndNext(t *testing.T) {
	r := newRig(t, Config{})
	rows := r.rows(1, 5)
	r.ready(rows...)
	r.wait(1, 3)
	r.wait(2, 3)
	got := r.take(2)
	r.wantRows(got, rows[:2])
	if d := r.d.Stats().Polls; d != 0 {
		t.Fatalf("%d polls wait that got something", d)
	}
	r.wait(1, 1)
	r.wait(2, 3)
	r.take(1)
	if wake, ok := r.d.Next(r.now); !ok || wake > r.now {
		t.Fatalf("next at %d, %v though the match broke off", wake-r.now, ok)
	}
	r.wantRows(r.take(9), rows[3:])
}
