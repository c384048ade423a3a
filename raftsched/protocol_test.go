package raftsched

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
)

// The schedules of the protocol's design that need no second node, by number.

// TestSchedule1: an answer delayed beyond heartbeats, a heartbeat delivered
// twice and late (C1).
func TestSchedule1(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k, other := w.worker("p0"), w.worker("p1")
		w.submit(1)
		lostAnswer, _, err := w.node.Poll(context.Background(), k.request(1, time.Second))
		if err != nil || len(lostAnswer) != 1 {
			t.Fatalf("%v %v", lostAnswer, err)
		}
		open := Heartbeat{Session: k.session, PollsClosed: 0}
		for range 2 {
			if _, err := w.node.Heartbeat(context.Background(), open); err != nil {
				t.Fatal(err)
			}
		}
		if got := other.poll(1, 3*time.Second); len(got) != 0 {
			t.Fatal("a lease whose poll is open was taken back")
		}
		closed := Heartbeat{Session: k.session, PollsClosed: 1}
		if _, err := w.node.Heartbeat(context.Background(), closed); err != nil {
			t.Fatal(err)
		}
		got := other.poll(1, 3*time.Second)
		if len(got) != 1 || got[0].Row.Attempt != 0 || got[0].Lease.ID == lostAnswer[0].Lease.ID {
			t.Fatalf("not granted again, uncounted: %+v", got)
		}
		if k.report(lostAnswer[0], nil) != Stale {
			t.Fatal("a report under the lost lease was taken")
		}
		// The old snapshot again, after the next poll was answered.
		w.submit(2)
		if got := k.poll(1, time.Second); len(got) != 1 {
			t.Fatalf("%d grants", len(got))
		}
		before := w.leases()
		for range 2 {
			if _, err := w.node.Heartbeat(context.Background(), closed); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if w.leases() != before {
			t.Fatal("an old heartbeat took a delivered lease back")
		}
	})
}

// TestSchedule3: a read is paused between its rows and their delivery; the job
// ends in between (C3, I9).
func TestSchedule3(t *testing.T) {
	ready := func(r *dispatch.Row) { r.RunAt = dbNow() }
	for name, rounds := range map[string][]func(*dispatch.Row){
		"finish": {nil}, "snooze": {ready, nil}, "twice": {ready, ready, nil},
	} {
		for _, read := range []string{"walk", "sweep", "hint"} {
			kind := map[string]string{"walk": "walk", "sweep": "load", "hint": "load"}[read]
			t.Run(name+" "+read, func(t *testing.T) {
				bubble(t, nil, func(t *testing.T, w *world) {
					if read == "sweep" {
						// Too much for a walk: sweeps load stream by stream.
						w.node.reign.Load().put(func(l *loop) { l.reads.noWalk = l.now.Add(time.Hour) })
					}
					k, idle := w.worker("p0"), w.worker("p1")
					w.submit(1)
					g := k.poll(1, time.Second)[0]
					reached, free := make(chan struct{}), make(chan struct{})
					w.table.set(func() {
						w.table.gate = func(what string) {
							if what == kind {
								w.table.set(func() { w.table.gate = nil })
								close(reached)
								<-free
							}
						}
					})
					granted := make(chan []Grant, 1)
					go func() { granted <- idle.poll(1, 10*time.Second) }()
					if read == "hint" {
						synctest.Wait()
						w.node.Hint([]dispatch.LanePriority{{Lane: dispatch.Lane{Route: 1}, Priority: 2}})
					}
					<-reached // it has seen the leased job's row
					for i, again := range rounds {
						if got := k.report(g, again); got != Admitted {
							t.Errorf("report %d: %v", i, got)
							break
						}
						if again != nil {
							next := (<-granted)[0]
							if next.Lease.Turn != int32(i+1) {
								t.Errorf("turn %d in round %d", next.Lease.Turn, i)
							}
							k, g, idle = idle, next, k
							other := idle
							go func() { granted <- other.poll(1, 10*time.Second) }()
						}
					}
					w.await("release", func() bool { return w.leases() == 0 })
					close(free)
					if got := <-granted; len(got) != 0 {
						t.Errorf("I9: a finished job was granted: %+v", got)
					}
				})
			})
		}
	}
}

// TestSchedule4: a hint comes 5 s late, and twice (C4).
func TestSchedule4(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		w.submit(1)
		k.report(k.poll(1, time.Second)[0], nil)
		for range 2 {
			time.Sleep(5 * time.Second)
			w.node.Hint([]dispatch.LanePriority{{Lane: dispatch.Lane{Route: 1}, Priority: 2}})
			if got := k.poll(1, 3*time.Second); len(got) != 0 {
				t.Fatalf("granted again: %v", got)
			}
		}
	})
}

// TestSchedule5: the leader dies between closing and the fact, and between the
// fact and the release: charged once each (C5). A job that kills worker and
// leader ends failed after its attempts.
func TestSchedule5(t *testing.T) {
	for name, die := range map[string]func(*world) *atomic.Bool{
		"before the fact":    func(w *world) *atomic.Bool { return &w.deaf },
		"before the release": func(w *world) *atomic.Bool { return &w.dying },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				k := w.worker("p0")
				w.submit(1)
				k.poll(1, time.Second)
				die(w).Store(true)
				<-w.ends // the session was lost
				synctest.Wait()
				if w.leases() != 1 {
					t.Fatal("the lease left before its fact")
				}
				if _, err := k.beat(); !errors.Is(err, ErrUnknownSession) {
					t.Fatalf("a closing session's heartbeat: %v", err)
				}
				die(w).Store(false)
				w.restart()
				got := w.worker("p1").poll(1, 5*time.Second)
				if len(got) != 1 || got[0].Row.Attempt != 1 {
					t.Fatalf("granted after the loss: %+v", got)
				}
				w.await("session gone", func() bool { return len(w.node.Sessions()) == 1 })
			})
		})
	}
	t.Run("poison", func(t *testing.T) {
		bubble(t, func(c *Config) { c.DeadProcess = func(p string) bool { return p == "dead" } }, func(t *testing.T, w *world) {
			w.submit(1)
			for round := range 10 {
				got := w.worker("dead").poll(1, 5*time.Second)
				if len(got) != 1 || int(got[0].Row.Attempt) != round {
					t.Fatalf("round %d: %+v", round, got)
				}
				w.restart() // both are dead; no TTL passes
				synctest.Wait()
			}
			if got := w.worker("p").poll(1, 10*time.Second); len(got) != 0 {
				t.Fatalf("granted an eleventh time: %+v", got)
			}
			if w.table.ended[job(1)] != "failed" || w.leases() != 0 {
				t.Fatalf("ended %q, %d leases", w.table.ended[job(1)], w.leases())
			}
		})
	})
}

// TestSchedule6: a snooze is committed and the leader dies before the release; a
// snooze's report is sent again after the job was granted anew (C6).
func TestSchedule6(t *testing.T) {
	snooze := func(r *dispatch.Row) { r.RunAt = dbNow() + 1_000_000 }
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		w.submit(1)
		first := k.poll(1, time.Second)[0]
		epoch, _ := w.node.Leader()
		if _, ok, err := w.table.write(epoch, first.Lease, "", snooze); !ok || err != nil {
			t.Fatal(err)
		}
		w.restart()
		if w.leases() != 0 {
			t.Fatal("takeover believes that a snoozed job runs")
		}
		if k.report(first, snooze) != Stale {
			t.Fatal("the snooze was written again")
		}
		second := k.poll(1, 5*time.Second)
		if len(second) != 1 || second[0].Row.Attempt != 0 || second[0].Lease.Turn != 1 {
			t.Fatalf("after the snooze: %+v", second)
		}
		if k.report(second[0], snooze) != Admitted {
			t.Fatal("second snooze")
		}
		third := k.poll(1, 5*time.Second) // the same session again
		if k.report(second[0], nil) != Stale {
			t.Fatal("a duplicate of the second report ended the third run")
		}
		if len(third) != 1 || k.report(third[0], nil) != Admitted {
			t.Fatalf("third run: %+v", third)
		}
	})
}

// TestSchedule7: a retry by hand, then all reports of the first life again.
func TestSchedule7(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		var life []Grant
		w.submit(1)
		for range 3 {
			g := k.poll(1, 5*time.Second)[0]
			life = append(life, g)
			again := func(r *dispatch.Row) { r.Attempt++; r.RunAt = dbNow() }
			if len(life) == 3 {
				again = nil
			}
			k.report(g, again)
		}
		mark := w.node.Begin()
		w.table.set(func() { delete(w.table.ended, job(1)) })
		row := w.table.insert(1, func(r *dispatch.Row) { r.Turn = 4 })
		w.node.Done(Done{Ready: []dispatch.Row{row}, Mark: mark})
		g := k.poll(1, 5*time.Second)
		if len(g) != 1 || g[0].Row.Attempt != 0 {
			t.Fatalf("second life: %+v", g)
		}
		for _, old := range life {
			if k.report(old, nil) != Stale {
				t.Fatal("a report of the first life was taken")
			}
		}
		if k.report(g[0], nil) != Admitted {
			t.Fatal("the second life's report")
		}
	})
}
