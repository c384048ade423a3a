package raftsched

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// attempts counted for a job.
func (w *world) attempts(n int32) (attempts int16) {
	w.table.set(func() { attempts = w.table.rows[job(n)].Attempt })
	return attempts
}

// TestCloseWhileSessionsExpire: a worker stops gracefully while the disk is
// slow, and just then the sessions are looked through. The stop costs no
// attempt (I7).
func TestCloseWhileSessionsExpire(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		w.submit(1)
		if got := k.poll(1, time.Second); len(got) != 1 {
			t.Fatalf("granted %d of 1", len(got))
		}
		time.Sleep(w.cfg.SessionTTL - time.Second)
		k.mustBeat()
		free := w.log.stick()
		closed := make(chan error, 1)
		go func() { closed <- w.node.CloseSession(context.Background(), k.session, k.polls) }()
		time.Sleep(2 * time.Second) // past the instant at which it was to expire at first
		free()
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		got := w.worker("p1").poll(1, 5*time.Second)
		if len(got) != 1 {
			t.Fatalf("granted %d of 1 after the stop", len(got))
		}
		if n := w.attempts(1); n != 0 || len(w.ends) != 0 {
			t.Errorf("a graceful stop cost %d attempts, %d ends were found", n, len(w.ends))
		}
	})
}

// TestCloseWhoseCallerLeaves: whoever asks for a graceful close does not wait
// for its answer. The session closes all the same, at no cost.
func TestCloseWhoseCallerLeaves(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		for n := range int32(10) { // the caller's end and the answer race
			k := w.worker("p0")
			w.submit(n + 1)
			if got := k.poll(1, time.Second); len(got) != 1 {
				t.Fatalf("granted %d of 1", len(got))
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := w.node.CloseSession(ctx, k.session, k.polls); err == nil {
				t.Log("closed before it noticed")
			}
			k2 := w.worker("p1")
			got := k2.poll(1, 30*time.Second)
			if len(got) != 1 {
				t.Fatalf("granted %d of 1 after the stop", len(got))
			}
			if a := w.attempts(n + 1); a != 0 || len(w.ends) != 0 {
				t.Fatalf("a graceful stop cost %d attempts, %d ends were found", a, len(w.ends))
			}
			if k2.report(got[0], nil) != Admitted {
				t.Fatal("report not admitted")
			}
			if err := w.node.CloseSession(context.Background(), k2.session, k2.polls); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(w.node.Sessions()); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

// TestOutcomeAfterClose: the outcome of an attempt commits after its session was
// closed gracefully and its job granted to another one. That one's lease keeps
// the job until its own report, which is too late; nobody proposes grants that
// the state refuses meanwhile.
func TestOutcomeAfterClose(t *testing.T) {
	for name, inFlight := range map[string]bool{"granted": false, "grant in flight": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) { outcomeAfterClose(t, w, inFlight) })
		})
	}
}

func outcomeAfterClose(t *testing.T, w *world, inFlight bool) {
	k, second, third := w.worker("p0"), w.worker("p1"), w.worker("p2")
	w.submit(1)
	g := k.poll(1, time.Second)[0]
	_, leases := w.node.Admit(k.session, []HeldLease{{g.Lease.Job, g.Lease.ID}})
	mark := w.node.Begin() // the flush waits for a lock
	if err := w.node.CloseSession(context.Background(), k.session, k.polls); err != nil {
		t.Fatal(err)
	}
	free := func() {}
	if inFlight {
		free = w.log.stick()
	}
	late := make(chan []Grant, 1)
	go func() { late <- second.poll(1, time.Second) }()
	synctest.Wait()
	epoch, _ := w.node.Leader()
	row, ok, err := w.table.write(epoch, leases[0], "p0", func(r *dispatch.Row) { r.Attempt++; r.RunAt = dbNow() })
	if err != nil || !ok {
		t.Fatalf("flush: %v, %v", ok, err)
	}
	w.node.Done(Done{Ended: leases, Ready: []dispatch.Row{*row}, Mark: mark})
	synctest.Wait()
	free()
	held := <-late
	if len(held) != 1 || held[0].Lease.Turn != 0 {
		t.Fatalf("granted %v after the stop", held)
	}

	var before, after uint64
	w.node.replica.read(func(s *fsm.State) { before = s.Index() })
	var wg sync.WaitGroup
	var got []Grant
	wg.Go(func() {
		for range 100 { // a poll may be answered with nothing
			if got = third.poll(1, 5*time.Second); len(got) > 0 {
				return
			}
		}
	})
	time.Sleep(10 * time.Second)
	second.mustBeat()
	w.node.replica.read(func(s *fsm.State) { after = s.Index() })
	if after-before > 3 {
		t.Errorf("%d entries while the job could not be granted", after-before)
	}
	if a := second.report(held[0], nil); a != Stale {
		t.Errorf("the second report: %v, want stale", a)
	}
	wg.Wait()
	if len(got) != 1 || got[0].Lease.Turn != 1 {
		t.Errorf("granted %v, want the next turn", got)
	}
}

// TestLeaseClosedDuringTakeover: a session closes gracefully between the look at
// its leases and their adoption by a new leader. They are not adopted: nobody
// would ever end them.
func TestLeaseClosedDuringTakeover(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		w.submit(1)
		g := k.poll(1, time.Second)[0]
		facts, err := w.table.Leases(context.Background(), []fsm.Lease{g.Lease})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.node.CloseSession(context.Background(), k.session, k.polls); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r := w.node.reign.Load()
		if err := r.call(func(l *loop) { l.adoptLeases(facts, []uint32{0}) }); err != nil {
			t.Fatal(err)
		}
		if got := w.worker("p1").poll(1, 5*time.Second); len(got) != 1 {
			t.Errorf("granted %d of 1", len(got))
		}
	})
}

// TestLeaderHeldUp: the leader's process stands still for longer than the TTL.
// The workers' heartbeats could not come through: none of them is lost.
func TestLeaderHeldUp(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p0")
		w.submit(1)
		g := k.poll(1, time.Second)[0]
		w.node.reign.Load().put(func(*loop) { time.Sleep(w.cfg.SessionTTL + 5*time.Second) })
		time.Sleep(w.cfg.SessionTTL + 6*time.Second)
		for range 5 {
			k.mustBeat()
			time.Sleep(4 * time.Second)
		}
		if a := k.report(g, nil); a != Admitted || len(w.ends) != 0 {
			t.Errorf("report %v, %d ends found", a, len(w.ends))
		}
		// One that is silent is lost all the same.
		w.submit(2)
		k.poll(1, time.Second)
		time.Sleep(w.cfg.SessionTTL + time.Second)
		if _, err := k.beat(); err == nil {
			t.Error("a silent session was kept")
		}
	})
}
