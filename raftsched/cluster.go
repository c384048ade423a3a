package raftsched

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// The refusals of Join, Remove and Transfer. Each comes wrapped in a sentence
// that says what to do.
var (
	// ErrForeignCluster: the node belongs to another cluster.
	ErrForeignCluster = errors.New("node of another cluster")
	// ErrFeatureLevel: a node does not understand what the cluster uses already.
	ErrFeatureLevel = errors.New("feature level not understood")
	// ErrIDTaken: another, living member has this id.
	ErrIDTaken = errors.New("node id is taken")
	// ErrRemoved: the node was a member once and was removed.
	ErrRemoved = errors.New("node was removed from the cluster")
	// ErrNoMember: no member has this id.
	ErrNoMember = errors.New("no such member")
	// ErrUnsafe: the change would leave too few voters that answer.
	ErrUnsafe = errors.New("too few voters would be left")
)

// Network carries Raft between members. Accept hands over the connections that
// were made for Raft; raftsched introduces itself on them.
type Network interface {
	net.Listener
	// Dial connects to the member with this id at addr, its Config.Address. A
	// Network that can prove who answers refuses everybody but id.
	Dial(id, addr string, timeout time.Duration) (net.Conn, error)
}

// Introduction is how nodes present themselves to each other.
type Introduction struct {
	ID      string
	Address string
	// Fresh: it has no log and belongs to no cluster yet.
	Fresh bool
	// Cluster it belongs to; of a fresh node, the one it has promised to begin.
	Cluster fsm.WorkflowID
	// Leader is the address of the leader it knows, or empty.
	Leader string
	// Promised: the promise that was asked for is given.
	Promised bool
}

// JoinRequest asks the leader to take a node in, or to note its new record.
type JoinRequest struct {
	Member fsm.Member // with the features it understands
	// Cluster it belongs to; zero: it is fresh.
	Cluster fsm.WorkflowID
}

// Peers is how this node talks to others beside Raft. Both calls must return
// soon after ctx ends.
type Peers interface {
	// Meet has the node at addr answer by its Node.Meet.
	Meet(ctx context.Context, addr string, from Introduction, founding []string) (Introduction, error)
	// Join has the leader answer by its Node.Join; the node at addr passes the
	// request on if it does not lead.
	Join(ctx context.Context, addr string, req JoinRequest) (fsm.WorkflowID, error)
}

// Status describes a node and its cluster for people.
type Status struct {
	Node    string
	Cluster fsm.WorkflowID // zero before its first leader
	// State is "leader", "follower", "candidate", "waiting" (belongs to no
	// cluster yet) or "stopped".
	State string
	// Leader as this node knows it; its id is empty if none is known.
	Leader  fsm.Member
	Members []MemberStatus // by id
	// Quorum is the smallest number of voters that can commit; 0: no members.
	Quorum int
	// Dispatching: this node leads and grants jobs.
	Dispatching bool

	Term, Epoch                                         uint64
	LastIndex, CommitIndex, AppliedIndex, SnapshotIndex uint64
	Leases, Sessions                                    int
	// Elections this node stood for, and terms it has seen begin, since Start.
	Elections, Terms uint64

	// StateHash is the hash of the replicated state at CheckedIndex, an index
	// at which every node notes it. 0, 0: none yet.
	CheckedIndex, StateHash uint64
	Features                map[string]uint64
	// Trouble is what this node waits for or suffers from, in a sentence; empty:
	// nothing.
	Trouble string
}

// MemberStatus is a member as this node sees it.
type MemberStatus struct {
	fsm.Member
	Voter  bool
	Leader bool
	// LastContact is the time since the member's last answer to this leader;
	// negative: this node does not lead, or it never answered. 0 of itself.
	LastContact time.Duration
	// Match is the log index known to be stored there; 0: unknown.
	Match uint64
}
