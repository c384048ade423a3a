package raftsched

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Config of a Node. Start from DefaultConfig.
type Config struct {
	// ID names this node in the cluster; it must not change for a Dir.
	ID string
	// Dir holds the Raft log and its snapshots. It is locked while the node
	// runs. Unused when Ephemeral.
	Dir string
	// Ephemeral keeps the Raft log in memory: for tests, and engines that may
	// forget their leases.
	Ephemeral bool
	// Cluster, unless zero, is the id this cluster shall have: a leader whose
	// state has another one adopts it. Zero: kept, or drawn at random once. Only
	// for a cluster of one without Network.
	Cluster fsm.WorkflowID
	// APIAddr is the URL of this node's API. It and Version are told to the
	// other members.
	APIAddr string
	Version string

	// Network carries Raft; Address is the host:port by which other members
	// reach it. Nil: a cluster of one, without a network.
	Network Network
	Address string
	// Peers is how nodes talk beside Raft. Required with Network.
	Peers Peers
	// PeerAddrs are the addresses of nodes to meet; the own one may be among
	// them. A fresh node joins the cluster that it finds there.
	PeerAddrs []string
	// Expect is how many fresh nodes begin a cluster together, once that many
	// have met. 0: a fresh node with PeerAddrs only joins, one without begins a
	// cluster alone. 1: it begins one alone unless it finds one.
	Expect int

	// SessionTTL: a session silent for longer is lost. Default 15 s.
	SessionTTL time.Duration
	// Window is how many rows of one stream are kept in memory. Default 2,000.
	Window int
	// MaxGrants bounds the grants of one log entry. Default 4,096.
	MaxGrants int
	// EntryInterval is the time between two entries under load, and between
	// all over time (a few with few grants may go ahead, see pace): the
	// disk's endurance, not its speed. Default 2 ms.
	EntryInterval time.Duration
	// ReleaseDelay is how long releases wait for grants to ride along with;
	// ReleaseLimit is how many may pile up before that. Defaults 200 ms, 4,096.
	ReleaseDelay time.Duration
	ReleaseLimit int
	// SweepInterval is how often rows that no hint told of are looked for, while
	// a worker is free. It bounds I10 and must be below 2 s. Default 1.75 s.
	SweepInterval time.Duration
	// SilentGrace is how long after its own timeout an attempt is still awaited,
	// before the scheduler ends it. Default 10 s.
	SilentGrace time.Duration
	// CommitStall: a leader that cannot commit for so long, though a quorum does
	// its part, stops its Raft node and calls Fatal. Default 3 s.
	CommitStall time.Duration
	// Raft are the timings of elections.
	Raft RaftTimings

	// Features this build understands. Nil: fsm.Features.
	Features map[string]uint64

	// TimeoutOf reads the timeout of one attempt from a row's options; 0: none.
	// Nil: no attempt has one. Called from one goroutine at a time.
	TimeoutOf func(opts []byte) time.Duration
	// CancelTold tells from a row's flags that its running job was told to
	// cancel: a new leader tells it again. Nil: none was.
	CancelTold func(flags int32) bool
	// DeadProcess says of the process id a session was opened with that this
	// process has certainly ended, as an in-process worker that died with its
	// engine. A new leader closes such sessions at once. Nil: none has.
	DeadProcess func(process string) bool
	// Lead is the engine's own work while this node leads and dispatches. It
	// must return soon after ctx has ended; the reign ends only then.
	Lead func(ctx context.Context, epoch uint64)
	// Fatal is called once, from a goroutine of its own, when the node has
	// stopped itself and will not come back.
	Fatal func(err error)
	// Logger gets one line per change of the node's state. Nil: none.
	Logger *slog.Logger
}

// RaftProfile has the timings for a sort of network: "lan", the default, for
// round trips below 10 ms, "wan" for those up to 150 ms.
func RaftProfile(name string) (RaftTimings, error) {
	switch name {
	case "lan", "":
		return RaftTimings{Heartbeat: 250 * time.Millisecond, LeaderLease: 250 * time.Millisecond, Commit: 10 * time.Millisecond}, nil
	case "wan":
		return RaftTimings{Heartbeat: 1500 * time.Millisecond, LeaderLease: 1000 * time.Millisecond, Commit: 50 * time.Millisecond}, nil
	}
	return RaftTimings{}, fmt.Errorf("raft profile %q: must be lan or wan", name)
}

// RaftTimings of elections. All nodes of a cluster should have the same.
type RaftTimings struct {
	// Heartbeat without which a follower stands for election, and how long it
	// waits for votes. Default 250 ms.
	Heartbeat time.Duration
	// LeaderLease without contact to a quorum after which a leader steps down;
	// at most Heartbeat. Safety does not rest on it (a grant counts once it is
	// committed), so it need not be shorter. Default 250 ms.
	LeaderLease time.Duration
	// Commit bounds how long followers wait to hear of a commit. Default 10 ms.
	Commit time.Duration
}

// DefaultConfig has all defaults and no names.
func DefaultConfig() Config {
	return Config{
		SessionTTL:    15 * time.Second,
		Window:        2000,
		MaxGrants:     4096,
		EntryInterval: 2 * time.Millisecond,
		ReleaseDelay:  200 * time.Millisecond,
		ReleaseLimit:  4096,
		SweepInterval: 1750 * time.Millisecond,
		SilentGrace:   10 * time.Second,
		CommitStall:   3 * time.Second,
		Raft: RaftTimings{
			Heartbeat:   250 * time.Millisecond,
			LeaderLease: 250 * time.Millisecond,
			Commit:      10 * time.Millisecond,
		},
	}
}

// address of this node as members' records and Raft have it.
func (c *Config) address() string {
	if c.Network == nil {
		return "member:" + c.ID
	}
	return c.Address
}

// alone: a fresh node begins a cluster of its own at once.
func (c *Config) alone() bool {
	return c.Network == nil || c.Expect <= 1 && len(c.PeerAddrs) == 0
}

// record of this node as a member.
func (c *Config) record() fsm.Member {
	return fsm.Member{ID: c.ID, RaftAddr: c.address(), APIAddr: c.APIAddr, Version: c.Version, Features: c.Features}
}

// Validate names every fault of the configuration.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.ID == "" || len(c.ID) > 100 {
		bad("ID %q: must have 1 to 100 bytes", c.ID)
	}
	if c.Dir == "" && !c.Ephemeral {
		bad("Dir: must be set unless Ephemeral")
	}
	if c.Network != nil {
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			bad("Address %q: must be the host:port by which others reach Network: %w", c.Address, err)
		}
		if c.Peers == nil {
			bad("Peers: must be set with Network")
		}
		if c.Cluster != (fsm.WorkflowID{}) {
			bad("Cluster %v: must not be set with Network", c.Cluster)
		}
	} else if len(c.PeerAddrs) > 0 || c.Expect > 1 {
		bad("PeerAddrs %q, Expect %d: need a Network", c.PeerAddrs, c.Expect)
	}
	if c.Expect < 0 {
		bad("Expect %d: must not be negative", c.Expect)
	}
	if c.Expect > 1 && len(c.PeerAddrs) == 0 {
		bad("Expect %d: needs PeerAddrs to meet the others at", c.Expect)
	}
	if c.SessionTTL < 100*time.Millisecond {
		bad("SessionTTL %v: must be at least 100ms", c.SessionTTL)
	}
	if c.Window < 2 {
		bad("Window %d: must be at least 2", c.Window)
	}
	if c.MaxGrants < 1 {
		bad("MaxGrants %d: must be at least 1", c.MaxGrants)
	}
	if c.EntryInterval < 0 {
		bad("EntryInterval %v: must not be negative", c.EntryInterval)
	}
	if c.ReleaseDelay <= 0 || c.ReleaseLimit < 1 {
		bad("ReleaseDelay %v, ReleaseLimit %d: must be positive", c.ReleaseDelay, c.ReleaseLimit)
	}
	if c.SweepInterval <= 0 || c.SweepInterval >= 2*time.Second {
		bad("SweepInterval %v: must be positive and below 2s", c.SweepInterval)
	}
	if c.SilentGrace < 0 {
		bad("SilentGrace %v: must not be negative", c.SilentGrace)
	}
	if c.CommitStall <= 0 {
		bad("CommitStall %v: must be positive", c.CommitStall)
	}
	if c.Raft.Heartbeat < 5*time.Millisecond || c.Raft.LeaderLease < 5*time.Millisecond || c.Raft.LeaderLease > c.Raft.Heartbeat || c.Raft.Commit < time.Millisecond {
		bad("Raft %+v: Heartbeat and LeaderLease must be at least 5ms, LeaderLease at most Heartbeat, Commit at least 1ms", c.Raft)
	}
	return errors.Join(errs...)
}
