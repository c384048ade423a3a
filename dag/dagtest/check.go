package dagtest

import (
	"errors"
	"fmt"

	"github.com/heddle-io/heddle/dag"
)

// Check compares every stored counter with the equation it stands for (I2, I3)
// and every state with what the rules demand, and reports what differs. While a
// cascade is pending only the counters of batches are checked.
func (s *Sim) Check() error {
	var faults []error
	for i := range s.nodes {
		n := &s.nodes[i]
		if n.State == dag.Ended == (n.Outcome == dag.None) {
			faults = append(faults, fmt.Errorf("node %d is %s and its outcome %s", n.ID, n.State, n.Outcome))
		}
		if n.IsBatch {
			faults = append(faults, s.checkMembers(n))
		}
		if len(s.cascades) == 0 {
			faults = append(faults, s.checkWaiting(n))
		}
	}
	for l, n := range s.begun {
		if n > 1 {
			faults = append(faults, fmt.Errorf("node %d was released %d times in life %d", l.node, n, l.life))
		}
	}
	return errors.Join(faults...)
}

func (s *Sim) checkMembers(n *dag.Node) error {
	var by [9]int32
	for _, id := range s.members[n.ID] {
		m := &s.nodes[id]
		if m.State == dag.Ended {
			by[m.Outcome]++
		}
		if id < n.Lo || id > n.Hi {
			return fmt.Errorf("member %d lies outside %d..%d of batch %d", id, n.Lo, n.Hi, n.ID)
		}
		if m.Released && !n.Released {
			return fmt.Errorf("node %d was released before its batch %d", id, n.ID)
		}
		if n.State == dag.Ended && m.State != dag.Ended {
			return fmt.Errorf("batch %d ended before its member %d", n.ID, id)
		}
	}
	if n.Total != int32(len(s.members[n.ID])) || n.NumSucceeded != by[dag.Succeeded] || n.NumFailed != by[dag.Failed] ||
		n.NumCancelled != by[dag.Cancelled] || n.NumSkipped != by[dag.Skipped] {
		return fmt.Errorf("batch %d counts %d: %d %d %d %d, its members are %d: %v", n.ID,
			n.Total, n.NumSucceeded, n.NumFailed, n.NumCancelled, n.NumSkipped, len(s.members[n.ID]), by)
	}
	return nil
}

func (s *Sim) checkWaiting(n *dag.Node) error {
	switch n.State {
	case dag.Released:
		if n.IsBatch && s.unended(n.ID) == 0 && (!n.Open || n.Cancelled) {
			return fmt.Errorf("batch %d runs on without members to wait for", n.ID)
		}
	case dag.Blocked:
		fired, dead, edges := s.Edges(n.ID)
		k := n.Join
		if k == 0 {
			k = edges
		}
		if n.Need != k-fired || n.Slack != edges-k-dead {
			return fmt.Errorf("node %d has need %d and slack %d, its edges say %d and %d", n.ID, n.Need, n.Slack, k-fired, edges-k-dead)
		}
		batch := s.nodes[n.Batch]
		switch {
		case n.Cancelled:
			return fmt.Errorf("node %d is cancelled and waits", n.ID)
		case edges-dead < k:
			return fmt.Errorf("node %d is hopeless and waits", n.ID)
		case batch.State == dag.Ended:
			return fmt.Errorf("node %d waits in batch %d, which has ended", n.ID, batch.ID)
		case batch.Released && fired >= k:
			return fmt.Errorf("node %d is ready and waits", n.ID)
		}
	}
	return nil
}

func (s *Sim) unended(batch dag.ID) int {
	left := 0
	for _, id := range s.members[batch] {
		if s.nodes[id].State != dag.Ended {
			left++
		}
	}
	return left
}

// Edges counts the edges into a node: those that have fired, those that have
// died, and all.
func (s *Sim) Edges(id dag.ID) (fired, dead, all int32) {
	for _, e := range s.in[id] {
		p := &s.nodes[e.Parent]
		switch {
		case p.State != dag.Ended:
		case p.Outcome == dag.Failed && p.Hold && e.On&dag.Failed == 0:
		case p.Outcome&e.On != 0:
			fired++
		default:
			dead++
		}
	}
	return fired, dead, int32(len(s.in[id]))
}
