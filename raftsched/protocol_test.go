package raftsched

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
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
		for _, kind := range []string{"walk", "load"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				bubble(t, nil, func(t *testing.T, w *world) {
					if kind == "load" {
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

// TestSchedule13: the leader restarts behind committed grants. Those a worker
// holds stand (I7); one whose answer nobody got is taken back by the heartbeat.
func TestSchedule13(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		w.submit(1)
		held := k.poll(1, time.Second)[0]
		w.submit(2)
		free := w.log.stick()
		ctx, leave := context.WithCancel(context.Background())
		left := make(chan error, 1)
		go func() {
			_, _, err := w.node.Poll(ctx, k.request(1, time.Minute))
			left <- err
		}()
		synctest.Wait()
		time.Sleep(time.Second) // the grant is in the log, and not committed
		leave()
		<-left
		// The grant commits while the node stops: nobody is answered.
		stopped := make(chan error, 1)
		go func() { stopped <- w.node.Stop(context.Background()) }()
		synctest.Wait()
		free()
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		w.start()
		if w.leases() != 2 {
			t.Fatalf("%d leases after the restart", w.leases())
		}
		if c := k.mustBeat(); len(c.Lost) != 0 {
			t.Fatalf("told lost: %+v", c)
		}
		got := k.poll(1, 5*time.Second)
		if len(got) != 1 || got[0].Lease.Job != job(2) || got[0].Row.Attempt != 0 {
			t.Fatalf("the undelivered job: %+v", got)
		}
		if k.report(held, nil) != Admitted {
			t.Fatal("I7: the report of a run across the restart")
		}
	})
}

// TestSchedule14: the database is away for 60 s while handlers run: none is
// cancelled, none charged, and it is not stormed.
func TestSchedule14(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		w.submit(1)
		g := k.poll(1, time.Second)[0]
		w.table.set(func() { w.table.down = true })
		before := w.table.count()
		polled := make(chan []Grant, 1)
		go func() { polled <- k.poll(1, 90*time.Second) }()
		synctest.Wait()
		req := k.polls - 1
		for range 60 {
			w.node.Hint([]dispatch.LanePriority{{Lane: dispatch.Lane{Route: 1}, Priority: 2}})
			time.Sleep(time.Second)
			hb := Heartbeat{Session: k.session, PollsClosed: req, Held: []HeldLease{{g.Lease.Job, g.Lease.ID}}}
			if c, err := w.node.Heartbeat(context.Background(), hb); err != nil || len(c.Lost)+len(c.Cancel) != 0 {
				t.Fatalf("%+v %v", c, err)
			}
		}
		if n := w.table.count() - before; n > 180 {
			t.Errorf("%d statements to a database that is down", n)
		}
		if k.report(g, nil) != Unknown {
			t.Fatal("a report was acknowledged")
		}
		w.table.set(func() { w.table.down = false })
		w.table.insert(2)
		begun := time.Now()
		if got := <-polled; len(got) != 1 || time.Since(begun) > 5*time.Second {
			t.Fatalf("%d grants %v after the return", len(got), time.Since(begun))
		}
		if k.report(g, nil) != Admitted {
			t.Fatal("the report, sent again")
		}
		if len(w.ends) != 0 {
			t.Fatalf("charged: %+v", <-w.ends)
		}
	})
}

// TestDatabaseDownAtStart: the node comes to dispatching when the database
// comes back.
func TestDatabaseDownAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.table.down = true
		w.boot()
		time.Sleep(time.Minute)
		if w.node.Ready() {
			t.Error("ready without a database")
		}
		if _, _, err := w.node.OpenSession(context.Background(), "w", "p"); err != nil && !errors.Is(err, ErrNotLeader) {
			t.Errorf("open: %v", err)
		}
		if n := w.table.count("takeover"); n > 60 {
			t.Errorf("%d takeovers tried in a minute", n)
		}
		w.table.set(func() { w.table.down = false })
		w.await("ready", w.node.Ready)
		w.stop()
	})
}

// TestSchedule15: a bulk insert of 30 s commits below the cursor of a busy
// stream, its hint is dropped; a stream nobody knows: all start within 2 s (I10).
func TestSchedule15(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		for i := range int32(30) {
			w.submit(1000 + i)
			k.report(k.poll(1, time.Second)[0], nil)
			time.Sleep(time.Second)
		}
		past := func(r *dispatch.Row) { r.RunAt -= 30_000_000 }
		for i := range int32(50) {
			w.table.insert(1+i, past)
		}
		w.table.insert(100, past, func(r *dispatch.Row) { r.Lane = dispatch.Lane{Route: 2, Key: "new"} })
		w.table.insert(101, past, func(r *dispatch.Row) { r.Priority = 1 })
		begun := time.Now()
		for got := 0; got < 52; {
			grants := k.poll(100, 5*time.Second)
			got += len(grants)
			if len(grants) == 0 || time.Since(begun) > 2*time.Second {
				t.Fatalf("I10: %d of 52 after %v", got, time.Since(begun))
			}
		}
	})
}

// TestSchedule17: cancel and pause at each step of a grant in flight (C14).
func TestSchedule17(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		// Before the match: held, then gone.
		release, leased, err := w.node.HoldJob(context.Background(), job(1))
		if err != nil || len(leased) != 0 {
			t.Fatal(leased, err)
		}
		w.submit(1, 2)
		if got := k.poll(10, 5*time.Second); len(got) != 1 || got[0].Lease.Job != job(2) {
			t.Fatalf("granted beside a hold: %+v", got)
		}
		mark := w.node.Begin()
		w.table.set(func() { delete(w.table.rows, job(1)); w.table.ended[job(1)] = "cancelled" })
		w.node.Done(Done{Gone: []dispatch.JobTurn{{Job: job(1)}}, Mark: mark})
		release()
		release()
		if got := k.poll(10, 5*time.Second); len(got) != 0 {
			t.Fatalf("a cancelled job was granted: %+v", got)
		}
		// In flight: the command waits and learns that the job is leased.
		free := w.log.stick()
		polled := make(chan []Grant, 1)
		w.submit(3)
		go func() { polled <- k.poll(10, time.Minute) }()
		synctest.Wait()
		type held struct {
			leased []fsm.Lease
			err    error
		}
		holds := make(chan held, 1)
		go func() {
			release, leased, err := w.node.HoldWorkflow(context.Background(), job(3).Workflow)
			defer release()
			holds <- held{leased, err}
		}()
		synctest.Wait()
		w.node.SetQueuePaused("default", true)
		w.submit(4)
		time.Sleep(time.Second)
		if len(holds) != 0 {
			t.Fatal("the command did not wait for the entry in flight")
		}
		free()
		g := <-polled
		h := <-holds
		if h.err != nil || len(h.leased) != 1 || len(g) != 1 || h.leased[0] != g[0].Lease {
			t.Fatalf("held %+v, granted %+v", h, g)
		}
		// A command whose caller leaves ends its hold.
		free = w.log.stick()
		w.node.SetQueuePaused("default", false)
		ctx, leave := context.WithCancel(context.Background())
		go func() { polled <- k.poll(10, time.Minute) }()
		synctest.Wait()
		errs := make(chan error, 1)
		go func() {
			_, _, err := w.node.HoldJob(ctx, job(5))
			errs <- err
		}()
		synctest.Wait()
		leave()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Fatalf("hold: %v", err)
		}
		free()
		if g := <-polled; len(g) != 1 || g[0].Lease.Job != job(4) {
			t.Fatalf("after the pause: %+v", g)
		}
		w.submit(5)
		if got := k.poll(1, 5*time.Second); len(got) != 1 {
			t.Fatal("a hold without an owner stays")
		}
		// A job whose end is written is not leased, though its release is to come.
		k.report(g[0], func(r *dispatch.Row) { r.RunAt = dbNow() + 60_000_000 })
		release, leased, err = w.node.HoldJob(context.Background(), job(3))
		if err != nil || len(leased) != 0 {
			t.Fatalf("leased %+v %v", leased, err)
		}
		release()
	})
}

// TestSchedule18: a session is closed behind its grant in the log: the job goes
// on elsewhere, uncounted.
func TestSchedule18(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k, other := w.worker("p0"), w.worker("p1")
		free := w.log.stick()
		answer := make(chan error, 1)
		go func() {
			_, _, err := w.node.Poll(context.Background(), k.request(1, time.Minute))
			answer <- err
		}()
		synctest.Wait()
		w.submit(1)
		synctest.Wait()
		time.Sleep(time.Second)
		closed := make(chan error, 1)
		go func() { closed <- w.node.CloseSession(context.Background(), k.session, k.polls) }()
		synctest.Wait()
		if err := <-answer; !errors.Is(err, ErrUnknownSession) {
			t.Fatalf("the closed session's poll: %v", err)
		}
		free()
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		if err := w.node.CloseSession(context.Background(), k.session, k.polls); err != nil {
			t.Fatalf("closed twice: %v", err)
		}
		got := other.poll(1, 5*time.Second)
		if len(got) != 1 || got[0].Row.Attempt != 0 || got[0].Row.Turn != 0 {
			t.Fatalf("elsewhere: %+v", got)
		}
		if len(w.ends) != 0 {
			t.Fatal("a graceful stop was charged")
		}
	})
}

// TestAbandonedPoll: a grant whose caller has left is taken back when it
// commits, not at the next heartbeat.
func TestAbandonedPoll(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k, other := w.worker("p0"), w.worker("p1")
		free := w.log.stick()
		ctx, leave := context.WithCancel(context.Background())
		left := make(chan struct{})
		go func() {
			defer close(left)
			_, _, err := w.node.Poll(ctx, k.request(1, time.Minute))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("poll: %v", err)
			}
		}()
		synctest.Wait()
		w.submit(1)
		synctest.Wait()
		leave()
		<-left
		synctest.Wait()
		free()
		if got := other.poll(1, time.Second); len(got) != 1 || got[0].Row.Attempt != 0 {
			t.Fatalf("elsewhere: %+v", got)
		}
	})
}
