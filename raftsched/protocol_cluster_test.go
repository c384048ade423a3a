package raftsched

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// The schedules of the protocol's design that need a second node, by number.

// three runs a test in a bubble with three nodes, one of which leads.
func three(t *testing.T, f func(t *testing.T, r *ring)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 3, 1)
		defer r.close()
		r.lead()
		f(t, r)
	})
}

// close mends everything and stops all nodes.
func (r *ring) close() {
	r.heal()
	for _, n := range r.nodes {
		_, p := n.now()
		p.pause(false)
	}
	for _, n := range r.nodes {
		n.shutdown()
	}
	r.wg.Wait()
	r.oracle.end()
}

// lead awaits a leader, other than those left out.
func (r *ring) lead(but ...*ringNode) *ringNode {
	r.t.Helper()
	for range 20_000 {
		for _, n := range r.nodes {
			if node, _ := n.now(); node.Ready() && (len(but) == 0 || n != but[0]) {
				return n
			}
		}
		time.Sleep(time.Millisecond)
	}
	r.t.Fatal("no leader within 20 s")
	return nil
}

// at speaks to a node as the tests of one node do.
func (n *ringNode) at() *world {
	node, _ := n.now()
	return &world{t: n.r.t, table: n.r.db.table, node: node, ends: make(chan []End, 100)}
}

// others than n.
func (r *ring) others(n *ringNode) (out []*ringNode) {
	for _, o := range r.nodes {
		if o != n {
			out = append(out, o)
		}
	}
	return out
}

// TestSchedule2: a report reaches a node that has not applied its lease: a
// deposed leader that does not know it yet, or a follower that is behind. It is
// told neither that the lease stands nor that it is gone (C2).
func TestSchedule2(t *testing.T) {
	three(t, func(t *testing.T, r *ring) {
		old := r.lead()
		k := old.at().worker("p0")
		old.at().submit(1)
		g := k.poll(1, time.Second)[0]
		r.alone(old, true) // its entries do not come back; it hears of nothing
		next := r.lead(old)
		k.w = next.at()
		k.mustBeat()
		if a := k.report(g, nil); a != Admitted {
			t.Fatalf("report at the new leader: %v", a)
		}
		next.at().submit(2)
		held := k.poll(1, 5*time.Second)[0]
		k.w = old.at()
		if a := k.report(held, nil); a != Unknown {
			t.Errorf("report under a lease of its successor at the old leader: %v", a)
		}
		if a := k.report(g, nil); a != Unknown {
			t.Errorf("report under a lease that the old leader still has: %v", a)
		}
		if _, err := k.beat(); !errors.Is(err, ErrNotLeader) {
			t.Errorf("heartbeat at the old leader: %v", err)
		}
		r.alone(old, false)
		time.Sleep(2 * time.Second)
		if a := k.report(g, nil); a != Stale {
			t.Errorf("report under a lease that has left, at a follower that knows: %v", a)
		}
		k.w = next.at()
		if a := k.report(held, nil); a != Admitted {
			t.Errorf("the result of a run that outlived a leader: %v", a)
		}
	})
}

// TestSchedule12: the leader stands still inside a transaction: between its
// check and its commit, for less and for more than a takeover waits. What it
// acknowledged stands, what it did not is done by its successor (I6, I9).
func TestSchedule12(t *testing.T) {
	for _, pause := range []time.Duration{500 * time.Millisecond, 5 * time.Second, 20 * time.Second} {
		t.Run(pause.String(), func(t *testing.T) {
			three(t, func(t *testing.T, r *ring) {
				old := r.lead()
				k := old.at().worker("p0")
				old.at().submit(1)
				g := k.poll(1, time.Second)[0]
				node, p := old.now()
				_, leases := node.Admit(k.session, []HeldLease{{g.Lease.Job, g.Lease.ID}})
				epoch, _ := node.Leader()
				mark := node.Begin()
				reached := make(chan struct{})
				committed := make(chan error, 1)
				go func() {
					_, ok, err := r.db.write(epoch, leases[0], "p0", func() error {
						close(reached)
						return p.gate()
					}, func(*dispatch.Row) bool { return true })
					if err == nil && !ok {
						err = errors.New("another turn")
					}
					committed <- err
				}()
				p.pause(true)
				r.alone(old, true)
				<-reached
				time.AfterFunc(pause, func() { p.pause(false) })
				next := r.lead(old)
				k.w = next.at()
				k.mustBeat()
				report := make(chan Admission, 1)
				go func() { report <- k.report(g, nil) }()
				err := <-committed
				if pause < takeoverPatience && err != nil || pause > takeoverPatience && err == nil {
					t.Errorf("commit after a pause of %v: %v", pause, err)
				}
				node.End(mark)
				if a := <-report; err != nil && a != Admitted || err == nil && a != Stale {
					t.Errorf("report at the new leader: %v, the old one's commit: %v", a, err)
				}
				if !k.w.table.isEnded(job(1)) {
					t.Error("the end is not in the database")
				}
				if _, _, err := r.db.write(epoch, leases[0], "p0", p.gate, func(*dispatch.Row) bool { return true }); !errors.Is(err, ErrFenced) {
					t.Errorf("I6: a write of the old epoch: %v", err)
				}
				r.alone(old, false)
			})
		})
	}
}

// TestSchedule13Kept: a leader is deposed behind entries that it could not
// commit; none, one, or all of them are in the log of its successor. Jobs whose
// answers nobody got are granted again, uncharged, and those that run stand.
func TestSchedule13Kept(t *testing.T) {
	for kept, follower := range map[string]bool{"none": false, "all": true} {
		t.Run(kept, func(t *testing.T) {
			three(t, func(t *testing.T, r *ring) {
				old := r.lead()
				others := r.others(old)
				k := old.at().worker("p0")
				old.at().submit(1)
				running := k.poll(1, time.Second)[0]
				// Answers do not come back to the leader; its entries come
				// through, or do not.
				for _, o := range others {
					r.net.setCut(o.addr, old.addr, true)
					r.net.setCut(old.addr, o.addr, !follower)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				defer cancel()
				got := make(chan error, 1)
				go func() {
					_, _, err := old.at().node.Poll(ctx, k.request(5, time.Minute))
					got <- err
				}()
				for i := range int32(3) {
					old.at().submit(10 + i)
					time.Sleep(3 * time.Millisecond)
				}
				if err := <-got; err == nil {
					t.Fatal("an uncommitted grant was answered")
				}
				for _, o := range others {
					r.net.setCut(old.addr, o.addr, true)
				}
				next := r.lead(old)
				k.w = next.at()
				leased := next.at().leases()
				if want := map[bool]int{false: 1, true: 2}[follower]; leased < want || !follower && leased > want {
					t.Fatalf("%d leases in the successor's state", leased)
				}
				k.mustBeat()
				seen := map[fsm.JobID]bool{}
				for len(seen) < 3 {
					grants := k.poll(5, 5*time.Second)
					if len(grants) == 0 {
						t.Fatalf("granted again: %d of 3", len(seen))
					}
					for _, g := range grants {
						if g.Row.Attempt != 0 || seen[g.Lease.Job] {
							t.Errorf("granted %+v", g)
						}
						seen[g.Lease.Job] = true
					}
				}
				if a := k.report(running, nil); a != Admitted {
					t.Errorf("I7: the run across the change: %v", a)
				}
				r.alone(old, false)
				time.Sleep(2 * time.Second)
				if a, b := old.at().leases(), next.at().leases(); a != b {
					t.Errorf("I11: %d and %d leases", a, b)
				}
			})
		})
	}
}

// TestSchedule14Quorum: the quorum is lost for 60 s under running handlers. None
// is cancelled, none is charged, and no node stops itself.
func TestSchedule14Quorum(t *testing.T) {
	three(t, func(t *testing.T, r *ring) {
		old := r.lead()
		k := old.at().worker("p0")
		old.at().submit(1)
		g := k.poll(1, time.Second)[0]
		for _, n := range r.nodes {
			r.alone(n, true)
		}
		for range 60 {
			for _, n := range r.nodes {
				k.w = n.at()
				if c, err := k.beat(); err == nil && len(c.Lost)+len(c.Cancel) > 0 {
					t.Fatalf("told %+v", c)
				} else if err != nil && !errors.Is(err, ErrNotLeader) {
					t.Fatalf("heartbeat: %v", err)
				}
			}
			time.Sleep(time.Second)
		}
		for _, n := range r.nodes {
			node, _ := n.now()
			if st := node.Status(); st.State == "leader" || st.State == "stopped" || st.Trouble == "" {
				t.Errorf("%s without a quorum: %+v", n.id, st)
			}
		}
		r.heal()
		next := r.lead()
		k.w = next.at()
		k.mustBeat()
		time.Sleep(2 * ringTTL / 3)
		k.mustBeat()
		if a := k.report(g, nil); a != Admitted {
			t.Errorf("I7: report after the quorum's return: %v", a)
		}
		if r.oracle.losses != 0 {
			t.Errorf("%d attempts were charged", r.oracle.losses)
		}
	})
}

// TestSchedule18Elsewhere: a session is closed at the new leader while a grant to
// it waits uncommitted at the old one.
func TestSchedule18Elsewhere(t *testing.T) {
	three(t, func(t *testing.T, r *ring) {
		old := r.lead()
		k := old.at().worker("p0")
		r.alone(old, true)
		polled := make(chan error, 1)
		go func() {
			_, _, err := old.at().node.Poll(context.Background(), k.request(1, time.Minute))
			polled <- err
		}()
		old.at().submit(1)
		next := r.lead(old)
		if err := <-polled; !errors.Is(err, ErrNotLeader) {
			t.Fatalf("poll at the old leader: %v", err)
		}
		node, _ := next.now()
		if err := node.CloseSession(context.Background(), k.session, k.polls); err != nil {
			t.Fatal(err)
		}
		r.alone(old, false)
		got := next.at().worker("p1").poll(1, 5*time.Second)
		if len(got) != 1 || got[0].Row.Attempt != 0 {
			t.Fatalf("elsewhere: %+v", got)
		}
	})
}

// TestSchedule19Nodes: all nodes have one state at one index, in whatever way
// they came by it: from the log, from a snapshot at their start, or from one that
// the leader sent (I11).
func TestSchedule19Nodes(t *testing.T) {
	three(t, func(t *testing.T, r *ring) {
		leader := r.lead()
		last := r.others(leader)[0]
		r.alone(last, true)
		k := leader.at().worker("p0")
		for i := range int32(200) {
			leader.at().submit(i + 1)
		}
		for len(k.held) < 200 {
			k.poll(50, time.Second)
		}
		time.Sleep(time.Second)
		node, _ := leader.now()
		// The log is trimmed beyond what the other has.
		rc := node.raft.ReloadableConfig()
		rc.TrailingLogs = 1
		if err := node.raft.ReloadConfig(rc); err != nil {
			t.Fatal(err)
		}
		if err := node.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		r.alone(last, false)
		r.await(10*time.Second, "the snapshot is installed", func() bool { return last.at().leases() == 200 })
		lastNode, _ := last.now()
		if st := lastNode.Status(); st.SnapshotIndex == 0 {
			t.Errorf("no snapshot was sent: %+v", st)
		}
		for _, n := range r.nodes {
			n.shutdown()
			n.start()
		}
		r.lead()
		time.Sleep(time.Second)
		sums := map[string]bool{}
		for _, n := range r.nodes {
			node, _ := n.now()
			node.replica.read(func(s *fsm.State) { sums[fmt.Sprint(s.Index(), s.Sum(), s.Len())] = true })
		}
		if len(sums) != 1 {
			t.Errorf("I11: %v", sums)
		}
	})
}

// TestStatesAreCompared: a node whose state differs stops, and says what to do.
func TestStatesAreCompared(t *testing.T) {
	three(t, func(t *testing.T, r *ring) {
		leader := r.lead()
		odd := r.others(leader)[0]
		node, p := odd.now()
		halted := make(chan error, 1)
		node.cfg.Fatal = func(err error) { halted <- err }
		time.Sleep(checkEvery + time.Second) // all have noted a hash
		node.replica.mu.Lock()
		_, err := node.replica.state.Apply(node.replica.state.Index()+1, fsm.OpenSession{Worker: "nobody"}.Append(nil))
		node.replica.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		r.oracle.forget()
		// The entry that begins the next term takes that index; no state sees it.
		heir := r.others(leader)[1]
		old, _ := leader.now()
		if _, err := old.Transfer(context.Background(), heir.id); err != nil {
			t.Fatal(err)
		}
		leader = heir
		r.lead()
		k := leader.at().worker("p0")
		for range 3 * checkEvery / time.Second {
			k.mustBeat()
			leader.at().worker("p1")
			time.Sleep(time.Second)
		}
		select {
		case err := <-halted:
			if !errors.Is(err, fsm.ErrDiverged) {
				t.Errorf("halted: %v", err)
			}
		default:
			t.Error("I11: it goes on with another state")
		}
		if st := node.Status(); st.Trouble == "" {
			t.Errorf("status %+v", st)
		}
		if n, _ := leader.now(); !n.Ready() {
			t.Error("the others do not go on")
		}
		p.kill()
		r.oracle.forget()
	})
}
