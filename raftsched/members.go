package raftsched

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// changeWait bounds one change of the members, of which Raft carries out one at
// a time.
const changeWait = 5 * time.Second

// liveWithin: a member that answered this leader within so many heartbeats of
// an election is alive.
const liveWithin = 4

// change the members: one caller at a time, as the leader.
func (n *Node) change(ctx context.Context, f func(context.Context, *reign) error) error {
	r, err := n.current()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	select {
	case n.changing <- struct{}{}:
		defer func() { <-n.changing }()
	case <-r.ctx.Done():
		return ErrNotLeader
	case <-ctx.Done():
		return ctx.Err()
	}
	return f(ctx, r)
}

// settle waits for Raft to carry out what call asks of it, until over is closed.
func (r *reign) settle(ctx context.Context, over <-chan struct{}, call func() raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- call().Error() }()
	select {
	case err := <-done:
		if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			return fmt.Errorf("%w (%w)", ErrNotLeader, err)
		}
		return err
	case <-over:
		return ErrNotLeader
	case <-r.n.dead:
		return ErrNotLeader
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *reign) addNonvoter(ctx context.Context, id, addr string) error {
	return r.settle(ctx, r.ctx.Done(), func() raft.Future {
		return r.n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, changeWait)
	})
}

// addVoter also gives a voter that is there another address.
func (r *reign) addVoter(ctx context.Context, id, addr string) error {
	return r.settle(ctx, r.ctx.Done(), func() raft.Future {
		return r.n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), 0, changeWait)
	})
}

// removeServer outlasts the reign: a leader that removes itself leads no more
// once that is committed.
func (r *reign) removeServer(ctx context.Context, id string) error {
	return r.settle(ctx, nil, func() raft.Future { return r.n.raft.RemoveServer(raft.ServerID(id), 0, changeWait) })
}

// server with an id, as the newest configuration has it.
func (n *Node) server(id string) (raft.Server, bool) {
	for _, s := range members(n.raft) {
		if s.ID == raft.ServerID(id) {
			return s, true
		}
	}
	return raft.Server{}, false
}

// alive: the member answered this leader a moment ago.
func (n *Node) alive(id string) bool {
	return time.Since(n.heard.of(raft.ServerID(id)).at) < liveWithin*n.cfg.Raft.Heartbeat
}

// Join takes a node in as a non-voter, which is promoted when it has caught up,
// or notes a member's new record. Only a leader can: ErrNotLeader elsewhere.
// Repeating it changes nothing.
func (n *Node) Join(ctx context.Context, req JoinRequest) (cluster fsm.WorkflowID, err error) {
	err = n.change(ctx, func(ctx context.Context, r *reign) error {
		if err := n.admits(req, &cluster); err != nil {
			return err
		}
		return r.take(ctx, req)
	})
	return cluster, err
}

// admits says why a node cannot join, if it cannot.
func (n *Node) admits(req JoinRequest, cluster *fsm.WorkflowID) error {
	m := req.Member
	if m.ID == "" || len(m.ID) > 100 || m.RaftAddr == "" {
		return fmt.Errorf("node %q at %q: must have an id of 1 to 100 bytes and an address", m.ID, m.RaftAddr)
	}
	var features map[string]uint64
	n.replica.read(func(s *fsm.State) { *cluster, features = s.Cluster(), s.FeatureLevels() })
	if *cluster == (fsm.WorkflowID{}) {
		return ErrNotLeader // its first entries are under way
	}
	if req.Cluster != (fsm.WorkflowID{}) && req.Cluster != *cluster {
		return fmt.Errorf("%w: node %q belongs to cluster %v, this is cluster %v: correct its list of peers, or remove its data directory to have it join",
			ErrForeignCluster, m.ID, req.Cluster, *cluster)
	}
	for name, level := range features {
		if m.Features[name] < level {
			return fmt.Errorf("%w: node %q (version %q) knows %q up to level %d, the cluster uses level %d: upgrade that node",
				ErrFeatureLevel, m.ID, m.Version, name, m.Features[name], level)
		}
	}
	return nil
}

// take a node in, or note its new record.
func (r *reign) take(ctx context.Context, req JoinRequest) error {
	n, m := r.n, req.Member
	fresh := req.Cluster == fsm.WorkflowID{}
	s, known := n.server(m.ID)
	switch {
	case m.ID == n.cfg.ID:
		return fmt.Errorf("%w: node id %q belongs to the leader at %s: give the other node an id of its own", ErrIDTaken, m.ID, n.cfg.address())
	case !known && !fresh:
		return fmt.Errorf("%w: node %q: remove its data directory to have it join anew", ErrRemoved, m.ID)
	case known && n.moves.of(m.ID, string(s.Address)) != m.RaftAddr && n.alive(m.ID):
		return fmt.Errorf("%w: node id %q belongs to a living member at %s: give the other node an id of its own, or stop that member first", ErrIDTaken, m.ID, s.Address)
	case known && fresh && s.Suffrage == raft.Voter && !n.alive(m.ID):
		// It has lost its log, and with it what it had voted for and
		// acknowledged: it must not count until it has all of it again.
		if err := n.spares(m.ID); err != nil {
			return err
		}
		if err := r.removeServer(ctx, m.ID); err != nil {
			return fmt.Errorf("remove voter %q, which lost its data: %w", m.ID, err)
		}
		n.cfg.Logger.Info("member lost its data", "member", m.ID)
		known = false
	}
	var record fsm.Member
	n.replica.read(func(st *fsm.State) { record, _ = st.Member(m.ID) })
	if !record.Equal(m) {
		if _, err := r.commitContext(ctx, fsm.SetMember{Member: m}); err != nil {
			return fmt.Errorf("note member %q: %w", m.ID, err)
		}
	}
	switch {
	case !known:
		if err := r.addNonvoter(ctx, m.ID, m.RaftAddr); err != nil {
			return fmt.Errorf("add member %q: %w", m.ID, err)
		}
		n.cfg.Logger.Info("member joins", "member", m.ID, "address", m.RaftAddr)
	case string(s.Address) != m.RaftAddr && !n.alive(m.ID):
		// One that answers is found where it said it is (moves); Raft's copy of
		// a peer's address is best changed while nothing is under way to it.
		add := r.addVoter
		if s.Suffrage != raft.Voter {
			add = r.addNonvoter
		}
		if err := add(ctx, m.ID, m.RaftAddr); err != nil {
			return fmt.Errorf("note address %s of member %q: %w", m.RaftAddr, m.ID, err)
		}
		n.cfg.Logger.Info("member has a new address", "member", m.ID, "address", m.RaftAddr)
	}
	return nil
}

// spares tells whether enough voters answer to go on without id.
func (n *Node) spares(id string) error {
	voters, answer := 0, 0
	for _, s := range members(n.raft) {
		if s.Suffrage != raft.Voter || s.ID == raft.ServerID(id) {
			continue
		}
		voters++
		if s.ID == raft.ServerID(n.cfg.ID) || n.alive(string(s.ID)) {
			answer++
		}
	}
	if voters == 0 {
		return fmt.Errorf("%w: %q is the last voter", ErrUnsafe, id)
	}
	if answer <= voters/2 {
		return fmt.Errorf("%w: without %q, %d of %d voters answer, and %d must: start the others first", ErrUnsafe, id, answer, voters, voters/2+1)
	}
	return nil
}

// Remove takes a member out for good. Leader only. A leader that removes itself
// leaves the rest to its successor.
func (n *Node) Remove(ctx context.Context, id string) error {
	return n.change(ctx, func(ctx context.Context, r *reign) error {
		s, known := n.server(id)
		if !known {
			return fmt.Errorf("%w: %q", ErrNoMember, id)
		}
		if s.Suffrage == raft.Voter {
			if err := n.spares(id); err != nil {
				return err
			}
		}
		if err := r.removeServer(ctx, id); err != nil {
			return fmt.Errorf("remove member %q: %w", id, err)
		}
		n.cfg.Logger.Info("member removed", "member", id)
		if id != n.cfg.ID {
			if _, err := r.commitContext(ctx, fsm.RemoveMember{ID: id}); err != nil {
				return fmt.Errorf("forget member %q: %w", id, err)
			}
		}
		return nil
	})
}
