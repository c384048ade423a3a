// Package model holds the values that the parts of the engine hand to each other:
// what is to be written, and what a write changed. It has no behaviour.
package model

import (
	"errors"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// The errors on which callers branch. They are wrapped with the names and
// values at fault.
var (
	ErrNotFound      = errors.New("not found")
	ErrAlreadyExists = errors.New("already exists")
	// ErrInvalid: the input is at fault, whatever the state.
	ErrInvalid = errors.New("invalid")
	// ErrRefused: the state of the graph does not allow it.
	ErrRefused = errors.New("refused")
	// ErrStale: the lease under which something was to be done is gone.
	ErrStale = errors.New("stale lease")
	// ErrDoubt: the COMMIT of a transaction is in doubt; it may or may not be
	// durable.
	ErrDoubt = errors.New("commit in doubt")
)

// Job is a job to write.
type Job struct {
	Kind, Queue, Key string
	Priority         int16     // 0: inherit
	RunAt            time.Time // zero: the database's now
	MaxAttempts      int16
	Args             []byte
	Opts             []byte // encoded heddle.v1.JobOptions; nil: none
	WaitTimeout      time.Duration
	Deadline         time.Duration
	Delay            time.Duration
}

// NewNode is a node to write. Of Job and Batch one is set.
type NewNode struct {
	Name          string
	Container     dag.ID
	Join          int32
	Parents       int32
	Children      int32
	Hold, Cleanup bool
	Job           *Job
	Batch         *NewBatch
}

// NewBatch is a batch to write.
type NewBatch struct {
	Tolerance dag.Tolerance
	Open      bool
	Priority  int16
}

// Submission is a workflow to write. Nodes are numbered from 1 in their order,
// which is depth first; Lone submissions have exactly one job and no row in
// workflows.
type Submission struct {
	ID      fsm.WorkflowID
	Name    string
	Root    NewBatch
	Lone    bool
	Repeat  bool // sent before: skip the optimistic path
	Headers []byte
	Nodes   []NewNode
	Edges   []dag.Edge
}

// Chunk is a part of a streamed submission.
type Chunk struct {
	Nodes []NewNode
	Edges []dag.Edge
}

// Submitted is the answer to one Submission.
type Submitted struct {
	ID      fsm.WorkflowID
	Created bool
	Nodes   int32
	Err     error // of this submission alone: ErrInvalid, ErrAlreadyExists
	// Ready rows, at most ReadyLimit; Lanes are streams that got rows beyond
	// those.
	Ready []dispatch.Row
	Lanes []dispatch.LanePriority
	// Cascades were started by it (an empty batch that ended at once).
	Cascades bool
}

// ReadyLimit bounds the rows a write hands back for direct dispatch.
const ReadyLimit = 2000

// Reign names the leader's epoch and timeline; every scheduling write is
// fenced with it.
type Reign struct {
	Epoch    uint64
	Timeline int32
}

// Ending is how an attempt ended, decided by the completer: policy applied.
type Ending uint8

const (
	EndSucceeded Ending = iota + 1
	EndFailed           // for good
	EndCancelled
	EndRetry    // counted, again at now + Delay
	EndSnooze   // uncounted, again at now + Delay
	EndReleased // uncounted, at once, front of its queue
)

// Finish is one end of an attempt to write, under its lease (Turn).
type Finish struct {
	Job    fsm.JobID
	Turn   int32 // of the lease: the row must have it
	Ending Ending
	// How is recorded in attempts for EndRetry, EndSnooze, EndReleased:
	// 1 failed, 2 lost, 3 snoozed, 4 released, 5 timeout.
	How int16
	// Worker that ran the attempt. Empty: nobody did, the job expired in its
	// queue; then EndFailed counts no attempt.
	Worker string
	Result []byte
	Error  string
	Delay  time.Duration
	// Wait is the job's wait timeout: it begins anew when the job waits again
	// (EndRetry, EndSnooze, EndReleased). 0: none.
	Wait time.Duration
	Ran  time.Duration // how long the attempt ran
	Ago  time.Duration // how long ago it ended
	// Batch and Flags of the granted row, so that the flush knows what to load.
	Batch int32
	Flags int32
	// Then is the returned graph of a success: nodes are numbered -1, -2, ...
	// in edges; ids >= 0 are existing nodes.
	Then *Chunk
}

// Flushed is the answer to one Finish.
type Flushed struct {
	// Stale: the row is gone or has another turn, and the history does not
	// hold this very end: the report is dropped.
	Stale bool
	// Err of this item alone (a returned graph that is refused).
	Err error
}

// Effects is what a committed transaction changed beyond its items.
type Effects struct {
	Ready    []dispatch.Row          // rows now available (also in the future), at most ReadyLimit
	Lanes    []dispatch.LanePriority // streams that got rows beyond those in Ready
	Gone     []dispatch.JobTurn      // jobs that are no longer available (moved or blocked)
	Tell     []fsm.JobID             // running jobs to tell of a cancel
	Ended    []fsm.WorkflowID        // workflows (and lone jobs) that ended
	Touched  []fsm.WorkflowID        // graphs whose state changed, for watchers
	Resumed  []fsm.WorkflowID        // workflows whose pause was lifted by a cancel
	Cascades bool                    // cascades were started
}
