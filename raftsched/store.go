package raftsched

import (
	"context"
	"errors"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// ErrFenced is returned by the store's fenced transactions when a newer reign
// has taken over, or the database was promoted to a new timeline.
var ErrFenced = errors.New("fenced by a newer reign")

// LeaseFact is what Postgres says of a leased job.
type LeaseFact struct {
	Lease fsm.Lease
	// Held: the row is there and its turn is the lease's: the lease stands.
	Held bool
	// Row of the job, when it is still among the open jobs and available.
	Row *dispatch.Row
}

// Store is what the scheduler needs of the database. Every method may be called
// from several goroutines.
type Store interface {
	// Takeover fences out every older reign: it takes the fence's lock
	// exclusively, checks the cluster id (adopting the database if it has none
	// yet) and that the stored epoch is below epoch, writes it, commits. It
	// answers with the stored epoch as the next floor when that is not below.
	Takeover(ctx context.Context, cluster fsm.WorkflowID, epoch uint64) (floor uint64, err error)
	// Leases reads the rows of leased jobs, in the order given.
	Leases(ctx context.Context, leases []fsm.Lease) ([]LeaseFact, error)
	// Routes reads the whole dictionary.
	Routes(ctx context.Context) ([]dispatch.Route, error)
	// Paused reads which queues and workflows are paused.
	Paused(ctx context.Context) (queues []string, workflows []fsm.WorkflowID, err error)
	// Walk reads the ready index in order from behind after: the first perLane
	// rows of each stream, until about limit rows are read. more says that
	// streams lie behind the last one.
	Walk(ctx context.Context, after dispatch.LanePriority, first bool, perLane, limit int) (loaded []dispatch.Loaded, more bool, err error)
	// Load reads the next rows of several streams in one round trip.
	Load(ctx context.Context, loads []dispatch.Load) ([]dispatch.Loaded, error)
	// Lanes finds streams that have rows by a loose scan from behind after, in
	// order, at most limit.
	Lanes(ctx context.Context, after dispatch.LanePriority, first bool, limit int) ([]dispatch.LanePriority, error)
	// Payloads reads the arguments of jobs whose rows do not carry them, in
	// the order given; nil where there are none.
	Payloads(ctx context.Context, jobs []fsm.JobID) ([][]byte, error)
	// ArgsInPayloads tells from a row's flags whether Payloads has its args.
	ArgsInPayloads(flags int32) bool
}

// Sink takes the ends of attempts that the scheduler itself finds: lost
// sessions, silent attempts, jobs that expired in their queue. It writes the
// fact and then calls Node.Done; it never blocks for long. It may be called as
// soon as the reign begins, also before Config.Lead has been entered, and again
// for an end that was not followed by Done within 30 s: the turn makes that
// harmless.
type Sink interface {
	End(ends []End)
}

// EndReason says why the scheduler ends an attempt or a waiting job.
type EndReason uint8

const (
	// EndLost: the session was lost; counted.
	EndLost EndReason = iota + 1
	// EndTimeout: the attempt was silent past its timeout; counted.
	EndTimeout
	// EndExpired: not leased; its wait in the queue or its deadline is over.
	EndExpired
)

// End is one such end. Lease is zero (but for Job and Turn) for EndExpired.
type End struct {
	Lease  fsm.Lease
	Reason EndReason
	Worker string
}
