// Package fsm is the replicated state of the scheduler: members, sessions and
// leases, and the commands that change them. It is deterministic: no clock, no
// randomness, no I/O. Every node of a cluster applies the same commands in the
// same order and holds the same state at the same index (I11).
package fsm

import (
	"encoding/hex"
	"strconv"
)

// WorkflowID is the UUIDv7 of a workflow.
type WorkflowID [16]byte

// String gives the canonical text of the UUID.
func (w WorkflowID) String() string {
	var b [36]byte
	hex.Encode(b[:8], w[:4])
	b[8] = '-'
	hex.Encode(b[9:13], w[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], w[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], w[8:10])
	b[23] = '-'
	hex.Encode(b[24:], w[10:])
	return string(b[:])
}

// JobID names a job: its workflow and its number in it.
type JobID struct {
	Workflow WorkflowID
	Node     int32
}

// String gives "<workflow id>/<node>".
func (j JobID) String() string { return j.Workflow.String() + "/" + strconv.Itoa(int(j.Node)) }

// Lease is the committed right of a session to run a job.
type Lease struct {
	Job JobID
	// ID is the Raft index of the entry that granted it. Together with Job it
	// is never used again.
	ID      uint64
	Session uint64
	// Turn of the job's row when it was granted.
	Turn int32
	// Poll of the session that it answered.
	Poll uint64
	// GrantedAt as told by the proposer, in microseconds of the database clock.
	GrantedAt int64
}
