// Package dag holds the rules of graphs as pure values: what may be built, what
// an ended node sets free, when a batch ends and how, what a cancel, a retry or
// an append changes. It knows no database, no clock and no context; it starts
// no goroutine. The engine's store loads the part of a graph that an event
// touches into a Region, asks Decide, and writes what it answers; the tests
// of users run whole graphs through the same rules.
package dag

// ID is the number of a node in its workflow. The root batch, which is the
// workflow itself, is 0; the others count from 1, depth first.
type ID int32

// Root is the root batch of a workflow.
const Root ID = 0

// NoBatch is the container of the root.
const NoBatch ID = -1

// Outcome is how a node ended, and, added up, a set of outcomes.
type Outcome uint8

// The outcomes. They are bits: an edge's condition is a sum of them.
const (
	None      Outcome = 0
	Succeeded Outcome = 1
	Failed    Outcome = 2
	Cancelled Outcome = 4
	Skipped   Outcome = 8

	// Finished fires on every end of a node that was not skipped.
	Finished = Succeeded | Failed | Cancelled
	// Always fires on every end.
	Always = Finished | Skipped
	// NotSucceeded fires on every end but success.
	NotSucceeded = Failed | Cancelled | Skipped
)

// State of a node in its present life.
type State uint8

const (
	// Blocked nodes wait for their edges or for their batch to start.
	Blocked State = iota
	// Released jobs are scheduled, available, running or retryable; released
	// batches are running.
	Released
	// Ended nodes have an outcome.
	Ended
)

// Tolerance is how many direct members of a batch may fail (or be cancelled).
// The zero value tolerates none. At most one field is set.
type Tolerance struct {
	Count   int32
	Percent float64 // of all direct members, 0 to 100
}

// Edge is a continuation: Child waits for Parent. It fires when the parent
// ends in an outcome of On, else it dies.
type Edge struct {
	Parent, Child ID
	On            Outcome
}

// Cascade is what a batch with many members has still to hand down to them, in
// chunks, from a durable cursor.
type Cascade uint8

const (
	NoCascade Cascade = iota
	CascadeStart
	CascadeSkip
	CascadeCancel
	CascadeForceCancel
)

// Node is what the rules know of one node.
type Node struct {
	ID      ID
	Batch   ID // container; NoBatch for the root
	IsBatch bool

	Hold    bool // edges that would die by its failure stay open
	Cleanup bool // follows its edges even inside a cancelled batch
	Open    bool // batch: does not end until sealed

	State     State
	Outcome   Outcome // of an ended node
	Released  bool    // was released in this life (also of ended nodes)
	Cancelled bool    // batch: marked cancelled; job: its running attempt was told
	Running   bool    // job: a session holds, or may hold, a lease
	Life      int32   // raised by each reset of a retry

	// Need and Slack mean something only while the node is blocked: edges that
	// must still fire, and edges that may still die (I2).
	Need, Slack int32
	// Join is k of "at least k of n"; 0 means all. It stays over all lives.
	Join int32
	// HasChildren is false only if no edge leaves the node.
	HasChildren bool
	// ReleasedBy is the parent whose end released it; 0: none.
	ReleasedBy ID

	// Of batches: the range of the numbers of all members, nested ones inside
	// (empty: Hi < Lo), direct members in all, and by outcome (I3).
	Lo, Hi                                            ID
	Total                                             int32
	NumSucceeded, NumFailed, NumCancelled, NumSkipped int32
	Tolerance                                         Tolerance
	Cascade                                           Cascade // pending on this batch
}
