package raftsched

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

func TestJobThroughItsLife(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p1")
		w.submit(1, 2, 3)
		grants := k.poll(10, time.Second)
		for len(grants) < 3 {
			more := k.poll(10, time.Second)
			if len(more) == 0 {
				t.Fatalf("%d of 3 jobs granted", len(grants))
			}
			grants = append(grants, more...)
		}
		if w.leases() != 3 {
			t.Fatalf("%d leases", w.leases())
		}
		for _, g := range grants {
			if g.Route.Kind != "a" || g.Lease.ID == 0 {
				t.Fatalf("grant %+v", g)
			}
			if got := k.report(g, nil); got != Admitted {
				t.Fatalf("report: %v", got)
			}
		}
		w.await("releases", func() bool { return w.leases() == 0 })
		if got := k.report(grants[0], nil); got != Stale {
			t.Fatalf("second report: %v", got)
		}
		if got := k.poll(1, 5*time.Second); len(got) != 0 {
			t.Fatalf("granted again: %v", got)
		}
	})
}

func TestPollWaitsForTime(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p1")
		at := time.Now().Add(3 * time.Second)
		w.table.insert(1, func(r *dispatch.Row) { r.RunAt = at.UnixMicro() })
		got := k.poll(1, 10*time.Second)
		if len(got) != 1 || time.Now().Before(at) || time.Since(at) > 100*time.Millisecond {
			t.Fatalf("%d grants at %v of its time", len(got), time.Since(at))
		}
	})
}

// TestIdleIsQuiet: ten idle workers cost the database less than one statement a
// second, and a job that nobody told of starts within 2 s (I10).
func TestIdleIsQuiet(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		stop := make(chan struct{})
		got := make(chan time.Time, 1)
		for range 10 {
			k := w.worker("p")
			go func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					req := k.request(10, 30*time.Second)
					grants, _, err := w.node.Poll(t.Context(), req)
					if err != nil {
						return
					}
					for _, g := range grants {
						got <- time.Now()
						k.report(g, nil)
					}
				}
			}()
			go func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := w.node.Heartbeat(t.Context(), Heartbeat{Session: k.session, Wait: time.Minute}); err != nil {
						return
					}
				}
			}()
		}
		w.submit(1)
		<-got
		time.Sleep(10 * time.Second)
		before := w.table.count()
		time.Sleep(100 * time.Second)
		if n := w.table.count() - before; n >= 100 || n < 40 {
			t.Errorf("%d statements in 100 s", n)
		}
		for i := range int32(20) {
			time.Sleep(time.Duration(i) * 137 * time.Millisecond)
			submitted := time.Now()
			w.table.insert(100+i, func(r *dispatch.Row) {
				r.Lane.Key = string('a' + i) // a stream nobody has seen
				r.RunAt = submitted.Add(-30 * time.Second).UnixMicro()
			})
			if late := (<-got).Sub(submitted); late > 2*time.Second {
				t.Errorf("I10: started after %v", late)
			}
		}
		close(stop)
	})
}

func TestArgumentsFromPayloads(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p1")
		w.table.set(func() { w.table.args[job(1)] = []byte("large") })
		w.table.insert(1, func(r *dispatch.Row) { r.Flags = argsElsewhere })
		w.table.insert(2, func(r *dispatch.Row) { r.Args = []byte("small") })
		seen := map[string]bool{}
		for len(seen) < 2 {
			got := k.poll(10, 5*time.Second)
			if len(got) == 0 {
				t.Fatalf("arguments %v", seen)
			}
			for _, g := range got {
				seen[string(g.Row.Args)] = true
			}
		}
		if !seen["large"] || !seen["small"] {
			t.Fatalf("arguments %v", seen)
		}
	})
}

// TestFencedTakesNewEpoch: a fenced transaction ends its reign only; the node
// leads again under a higher epoch, above a database that is ahead, and waiting
// polls are told.
func TestFencedTakesNewEpoch(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p1")
		old, _ := w.node.Leader()
		w.table.set(func() { w.table.epoch = 40_000_000 }) // C13
		answer := make(chan error, 1)
		go func() {
			_, _, err := w.node.Poll(context.Background(), k.request(1, time.Minute))
			answer <- err
		}()
		w.await("poll", func() bool { s := w.node.Sessions(); return len(s) == 1 && s[0].Slots == 1 })
		w.node.Fenced(old + 1)
		time.Sleep(time.Second)
		if epoch, leading := w.node.Leader(); epoch != old || !leading || len(answer) != 0 {
			t.Fatalf("another epoch's fence ended epoch %d", old)
		}
		w.node.Fenced(old)
		if err := <-answer; !errors.Is(err, ErrNotLeader) {
			t.Fatalf("waiting poll: %v", err)
		}
		w.await("another reign", func() bool {
			epoch, leading := w.node.Leader()
			return leading && epoch == 40_000_001
		})
		w.submit(1)
		if got := k.poll(1, time.Second); len(got) != 1 {
			t.Fatalf("%d grants under the new epoch", len(got))
		}
	})
}

func TestCommandsReachHeartbeats(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p1")
		w.submit(1)
		g := k.poll(1, time.Second)[0]
		k.mustBeat() // the first answer tells the epoch
		answer := make(chan Commands, 1)
		hb := Heartbeat{Session: k.session, PollsClosed: k.polls, Held: []HeldLease{{g.Lease.Job, g.Lease.ID}}, Wait: time.Minute}
		go func() {
			c, err := w.node.Heartbeat(context.Background(), hb)
			if err != nil {
				t.Error(err)
			}
			answer <- c
		}()
		w.await("told", func() bool {
			w.node.Tell([]fsm.JobID{g.Lease.Job, job(9)})
			return len(answer) > 0
		})
		c := <-answer
		if len(c.Cancel) != 1 || c.Cancel[0].ID != g.Lease.ID || c.Number == 0 {
			t.Fatalf("commands %+v", c)
		}
		// Not seen: told again at once. Seen: no more, and the wait is a wait.
		again, err := w.node.Heartbeat(context.Background(), hb)
		if err != nil || len(again.Cancel) != 1 {
			t.Fatalf("told again: %+v %v", again, err)
		}
		hb.CommandsSeen = again.Number
		begun := time.Now()
		last, err := w.node.Heartbeat(context.Background(), hb)
		if err != nil || len(last.Cancel) != 0 || time.Since(begun) != w.cfg.SessionTTL/3 {
			t.Fatalf("after it was seen: %+v %v after %v", last, err, time.Since(begun))
		}
		if !w.node.Drain(k.session) || w.node.Drain(99) {
			t.Fatal("drain")
		}
		if c, err := w.node.Heartbeat(context.Background(), hb); err != nil || !c.Drain {
			t.Fatalf("drain: %+v %v", c, err)
		}
		// A lease the engine does not know.
		hb.Held = append(hb.Held, HeldLease{job(7), 1})
		c, err = w.node.Heartbeat(context.Background(), hb)
		if err != nil || len(c.Lost) != 1 {
			t.Fatalf("lost: %+v %v", c, err)
		}
	})
}

func TestSilentAttemptEnds(t *testing.T) {
	bubble(t, func(c *Config) {
		c.TimeoutOf = func(opts []byte) time.Duration { return time.Duration(opts[0]) * time.Second }
	}, func(t *testing.T, w *world) {
		k := w.worker("p1")
		w.table.insert(1, func(r *dispatch.Row) { r.Opts = []byte{20} })
		g := k.poll(1, 5*time.Second)[0]
		granted := time.Now()
		var ends []End
		for ends == nil {
			k.mustBeat()
			select {
			case ends = <-w.ends:
			case <-time.After(4 * time.Second):
			}
		}
		if late := time.Since(granted); late < 30*time.Second || late > 33*time.Second {
			t.Fatalf("ended after %v", late)
		}
		if len(ends) != 1 || ends[0].Reason != EndTimeout || ends[0].Lease != g.Lease || ends[0].Worker != "worker p1" {
			t.Fatalf("ends %+v", ends)
		}
		w.await("release", func() bool { return w.leases() == 0 })
		if c := k.mustBeat(); len(c.Lost) != 1 {
			t.Fatalf("the holder is told %+v", c)
		}
	})
}

// An attempt's timeout counts from the answer of its poll: arguments that were
// long under way take nothing of it.
func TestTimeoutCountsFromTheAnswer(t *testing.T) {
	const slow = 45 * time.Second // more than the timeout and the grace
	bubble(t, func(c *Config) {
		c.TimeoutOf = func(opts []byte) time.Duration { return time.Duration(opts[0]) * time.Second }
	}, func(t *testing.T, w *world) {
		k := w.worker("p1")
		w.table.set(func() {
			w.table.args[job(1)] = []byte("large")
			w.table.gate = func(what string) {
				if what == "payloads" {
					time.Sleep(slow)
				}
			}
		})
		w.table.insert(1, func(r *dispatch.Row) { r.Flags, r.Opts = argsElsewhere, []byte{20} })
		w.table.insert(2, func(r *dispatch.Row) { r.Opts = []byte{20} })
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(4 * time.Second):
					w.node.Heartbeat(context.Background(), Heartbeat{Session: k.session})
				}
			}
		}()
		got := map[fsm.JobID]time.Time{}
		for len(got) < 2 {
			grants := k.poll(10, time.Minute)
			if len(grants) == 0 {
				t.Fatalf("%d grants", len(got))
			}
			for _, g := range grants {
				got[g.Lease.Job] = time.Now()
			}
		}
		for range got {
			for _, e := range <-w.ends {
				late := time.Since(got[e.Lease.Job])
				if delete(got, e.Lease.Job); late < 30*time.Second || late > 33*time.Second {
					t.Errorf("job %v ended %v after its worker got it", e.Lease.Job, late)
				}
			}
			if len(got) == 0 {
				break
			}
		}
	})
}

func TestViews(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		k := w.worker("p1")
		w.submit(1)
		g := k.poll(1, time.Second)[0]
		if l, name, ok := w.node.LeaseOf(job(1)); !ok || name != "worker p1" || l != g.Lease {
			t.Errorf("lease %+v of %q", l, name)
		}
		if got := w.node.Leased(job(1).Workflow); len(got) != 1 || got[0] != g.Lease {
			t.Errorf("leases %+v", got)
		}
		if got := w.node.Running(); got[1] != 1 || len(got) != 1 {
			t.Errorf("running %v", got)
		}
		if worker, free := w.node.Served(1); !worker || free {
			t.Errorf("served %v %v", worker, free)
		}
		k.mustBeat()
		s := w.node.Sessions()
		if len(s) != 1 || s[0].Worker != "worker p1" || s[0].Leases != 1 || s[0].HeartbeatAge != 0 || len(s[0].Queues) != 2 {
			t.Errorf("sessions %+v", s)
		}
	})
}
