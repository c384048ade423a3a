package dispatch

import "testing"

func TestNeverEarlyAndNext(t *testing.T) {
	r := newRig(t, Config{})
	soon, later := r.row(1, -second), r.row(1, -3*second)
	r.ready(later, soon)
	r.wait(1, 1)
	r.serveAll()
	r.wantRows(r.take(9), nil)
	r.now += second - 1
	r.serveAll()
	r.wantRows(r.take(9), nil)
	if wake, ok := r.d.Next(r.now); !ok || wake != soon.RunAt {
		t.Fatalf("next in %d us, want 1", wake-r.now)
	}
	r.now++
	r.wantRows(r.take(9), []Row{soon})
	r.now += 2 * second
	r.wait(1, 1)
	r.wantRows(r.take(9), []Row{later})
}

func TestEarlierRowOvertakesTheTimer(t *testing.T) {
	r := newRig(t, Config{})
	later, soon := r.row(1, -9*second), r.row(1, -second)
	r.wait(1, 1)
	r.ready(later)
	r.ready(soon)
	r.now += second
	r.wantRows(r.take(9), []Row{soon})
}

func TestRowsBeyondTheHorizonStayInTheDatabase(t *testing.T) {
	for _, known := range []string{"ready", "load"} {
		t.Run(known, func(t *testing.T) {
			r := newRig(t, Config{Horizon: 10 * second})
			far := r.row(1, -60*second)
			farther := r.row(1, -90*second)
			near := r.row(1, -second)
			switch known {
			case "ready":
				r.ready(farther, far, near)
			default:
				r.store(far, farther, near)
			}
			r.wait(1, 1)
			r.serveAll()
			if n := r.d.Stats().Rows; n != 1 {
				t.Fatalf("%d rows are kept, want the near one", n)
			}
			r.now += second
			r.wantRows(r.take(1), []Row{near})
			// A near row enters although far ones are known to lie behind.
			next := r.row(1, 0)
			r.ready(next)
			r.wait(1, 1)
			r.wantRows(r.take(1), []Row{next})
			r.wait(1, 1)
			for _, row := range []Row{far, farther} {
				for r.now < row.RunAt {
					r.serveAll()
					r.wantRows(r.take(1), nil)
					wake, ok := r.d.Next(r.now)
					if !ok || wake <= r.now {
						t.Fatalf("next is %d us from now, %v", wake-r.now, ok)
					}
					r.now = wake
				}
				r.serveAll()
				r.wantRows(r.take(1), []Row{row})
				r.wait(1, 1)
			}
		})
	}
}

func TestStreamWakesBeforeItsFarRows(t *testing.T) {
	r := newRig(t, Config{Horizon: 10 * second, SweepEvery: 3_600 * second})
	far := r.row(1, -60*second)
	r.ready(far)
	r.wait(1, 1)
	r.serveAll()
	r.now = far.RunAt - 5*second - 1
	if w := r.serve(); len(w.Loads) != 0 {
		t.Fatalf("wants %+v too soon", w)
	}
	r.now++
	if wake, ok := r.d.Next(r.now); !ok || wake > r.now {
		t.Fatalf("next is in %d us", wake-r.now)
	}
	if w := r.serve(); len(w.Loads) != 1 {
		t.Fatalf("wants %+v", w)
	}
	r.now = far.RunAt
	r.wantRows(r.take(1), []Row{far})
}

func TestClockSetBack(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(1, 0)
	r.ready(row)
	r.wait(1, 1)
	r.serveAll()
	r.now -= 3_600 * second
	r.wantRows(r.take(9), nil)
	late := r.row(1, second)
	r.store(late) // nobody tells
	for range 30 {
		r.serveAll()
		if got := r.take(9); len(got) > 0 {
			r.wantRows(got, []Row{late})
			r.now += 3_600 * second
			r.wait(1, 1)
			r.wantRows(r.take(9), []Row{row})
			return
		}
		r.now += second / 10
	}
	t.Fatal("nothing was searched for after the clock was set back")
}

func TestExpiredRowsAreNotRun(t *testing.T) {
	r := newRig(t, Config{})
	waits, ends, good := r.row(1, 5), r.row(1, 4), r.row(1, 3)
	waits.ExpiresAt, ends.DeadlineAt = r.now+second, r.now+second
	good.ExpiresAt = r.now + 2*second
	r.ready(waits, ends, good)
	r.now += second
	r.wait(1, 9)
	r.wantRows(r.take(9), []Row{good})
	if n := r.d.Stats().Rows; n != 0 {
		t.Fatalf("%d rows are kept", n)
	}
}

func TestIdleDispatcherAsksLittle(t *testing.T) {
	r := newRig(t, Config{})
	if _, ok := r.d.Next(r.now); ok {
		t.Fatal("it wants to be woken though nobody polls")
	}
	for s := range uint64(10) {
		r.wait(s+1, 10)
	}
	requests := 0
	for start := r.now; r.now < start+60*second; {
		w := r.serve()
		if len(w.Loads)+len(w.Sweeps) > 0 {
			t.Fatalf("wants %+v though there is nothing", w)
		}
		if w.Scan != nil {
			requests++
		}
		wake, ok := r.d.Next(r.now)
		if !ok {
			t.Fatal("it does not want to be woken")
		}
		r.now = max(wake, r.now+1)
	}
	if requests < 49 || requests > 51 {
		t.Fatalf("%d scans in a minute, want 50", requests)
	}
	for s := range uint64(10) {
		r.d.DropSession(s + 1)
		clear(r.polls[s+1])
	}
	r.now += 10 * second
	if w := r.serve(); w.Scan != nil {
		t.Fatal("a scan though nobody polls")
	}
	if _, ok := r.d.Next(r.now); ok {
		t.Fatal("it wants to be woken though nobody polls")
	}
}

// Streams whose jobs all run are swept together, in one batch a second.
func TestSweepsTravelTogether(t *testing.T) {
	r := newRig(t, Config{})
	var rows []Row
	for i := range 50 {
		rows = append(rows, keyed(r.row(1, 5), string(rune('A'+i))))
	}
	r.wait(1, 100)
	for _, row := range rows {
		r.ready(row)
		r.now += second / 50
	}
	r.take(100)
	r.wait(1, 100)
	batches, streams := 0, 0
	for start := r.now; r.now < start+20*second; {
		w := r.serve()
		if len(w.Sweeps) > 0 {
			batches++
			streams += len(w.Sweeps)
		}
		wake, _ := r.d.Next(r.now)
		r.now = max(wake, r.now+1)
	}
	if batches > 30 || streams < 50*15 || streams > 50*25 {
		t.Fatalf("%d batches with %d sweeps of 50 streams in 20 s", batches, streams)
	}
}
