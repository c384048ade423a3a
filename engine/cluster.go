package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/port"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// cluster is this node among the others: it answers for the node, and asks the
// others.
type cluster struct {
	e        *Engine
	identity *port.Identity // nil: plaintext
	peers    *peers
	address  string // host:port that others know; "": they cannot reach this node
	api      string // URL of this node's API, "" likewise
	foreign  foreign
}

var _ api.Cluster = (*cluster)(nil)

// open loads the certificate, if there is one.
func (c *cluster) open(e *Engine) error {
	c.e = e
	c.foreign.log = e.log
	if e.cfg.TLSCert != "" {
		var err error
		c.identity, err = port.LoadIdentity(e.cfg.NodeID, port.Files{Cert: e.cfg.TLSCert, Key: e.cfg.TLSKey, CA: e.cfg.TLSCA}, e.log)
		if err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
	}
	c.peers = newPeers(c.identity, e.cfg.ClusterSecret, c.memberAt)
	return nil
}

// listens notes where the node can be reached.
func (c *cluster) listens(p *port.Port) {
	if c.address = c.e.cfg.advertised(p.Addr()); c.address != "" {
		c.api = c.peers.scheme + c.address
	}
}

func (c *cluster) close() {
	if c.peers != nil {
		c.peers.close()
	}
}

// memberAt tells which member is known to be at an address.
func (c *cluster) memberAt(addr string) (id string, known bool) {
	for _, m := range c.e.node.Status().Members {
		if m.RaftAddr == addr || addrOf(m.APIAddr) == addr {
			return m.ID, true
		}
	}
	return "", false
}

// joinable reports whether others may reach this node's Raft.
func (c *cluster) joinable() bool { return c.address != "" && !c.e.cfg.Ephemeral }

// alone reports whether this node is a cluster by itself, so far as it knows.
func (c *cluster) alone() bool {
	return len(c.e.cfg.Peers) == 0 && len(c.e.node.Status().Members) <= 1
}

// within refuses to run a member that the others cannot reach.
func (c *cluster) within() error {
	members := c.e.node.Status().Members
	if len(members) < 2 || c.joinable() {
		return nil
	}
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.ID
	}
	return fmt.Errorf("data directory %s is of a member of the cluster of %q, and they cannot reach this node: set Listen, and Advertise if Listen is every address of this machine", c.e.cfg.DataDir, ids)
}

// Here implements api.Cluster.
func (c *cluster) Here() *heddlev1.ClusterServiceStatusResponse {
	s := c.e.node.Status()
	out := &heddlev1.ClusterServiceStatusResponse{
		Node: s.Node, State: s.State, Leader: s.Leader.ID, LeaderApi: s.Leader.APIAddr, Term: s.Term, Epoch: s.Epoch,
		LastIndex: s.LastIndex, CommitIndex: s.CommitIndex, AppliedIndex: s.AppliedIndex, SnapshotIndex: s.SnapshotIndex,
		Leases: int64(s.Leases), Sessions: int64(s.Sessions), Elections: int64(s.Elections), Terms: int64(s.Terms),
		Dispatching: s.Dispatching, CheckedIndex: s.CheckedIndex, StateHash: stateHash(s), Trouble: c.trouble(s),
		Quorum: int32(s.Quorum), Features: s.Features,
	}
	if s.Cluster != (fsm.WorkflowID{}) {
		out.ClusterId = s.Cluster.String()
	}
	for _, m := range s.Members {
		one := memberOut(m.Member)
		one.Leader, one.MatchIndex, one.Suffrage = m.Leader, m.Match, heddlev1.Suffrage_SUFFRAGE_NONVOTER
		if m.Voter {
			one.Suffrage = heddlev1.Suffrage_SUFFRAGE_VOTER
		}
		if m.LastContact >= 0 {
			one.LastContact = durationpb.New(m.LastContact)
		}
		if m.ID == s.Node {
			saysOfItself(one, out)
		}
		out.Members = append(out.Members, one)
	}
	return out
}

// trouble of this node, in a sentence; "": none.
func (c *cluster) trouble(s raftsched.Status) string {
	return cmp.Or(c.foreign.trouble(), s.Trouble)
}

func stateHash(s raftsched.Status) string {
	if s.CheckedIndex == 0 {
		return ""
	}
	return fmt.Sprintf("%016x", s.StateHash)
}

// Remove implements api.Cluster.
func (c *cluster) Remove(ctx context.Context, id string) error {
	err := c.e.node.Remove(ctx, id)
	if err == nil {
		c.e.note(ctx, "remove member", id)
	}
	return steered(err)
}

// Transfer implements api.Cluster.
func (c *cluster) Transfer(ctx context.Context, to string) (string, error) {
	leader, err := c.e.node.Transfer(ctx, to)
	if err == nil {
		c.e.note(ctx, "transfer", leader)
	}
	return leader, steered(err)
}

// steered gives the scheduler's refusals the names that the API branches on.
func steered(err error) error {
	switch {
	case errors.Is(err, raftsched.ErrNoMember):
		return fmt.Errorf("%w: %w", model.ErrNotFound, err)
	case err == nil, errors.Is(err, raftsched.ErrNotLeader), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return apiError(err)
	}
	return fmt.Errorf("%w: %w", model.ErrRefused, err)
}

// Adopt implements api.Cluster.
func (c *cluster) Adopt(ctx context.Context, owner string) error {
	id, err := clusterID(owner)
	if err != nil {
		return fmt.Errorf("%w: owner: %w", model.ErrInvalid, err)
	}
	switch own := c.e.node.Cluster(); {
	case own == (fsm.WorkflowID{}):
		return fmt.Errorf("%w: this node has no cluster yet that could own the database", model.ErrRefused)
	case own == id:
		return fmt.Errorf("%w: %s is this cluster itself", model.ErrRefused, owner)
	}
	done, err := c.e.store.Disown(ctx, id)
	if err != nil {
		return err
	}
	if !done {
		return fmt.Errorf("%w: the database does not belong to cluster %s", model.ErrRefused, owner)
	}
	c.e.log.Warn("database taken from its owner", "owner", owner)
	c.e.note(ctx, "adopt", owner)
	return nil
}

// Meet implements api.Cluster.
func (c *cluster) Meet(req *heddlev1.PeerServiceMeetRequest) (*heddlev1.PeerServiceMeetResponse, error) {
	if err := c.reachable(); err != nil {
		return nil, err
	}
	from, err := introductionIn(req.GetFrom())
	if err != nil {
		return nil, fmt.Errorf("%w: from: %w", model.ErrInvalid, err)
	}
	return introductionOut(c.e.node.Meet(from, req.GetFounding())), nil
}

// Join implements api.Cluster. A node that does not lead passes the request on
// once.
func (c *cluster) Join(ctx context.Context, req *heddlev1.PeerServiceJoinRequest) (string, error) {
	if err := c.reachable(); err != nil {
		return "", err
	}
	id, err := clusterID(req.GetClusterId())
	if err != nil {
		return "", fmt.Errorf("%w: cluster_id: %w", model.ErrInvalid, err)
	}
	if by := req.GetPassedOnBy(); by != "" && !c.isMember(by) {
		return "", connect.NewError(connect.CodePermissionDenied, fmt.Errorf("%q, which passes this on, is no member of the cluster", by))
	}
	joined, err := c.e.node.Join(ctx, raftsched.JoinRequest{Member: memberIn(req.GetMember()), Cluster: id})
	if err == nil {
		return joined.String(), nil
	}
	if refusal := refusalOut(err); refusal != nil {
		c.e.log.Warn("node refused", "node", req.GetMember().GetId(), "address", req.GetMember().GetAddress(), "reason", err)
		return "", refusal
	}
	leader, known := c.e.node.LeaderHint()
	if !errors.Is(err, raftsched.ErrNotLeader) || req.GetPassedOnBy() != "" || !known || leader.ID == c.e.cfg.NodeID {
		return "", connect.NewError(connect.CodeUnavailable, err) // it may be tried again, here or elsewhere
	}
	req.PassedOnBy = c.e.cfg.NodeID
	text, err := c.peers.join(ctx, leader.APIAddr, req)
	if refusal := refusalOut(err); refusal != nil {
		return "", refusal
	}
	return text, err
}

func (c *cluster) isMember(id string) bool {
	for _, m := range c.e.node.Status().Members {
		if m.ID == id {
			return true
		}
	}
	return false
}

// reachable refuses other nodes when they could not talk to this one's Raft.
func (c *cluster) reachable() error {
	if c.joinable() {
		return nil
	}
	what := fmt.Sprintf("node %q has no address that others can call: start it with --advertise", c.e.cfg.NodeID)
	if c.e.cfg.Ephemeral {
		what = fmt.Sprintf("node %q is ephemeral and cannot have others: start it with --data-dir", c.e.cfg.NodeID)
	}
	return fmt.Errorf("%w: %s", model.ErrRefused, what)
}

// Hint implements api.Cluster.
func (c *cluster) Hint(hint api.Hint) { c.e.hinted(hint) }

// clusterID reads the id of a cluster; "" is zero.
func clusterID(text string) (fsm.WorkflowID, error) {
	if text == "" {
		return fsm.WorkflowID{}, nil
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return fsm.WorkflowID{}, fmt.Errorf("%q is no id of a cluster: %w", text, err)
	}
	return fsm.WorkflowID(id), nil
}
