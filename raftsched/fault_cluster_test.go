package raftsched

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestFollowersDoNotStore: entries are not stored by the others, though they
// answer. It is not this leader's fault, so it does not stop itself.
func TestFollowersDoNotStore(t *testing.T) {
	three(t, func(t *testing.T, r *ring) {
		leader := r.lead()
		for _, o := range r.others(leader) {
			_, p := o.now()
			p.pause(true) // their disks hang; heartbeats are answered
		}
		node, _ := leader.now()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if _, _, err := node.OpenSession(ctx, Worker{Name: "w", Process: "p"}); err == nil {
			t.Fatal("committed without a quorum")
		}
		time.Sleep(20 * time.Second)
		if node.raft.State() == raft.Shutdown {
			t.Fatal("the leader stopped itself")
		}
		for _, o := range r.others(leader) {
			_, p := o.now()
			p.pause(false)
		}
		r.lead().at().worker("p1")
	})
}

// TestSilentDatabase: the database does not answer the leader, and answers the
// others: one of them leads soon. When it answers nobody, heartbeats are heard
// nevertheless, nobody is charged, and all goes on once it is back.
func TestSilentDatabase(t *testing.T) {
	three(t, func(t *testing.T, r *ring) {
		old := r.lead()
		k := old.at().worker("p0")
		old.at().submit(1)
		g := k.poll(1, time.Second)[0]
		set := func(n *ringNode, off bool) {
			_, p := n.now()
			p.mu.Lock()
			defer p.mu.Unlock()
			p.noDB = off
		}
		set(old, true)
		waiting := k.request(1, time.Minute)
		go func() { _, _, _ = old.at().node.Poll(context.Background(), waiting) }()
		begun := time.Now()
		for k.polls--; old.at().node.Ready() && time.Since(begun) < time.Minute; time.Sleep(time.Second) {
			_, _ = k.beat() // that the poll is open
		}
		k.polls++
		next := r.lead(old)
		if d := time.Since(begun); d > 2*databasePatience {
			t.Errorf("another leader after %v", d)
		}
		k.w = next.at()
		k.mustBeat()
		for _, n := range r.nodes {
			set(n, true)
		}
		heard, longest, last := 0, time.Duration(0), time.Now()
		waiting = k.request(1, time.Minute)
		go func() { _, _, _ = next.at().node.Poll(context.Background(), waiting) }()
		k.polls--
		for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(100 * time.Millisecond) {
			for _, n := range r.nodes {
				k.w = n.at()
				if c, err := k.beat(); err == nil {
					heard++
					longest, last = max(longest, time.Since(last)), time.Now()
					if len(c.Lost)+len(c.Cancel) > 0 {
						t.Errorf("told %+v", c)
					}
				}
			}
		}
		if longest > ringTTL {
			t.Errorf("no heartbeat was heard for %v", longest)
		}
		for _, n := range r.nodes {
			set(n, false)
		}
		k.polls++
		begun = time.Now()
		next = r.lead()
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("a leader %v after the database's return", d)
		}
		k.w = next.at()
		k.mustBeat()
		if a := k.report(g, nil); a != Admitted || r.oracle.losses != 0 {
			t.Errorf("I7: report %v, %d charged", a, r.oracle.losses)
		}
		t.Logf("heard %d heartbeats, longest silence %v, epoch %d", heard, longest, r.db.epoch)
	})
}
