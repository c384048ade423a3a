package dag

// CascadeLimit is the number of members from which a batch hands an event down
// in chunks instead of in the deciding transaction.
const CascadeLimit = 2000

// Kind of an Event.
type Kind uint8

const (
	// Report ends a released job with Outcome.
	Report Kind = iota
	// Cancel ends or marks Node and what is inside it. Force: cleanup nodes too.
	Cancel
	// Retry takes the outcome of Node back. Downstream: also what ran after it.
	Retry
	// Dismiss declares a failed or cancelled job succeeded.
	Dismiss
	// GiveUp ends the hold of Node.
	GiveUp
	// Seal closes an open batch.
	Seal
	// Append adds New nodes with their Edges to batch Node.
	Append
	// Step goes on with the cascade of batch Node for the direct members listed
	// in Members; those that have ended may be left out. Last says that none are
	// left after them.
	Step
	// Settle looks at Node again: an empty batch that was released at submit, a
	// blocked node whose counters allow its release.
	Settle
)

// Event is something that happened to a graph.
type Event struct {
	Kind       Kind
	Node       ID
	Outcome    Outcome // Report
	Force      bool    // Cancel
	Downstream bool    // Retry
	New        []Node  // Append: ID, Batch, IsBatch, options, Join, Lo/Hi/Total; numbered from the workflow's next number
	Edges      []Edge  // Append: only into new nodes
	Inside     bool    // Append by a running job of the batch (returned graph, AddNow): dropped, not refused, if the batch is cancelled
	Members    []ID    // Step
	Last       bool    // Step
}

// Change is what a Decision does to one node.
type Change struct {
	Node     Node // as it is now
	New      bool // appended by this decision
	Released bool // released by this decision: a job becomes available, a batch runs
	Ended    bool // ended by this decision, by the rules (not the Report itself): skipped, cancelled, or a batch's outcome
	Reset    bool // a retry took it back: a job that had ended moves from the history to the open jobs
	Told     bool // a running job that is to be told to cancel
	Cascade  bool // Node.Cascade was started by this decision: its cursor begins at the first member, also if one of that kind was pending
}

// Missing is what has to be loaded before an event can be decided.
type Missing struct {
	Nodes    []ID // these nodes
	Out      []ID // all edges out of these nodes, and their children as nodes
	In       []ID // all edges into these nodes, and their parents as nodes
	Members  []ID // all direct members of these batches, as nodes
	Troubled []ID // the direct members of these batches that are batches, or ended other than succeeded
}

// Empty reports whether nothing is missing.
func (m Missing) Empty() bool {
	return len(m.Nodes)+len(m.Out)+len(m.In)+len(m.Members)+len(m.Troubled) == 0
}

// Decision is the answer of the rules to events.
type Decision struct {
	// Changes, each node once, in ascending order of their numbers. Empty while
	// something is missing.
	//
	// A change without a flag carries new counters or marks only, of an ended
	// node too. Reset with an ended Node means that the row in the history
	// takes another outcome in place (dismiss; a retried node that ends at once).
	// A pending cascade is over when Node.Cascade is NoCascade.
	Changes []Change
	Missing Missing
	// Dropped are the positions of Append events whose graph was dropped,
	// because the batch they were to go into is cancelled.
	Dropped []int
}
