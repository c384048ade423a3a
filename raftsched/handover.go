package raftsched

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// handover asks the goroutine that follows the leadership to give it to a
// voter.
type handover struct {
	to     raft.Server
	answer chan error
}

// stepAsideWait bounds how long a stop waits for another leader.
const stepAsideWait = 5 * time.Second

// Transfer hands the leadership to a voter, the one that is furthest if to is
// empty, and tells its id. Leader only. The reign ends first: nothing more is
// granted here, entries in flight come to their outcomes, the engine's work
// returns. If the voter does not take the leadership, this node begins another
// reign.
func (n *Node) Transfer(ctx context.Context, to string) (string, error) {
	if _, err := n.current(); err != nil {
		return "", err
	}
	s, err := n.successor(to)
	if err != nil {
		return "", err
	}
	h := handover{to: s, answer: make(chan error, 1)}
	select {
	case n.handovers <- h:
	case <-n.done:
		return "", ErrNotLeader
	case <-ctx.Done():
		return "", ctx.Err()
	}
	select {
	case err := <-h.answer:
		if err != nil {
			return "", fmt.Errorf("transfer the leadership to %q: %w", s.ID, err)
		}
		return string(s.ID), nil
	case <-n.done:
		return "", ErrNotLeader
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// successor is the voter that shall lead: of those that answer, the one that
// has stored most, unless one is named.
func (n *Node) successor(to string) (raft.Server, error) {
	if to == n.cfg.ID {
		return raft.Server{}, fmt.Errorf("node %q leads already", to)
	}
	var others []raft.Server
	for _, s := range members(n.raft) {
		if s.ID == raft.ServerID(n.cfg.ID) || to != "" && s.ID != raft.ServerID(to) {
			continue
		}
		if to != "" && s.Suffrage != raft.Voter {
			return s, fmt.Errorf("node %q is no voter yet", to)
		}
		if to != "" && !n.alive(to) {
			return s, fmt.Errorf("node %q does not answer", to)
		}
		if s.Suffrage == raft.Voter && n.alive(string(s.ID)) {
			others = append(others, s)
		}
	}
	if len(others) == 0 {
		if to != "" {
			return raft.Server{}, fmt.Errorf("%w: %q", ErrNoMember, to)
		}
		return raft.Server{}, errNoSuccessor
	}
	return slices.MaxFunc(others, func(a, b raft.Server) int {
		x, y := n.heard.of(a.ID), n.heard.of(b.ID)
		just := func(c contact) int { return min(int(time.Since(c.at)/n.cfg.Raft.Heartbeat), 1) }
		return cmp.Or(cmp.Compare(just(y), just(x)), cmp.Compare(x.match, y.match))
	}), nil
}

var errNoSuccessor = errors.New("no other voter answers")

// transfer the leadership, with no reign on.
func (n *Node) transfer(to raft.Server) error {
	return n.raft.LeadershipTransferToServer(to.ID, to.Address).Error()
}

// yield hands the leadership to another voter, if there is one that answers: a
// leader whose reign failed gives it up.
func (n *Node) yield() {
	s, err := n.successor("")
	if err != nil {
		return
	}
	if err := n.transfer(s); err != nil {
		n.cfg.Logger.Warn("leadership not transferred", "to", string(s.ID), "error", err)
	}
}

// stepAside hands the leadership over before a stop, so that the others need
// not miss this node first.
func (n *Node) stepAside() {
	if n.raft.State() != raft.Leader || len(members(n.raft)) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stepAsideWait)
	defer cancel()
	to, err := n.Transfer(ctx, "")
	switch {
	case err == nil:
		n.cfg.Logger.Info("leadership handed over", "to", to)
	case !errors.Is(err, ErrNotLeader) && !errors.Is(err, raft.ErrNotLeader) && !errors.Is(err, errNoSuccessor):
		n.cfg.Logger.Warn("leadership not handed over", "error", err)
	}
}

// handOver the leadership, with no reign on, and tells whether this node leads
// after that.
func (n *Node) handOver(ctx context.Context, h handover, changes <-chan bool) bool {
	err := n.transfer(h.to)
	h.answer <- err
	if err != nil {
		return n.raft.State() == raft.Leader
	}
	select {
	case leading := <-changes:
		return leading
	case <-n.dead:
	case <-ctx.Done():
	}
	return false
}
