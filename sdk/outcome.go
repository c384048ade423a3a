package heddle

import (
	"strings"

	"github.com/heddle-io/heddle/dag"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// Outcome is how a node ended, and, combined with |, a set of outcomes.
type Outcome = dag.Outcome

// The outcomes, and the sets that edges often fire on.
const (
	Succeeded Outcome = dag.Succeeded
	Failed    Outcome = dag.Failed
	Cancelled Outcome = dag.Cancelled
	// Skipped nodes could never start.
	Skipped Outcome = dag.Skipped

	// Finished is every outcome of a node that was not skipped.
	Finished Outcome = dag.Finished
	// Always is every outcome.
	Always Outcome = dag.Always
	// NotSucceeded is every outcome but success.
	NotSucceeded Outcome = dag.NotSucceeded
)

// State of a workflow, batch or job as people see it.
type State string

// The states. Workflows are never blocked or skipped, batches never scheduled,
// available or retryable.
const (
	StateBlocked   State = "blocked"
	StateScheduled State = "scheduled"
	StateAvailable State = "available"
	StateRunning   State = "running"
	StateRetryable State = "retryable"
	StateSucceeded State = "succeeded"
	StateFailed    State = "failed"
	StateCancelled State = "cancelled"
	StateSkipped   State = "skipped"
)

// Outcome is the outcome of a node in state s; zero while it has not ended.
func (s State) Outcome() Outcome {
	switch s {
	case StateSucceeded:
		return Succeeded
	case StateFailed:
		return Failed
	case StateCancelled:
		return Cancelled
	case StateSkipped:
		return Skipped
	}
	return 0
}

func stateOf(s heddlev1.State) State {
	if s == heddlev1.State_STATE_UNSPECIFIED {
		return ""
	}
	return State(strings.ToLower(strings.TrimPrefix(s.String(), "STATE_")))
}
