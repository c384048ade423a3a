package raftsched

import (
	"errors"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// The errors on which callers branch.
var (
	// ErrNotLeader: this node cannot answer; another, or a later try, can.
	ErrNotLeader = errors.New("not the leader")
	// ErrUnknownSession: the session is gone for good; open a new one.
	ErrUnknownSession = errors.New("unknown session")
	// ErrStaleLease: the lease is gone for good; drop the result.
	ErrStaleLease = errors.New("stale lease")
)

// Queue names a queue a worker serves. Weights of zero: strictly in order.
type Queue struct {
	Name   string
	Weight int
}

// Worker is how a worker introduces itself.
type Worker struct {
	Name    string
	Process string // random id of its process
	Version string
	Slots   int   // jobs it takes at once; 0: not told
	At      int64 // now, in microseconds of the database clock; 0: not known
}

// PollRequest is one poll of a session.
type PollRequest struct {
	Session uint64
	Poll    uint64 // numbered from 1 within the session
	Max     int
	Queues  []Queue
	Kinds   []string
	Wait    time.Duration
}

// Grant is a job handed to a poll, after its grant was committed.
type Grant struct {
	Lease fsm.Lease
	Row   dispatch.Row // Args filled in, wherever they lay
	Route dispatch.Route
}

// Heartbeat is one atomic snapshot of what a session's worker holds.
type Heartbeat struct {
	Session      uint64
	PollsClosed  uint64
	Held         []HeldLease
	CommandsSeen uint64
	Wait         time.Duration
}

// HeldLease names a lease as its holder knows it.
type HeldLease struct {
	Job fsm.JobID
	ID  uint64
}

// Commands answer a Heartbeat.
type Commands struct {
	Epoch  uint64
	Number uint64
	Cancel []HeldLease
	Lost   []HeldLease
	Drain  bool
}

// Admission says what may be done with a report under a lease.
type Admission uint8

const (
	// Admitted: the lease is in the FSM.
	Admitted Admission = iota + 1
	// Stale: the lease is gone for good.
	Stale
	// Unknown: this node may be behind; the report must be sent again.
	Unknown
)

// Mark is the start of a read or a transaction whose rows are handed in later.
type Mark uint64

// Done tells the scheduler what a committed transaction of the leader changed.
type Done struct {
	// Ended leases: their facts are in Postgres. They are released with the
	// next entry; their jobs' rows of a turn up to the lease's are history.
	Ended []fsm.Lease
	// Ready rows that the transaction wrote, as a read begun at Mark.
	Ready []dispatch.Row
	Mark  Mark
	// Gone: unleased jobs that the transaction removed or blocked (cancelled,
	// skipped, expired), with their turn before.
	Gone []dispatch.JobTurn
}
