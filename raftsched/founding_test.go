package raftsched

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// TestFoundingUnderFaults: nodes that begin a cluster are cut off and killed
// while they do. In the end there is one, with all of them.
func TestFoundingUnderFaults(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRing(t, 3, seed)
				defer r.close()
				for range 12 {
					switch a, b := r.node(), r.node(); r.intn(3) {
					case 0:
						r.net.setCut(a.addr, b.addr, a != b && r.chance(50))
					case 1:
						a.crash()
						time.Sleep(r.between(0, 50*time.Millisecond))
						a.start()
					case 2:
						r.alone(a, true)
						time.Sleep(r.between(0, 200*time.Millisecond))
						r.alone(a, false)
					}
					time.Sleep(r.between(0, 60*time.Millisecond))
				}
				r.heal()
				r.await(time.Minute, "one cluster of all", func() bool {
					clusters := map[fsm.WorkflowID]bool{}
					ready := false
					for _, n := range r.nodes {
						node, _ := n.now()
						clusters[node.Cluster()] = true
						ready = ready || node.Ready()
						if len(node.Status().Members) != 3 {
							return false
						}
					}
					return ready && len(clusters) == 1 && !clusters[fsm.WorkflowID{}]
				})
			})
		})
	}
}

// TestTooFewBegin: with fewer nodes than expected nothing begins, and each says
// what it waits for.
func TestTooFewBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, 3, 1)
		defer r.close()
		r.nodes[2].crash()
		time.Sleep(20 * time.Second)
		for _, n := range r.nodes[:2] {
			node, _ := n.now()
			if st := node.Status(); st.State != "waiting" || st.Trouble == "" {
				t.Errorf("%s: %+v", n.id, st)
			}
			if _, known := node.LeaderHint(); known {
				t.Errorf("%s knows a leader", n.id)
			}
		}
		r.nodes[2].start()
		r.lead()
	})
}

// TestWokenByChanges: whoever waits for a leader hears of it at once.
func TestWokenByChanges(t *testing.T) {
	three(t, func(t *testing.T, r *ring) {
		old := r.lead()
		r.await(5*time.Second, "all know who leads", func() bool {
			for _, n := range r.nodes {
				node, _ := n.now()
				if hint, known := node.LeaderHint(); !known || hint.ID != old.id {
					return false
				}
			}
			return true
		})
		waiter, _ := r.others(old)[0].now()
		r.alone(old, true)
		begun := time.Now()
		for {
			changed := waiter.Changed()
			if hint, known := waiter.LeaderHint(); known && hint.ID != old.id {
				break
			}
			select {
			case <-changed:
			case <-time.After(20 * time.Second):
				t.Fatal("not woken")
			}
		}
		t.Logf("another leader is known after %v", time.Since(begun))
	})
}
