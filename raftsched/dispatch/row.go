// Package dispatch decides which waiting poll gets which ready job. It is plain
// data without goroutines, clocks or I/O: the scheduler's one loop owns a
// Dispatcher, tells it what happened and what time it is, and carries out what
// it asks for.
package dispatch

import "github.com/heddle-io/heddle/raftsched/fsm"

// Route is a (queue, kind) pair of the dictionary.
type Route struct {
	ID    int32
	Queue string
	Kind  string
}

// Lane is what can be held back on its own: a route and a concurrency key.
type Lane struct {
	Route int32
	Key   string
}

// LanePriority is one ordered stream of ready jobs.
type LanePriority struct {
	Lane
	Priority int16
}

// Cursor is a position in a lane's order. The zero value stands before all.
type Cursor struct {
	RunAt int64 // microseconds since the Unix epoch, database clock
	Job   fsm.JobID
}

// Row is a ready job as the store reads it: an available row of `jobs`.
type Row struct {
	Job         fsm.JobID
	Lane        Lane
	Priority    int16
	RunAt       int64 // microseconds since the Unix epoch, database clock
	ExpiresAt   int64 // microseconds; 0: never. Fails then, though nobody runs it
	DeadlineAt  int64 // microseconds; 0: none. End of all attempts
	Turn        int32
	Attempt     int16 // counted so far; the next try is Attempt+1
	Losses      int16 // sessions lost with it in this life; from 2 on it is granted alone
	MaxAttempts int16
	Batch       int32 // container; -1: a lone job
	Flags       int32 // as stored; opaque here
	Name        string
	Args        []byte // nil when they lie in payloads (see Flags)
	Opts        []byte // encoded heddle.v1.JobOptions, nil when none
}

// Load asks for the next rows of one stream.
type Load struct {
	Lane  LanePriority
	After Cursor
	Limit int
	// Sweep marks a periodic search. The store need not care.
	Sweep bool
}

// Loaded answers a Load.
type Loaded struct {
	Lane LanePriority
	Rows []Row // in the order (run_at, workflow, node)
	End  bool  // nothing lies behind the last row
	// Now is the database's clock at the start of the read, microseconds.
	Now int64
}

// JobTurn is a job's row as of a turn.
type JobTurn struct {
	Job  fsm.JobID
	Turn int32
}
