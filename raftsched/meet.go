package raftsched

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

const (
	meetFirst   = 50 * time.Millisecond // between rounds of meeting, growing
	meetMost    = time.Second
	meetSettled = time.Second      // between looks at whether the members know this node right
	lookAround  = 30 * time.Second // between looks at whether all peers belong here
	meetTimeout = 2 * time.Second
	joinTimeout = 10 * time.Second
)

// fresh: no cluster has taken this node in yet, nor has it begun one.
func (n *Node) fresh() bool { return len(members(n.raft)) == 0 }

// introduction of this node.
func (n *Node) introduction() Introduction {
	addr, _ := n.raft.LeaderWithID()
	return Introduction{
		ID: n.cfg.ID, Address: n.cfg.address(), Fresh: n.fresh(), Cluster: n.bonds.get().cluster, Leader: string(addr),
	}
}

// Meet answers a node that introduces itself. founding, unless nil, asks for
// the promise to begin a cluster with exactly these nodes. The answer of a node
// that has not started has no id.
func (n *Node) Meet(from Introduction, founding []string) Introduction {
	if !n.running() {
		return Introduction{}
	}
	n.learnOf(from)
	promised := false
	if len(founding) > 0 && n.fresh() {
		promised = n.promise(from, founding)
	}
	me := n.introduction()
	me.Promised = promised
	return me
}

// learnOf another node: where a member has moved, and that a founder has given up
// what this node promised.
func (n *Node) learnOf(from Introduction) {
	if from.ID == n.cfg.ID {
		return
	}
	if !n.fresh() {
		n.learnMove(from)
		return
	}
	if err := n.bonds.release(from); err != nil {
		n.cfg.Logger.Error("promise not released", "error", err)
	}
}

// learnMove notes where a member has moved. While there is a leader, it is to be
// told by the member.
func (n *Node) learnMove(from Introduction) {
	s, known := n.server(from.ID)
	if !known || from.Fresh || from.Cluster != n.bonds.get().cluster || from.Address == string(s.Address) {
		return
	}
	if _, leader := n.raft.LeaderWithID(); leader == "" {
		n.moves.note(from.ID, string(s.Address), from.Address)
	}
}

// promise this fresh node to a set, in writing.
func (n *Node) promise(from Introduction, founding []string) bool {
	set := slices.Compact(slices.Sorted(slices.Values(founding)))
	if len(set) != n.cfg.Expect || set[0] != from.ID || from.ID == n.cfg.ID || from.Cluster == (fsm.WorkflowID{}) || !slices.Contains(set, n.cfg.ID) {
		return false
	}
	err := n.bonds.promise(bond{cluster: from.Cluster, founding: set})
	if err != nil && !errors.Is(err, errPromised) {
		n.cfg.Logger.Error("promise not given", "error", err)
	}
	return err == nil
}

// acquaint finds a fresh node its cluster, or begins one with others, and later
// keeps what the members know of this node right.
func (n *Node) acquaint(ctx context.Context) {
	wait := meetFirst
	var looked time.Time
	var strange error // what was seen then
	for {
		pause := meetSettled
		if n.settled() {
			n.seeking(strange)
			if time.Since(looked) >= lookAround {
				looked = time.Now()
				strange = n.strangers(ctx)
				n.seeking(strange)
			}
			wait = meetFirst
		} else {
			n.seeking(n.meet(ctx))
			pause = wait
			wait = min(wait*3/2, meetMost)
		}
		timer := time.NewTimer(pause/2 + mrand.N(pause/2+1))
		select {
		case <-timer.C:
		case <-n.dead:
			timer.Stop()
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// settled: the members know this node, by its present record.
func (n *Node) settled() bool {
	if n.fresh() {
		return false
	}
	_, leader := n.raft.LeaderWithID()
	servers := members(n.raft)
	if leader == raft.ServerID(n.cfg.ID) || len(servers) == 1 && servers[0].ID == raft.ServerID(n.cfg.ID) {
		return true // its steward sees to that
	}
	var known fsm.Member
	n.replica.read(func(s *fsm.State) { known, _ = s.Member(n.cfg.ID) })
	// A leader that is known reaches this node, wherever Raft has it.
	return leader != "" && known.Equal(n.cfg.record())
}

// meet all known addresses once and act on the answers. The error says what
// this node waits for.
func (n *Node) meet(ctx context.Context) error {
	met, faults := n.callOn(ctx, n.addresses())
	if ctx.Err() != nil {
		return nil
	}
	for _, m := range met {
		n.learnOf(m)
	}
	var in, fresh []Introduction
	for _, m := range met {
		if m.Fresh {
			fresh = append(fresh, m)
		} else if m.Cluster != (fsm.WorkflowID{}) {
			in = append(in, m)
		}
	}
	if !n.fresh() {
		return n.announce(ctx, in, faults)
	}
	if len(in) > 0 {
		return n.enter(ctx, in, faults)
	}
	return n.begin(ctx, fresh, faults)
}

// addresses of all who may be there, but for this node's own.
func (n *Node) addresses() []string {
	all := map[string]bool{}
	for _, a := range n.cfg.PeerAddrs {
		all[a] = true
	}
	for _, s := range members(n.raft) {
		if s.ID != raft.ServerID(n.cfg.ID) {
			all[string(s.Address)] = true
		}
	}
	delete(all, n.cfg.Address)
	return slices.Sorted(maps.Keys(all))
}

// callOn the nodes at addresses, side by side. Each is answered for once; the
// faults are of those that did not answer.
func (n *Node) callOn(ctx context.Context, addrs []string) (met []Introduction, faults error) {
	me := n.introduction()
	answers := make([]Introduction, len(addrs))
	errs := make([]error, len(addrs))
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, meetTimeout)
			defer cancel()
			answers[i], errs[i] = n.cfg.Peers.Meet(ctx, addr, me, nil)
			if errs[i] != nil {
				errs[i] = fmt.Errorf("meet %s: %w", addr, errs[i])
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{n.cfg.ID: true, "": true}
	for i, m := range answers {
		if errs[i] == nil && m.ID == n.cfg.ID && m.Address != me.Address {
			errs[i] = fmt.Errorf("%w: the node at %s is %q as well: give one of them another id", ErrIDTaken, m.Address, m.ID)
		}
		if errs[i] == nil && !seen[m.ID] {
			seen[m.ID] = true
			met = append(met, m)
		}
	}
	return met, errors.Join(errs...)
}

// announce this member's present record to its cluster.
func (n *Node) announce(ctx context.Context, in []Introduction, faults error) error {
	mine := n.bonds.get().cluster
	err := faults
	for _, m := range in {
		if m.Cluster != mine {
			err = errors.Join(err, stranger(m, mine))
			continue
		}
		if _, joined := n.join(ctx, m, mine); joined == nil {
			return nil
		} else if err = errors.Join(err, joined); ctx.Err() != nil {
			return nil
		}
	}
	if _, leader := n.raft.LeaderWithID(); leader != "" {
		return nil // who leads knows this node's address; the rest can wait
	}
	if err == nil {
		err = errors.New("no other member was found")
	}
	return fmt.Errorf("no leader is known: %w", err)
}

// strangers among the peers of a node that has its cluster.
func (n *Node) strangers(ctx context.Context) error {
	var err error
	mine := n.bonds.get().cluster
	met, _ := n.callOn(ctx, n.addresses())
	for _, m := range met {
		n.learnOf(m)
		if !m.Fresh && m.Cluster != mine && m.Cluster != (fsm.WorkflowID{}) {
			err = errors.Join(err, stranger(m, mine))
		}
	}
	return err
}

func stranger(m Introduction, mine fsm.WorkflowID) error {
	return fmt.Errorf("%w: %q at %s belongs to cluster %v, this node to %v: correct the list of peers, or remove the data directory of the one that is wrong",
		ErrForeignCluster, m.ID, m.Address, m.Cluster, mine)
}

// join by way of a member, at its leader if it knows one.
func (n *Node) join(ctx context.Context, m Introduction, mine fsm.WorkflowID) (fsm.WorkflowID, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	addr := cmp.Or(m.Leader, m.Address)
	id, err := n.cfg.Peers.Join(ctx, addr, JoinRequest{Member: n.cfg.record(), Cluster: mine})
	if err != nil {
		return id, fmt.Errorf("join by %s: %w", addr, err)
	}
	return id, nil
}

// enter the cluster that peers belong to, as a fresh node.
func (n *Node) enter(ctx context.Context, in []Introduction, faults error) error {
	for _, m := range in[1:] {
		if m.Cluster != in[0].Cluster {
			return fmt.Errorf("peers belong to different clusters: %q to %v, %q to %v: correct the list of peers", in[0].ID, in[0].Cluster, m.ID, m.Cluster)
		}
	}
	if b := n.bonds.get(); !b.none() && b.founder() != n.cfg.ID {
		if b.cluster == in[0].Cluster {
			return errors.New("waiting for the leader of the cluster that was begun")
		}
		return n.bound(b)
	}
	err := faults
	for _, m := range in {
		id, joined := n.join(ctx, m, fsm.WorkflowID{})
		if joined == nil {
			if err := n.bonds.set(bond{cluster: id}); err != nil {
				return err
			}
			n.cfg.Logger.Info("joined cluster", "cluster", id)
			return nil
		}
		if err = errors.Join(err, joined); ctx.Err() != nil {
			return nil
		}
	}
	return err
}

func (n *Node) bound(b bond) error {
	return fmt.Errorf("this node has promised %q to begin a cluster of %q and waits for it: start that node, or remove this node's data directory", b.founder(), b.founding)
}

// begin a cluster once as many fresh nodes as expected have met.
func (n *Node) begin(ctx context.Context, fresh []Introduction, faults error) error {
	if n.cfg.Expect == 0 {
		return errors.Join(errors.New("no peer belongs to a cluster: one of them must, or --cluster-expect say how many begin one"), faults)
	}
	if errors.Is(faults, ErrIDTaken) {
		return faults
	}
	addrs := map[string]string{n.cfg.ID: n.cfg.Address}
	for _, m := range fresh {
		addrs[m.ID] = m.Address
	}
	if len(addrs) < n.cfg.Expect {
		return errors.Join(fmt.Errorf("met %d of the %d nodes that begin the cluster", len(addrs), n.cfg.Expect), faults)
	}
	set := slices.Sorted(maps.Keys(addrs))[:n.cfg.Expect]
	if set[0] != n.cfg.ID {
		if b := n.bonds.get(); !b.none() && b.founder() != set[0] {
			return n.bound(b)
		}
		return fmt.Errorf("waiting for %q to begin the cluster of %s", set[0], strings.Join(set, ", "))
	}
	return n.found(ctx, set, addrs)
}

// found a cluster of these nodes, all of which must have promised themselves to
// it. Every promise is on its node's disk before it is given, this node's own
// first, so of two sets that share a node at most one can begin.
func (n *Node) found(ctx context.Context, set []string, addrs map[string]string) error {
	b := n.bonds.get()
	if b.none() || !slices.Equal(b.founding, set) {
		b = bond{cluster: newCluster(), founding: set}
	}
	if err := n.bonds.promise(b); err != nil {
		return n.bound(n.bonds.get())
	}
	servers := []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(n.cfg.ID), Address: raft.ServerAddress(n.cfg.Address)}}
	me := n.introduction()
	for _, id := range set[1:] {
		ctx, cancel := context.WithTimeout(ctx, meetTimeout)
		m, err := n.cfg.Peers.Meet(ctx, addrs[id], me, set)
		cancel()
		if err != nil {
			return fmt.Errorf("ask %q for its promise: %w", id, err)
		}
		if m.ID != id || !m.Promised {
			return fmt.Errorf("%q does not begin a cluster of %s: it must expect as many nodes, and be free", id, strings.Join(set, ", "))
		}
		servers = append(servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(m.Address)})
	}
	if n.bonds.get().cluster != b.cluster {
		return errors.New("another founder came before")
	}
	if err := n.raft.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("begin the cluster: %w", err)
	}
	n.cfg.Logger.Info("cluster begun", "cluster", b.cluster, "nodes", strings.Join(set, ", "))
	return nil
}
