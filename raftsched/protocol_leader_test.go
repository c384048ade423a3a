package raftsched

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

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
		if _, _, err := w.node.OpenSession(context.Background(), Worker{Name: "w", Process: "p"}); err != nil && !errors.Is(err, ErrNotLeader) {
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
		if got := other.poll(1, 50*time.Millisecond); len(got) != 1 || got[0].Row.Attempt != 0 {
			t.Fatalf("elsewhere, at once: %+v", got)
		}
	})
}

// TestFrontOfItsQueue: what is given back goes to the front at once, though the
// stream has more rows than a window.
func TestFrontOfItsQueue(t *testing.T) {
	bubble(t, func(c *Config) { c.Window = 4 }, func(t *testing.T, w *world) {
		for i := range int32(100) {
			w.table.insert(1+i, func(r *dispatch.Row) { r.RunAt += int64(i) - 1000 })
		}
		k, other := w.worker("p0"), w.worker("p1")
		first := k.poll(2, 5*time.Second)
		if len(first) != 2 || first[0].Lease.Job != job(1) {
			t.Fatalf("first %+v", first)
		}
		other.poll(20, time.Second)
		if err := w.node.CloseSession(context.Background(), k.session, k.polls); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		got := other.poll(2, time.Second)
		if len(got) != 2 || got[0].Lease.Job != job(1) || got[1].Lease.Job != job(2) {
			t.Fatalf("after the stop: %+v", got)
		}
	})
}

// TestCommandsAcrossReigns: a worker that has seen commands of one reign sees
// those of the next; its first heartbeat is answered at once, with the epoch.
func TestCommandsAcrossReigns(t *testing.T) {
	bubble(t, func(c *Config) { c.CancelTold = func(flags int32) bool { return flags&32 != 0 } }, func(t *testing.T, w *world) {
		k := w.worker("p0")
		w.submit(1)
		g := k.poll(1, time.Second)[0]
		for range 5 {
			w.node.Tell([]fsm.JobID{job(1)})
		}
		k.mustBeat()
		w.table.set(func() { w.table.rows[job(1)].Flags |= 32 })
		w.restart()
		begun := time.Now()
		c, err := w.node.Heartbeat(context.Background(), Heartbeat{
			Session: k.session, PollsClosed: k.polls, Held: []HeldLease{{g.Lease.Job, g.Lease.ID}}, CommandsSeen: k.seen, Wait: time.Minute,
		})
		if err != nil || c.Epoch != 2 || time.Since(begun) != 0 || len(c.Cancel) != 1 || c.Number <= k.seen {
			t.Fatalf("%+v %v after %v", c, err, time.Since(begun))
		}
		k.seen = c.Number
		w.node.Fenced(2)
		w.await("third reign", func() bool { epoch, ready := w.node.Leader(); return ready && epoch == 3 })
		w.table.set(func() { w.table.rows[job(1)].Flags = 0 })
		w.node.Fenced(3)
		w.await("fourth reign", func() bool { epoch, ready := w.node.Leader(); return ready && epoch == 4 })
		begun = time.Now()
		c, err = w.node.Heartbeat(context.Background(), Heartbeat{
			Session: k.session, PollsClosed: k.polls, Held: []HeldLease{{g.Lease.Job, g.Lease.ID}}, CommandsSeen: k.seen, Wait: time.Minute,
		})
		if err != nil || c.Epoch != 4 || time.Since(begun) != 0 || len(c.Cancel) != 0 {
			t.Fatalf("nothing to say but the epoch: %+v %v after %v", c, err, time.Since(begun))
		}
	})
}
