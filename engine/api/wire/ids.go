package wire

import (
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// WorkflowID parses the canonical text of a workflow's id.
func WorkflowID(field, s string) (fsm.WorkflowID, error) {
	if s == "" {
		return fsm.WorkflowID{}, invalid(field, "is empty")
	}
	if len(s) == 36 {
		if id, err := uuid.Parse(s); err == nil {
			return fsm.WorkflowID(id), nil
		}
	}
	return fsm.WorkflowID{}, invalid(field, "%q is no workflow id (a UUID)", clip(s))
}

// NewID checks the id of a workflow to be written: a UUIDv7. Empty: a new one.
func NewID(field, s string) (fsm.WorkflowID, error) {
	if s == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return fsm.WorkflowID{}, err
		}
		return fsm.WorkflowID(id), nil
	}
	id, err := WorkflowID(field, s)
	if err != nil {
		return id, err
	}
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		return id, invalid(field, "%s is no UUIDv7", s)
	}
	return id, nil
}

// JobID parses "<workflow id>/<node>"; the workflow id alone is its node 1.
func JobID(field, s string) (fsm.JobID, error) {
	text, number, slash := strings.Cut(s, "/")
	id, err := WorkflowID(field, text)
	if err != nil {
		return fsm.JobID{}, invalid(field, "%q is no job id (<workflow id>/<node>)", clip(s))
	}
	if !slash {
		return fsm.JobID{Workflow: id, Node: 1}, nil
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n < 1 {
		return fsm.JobID{}, invalid(field, "%q is no job id (<workflow id>/<node>)", clip(s))
	}
	return fsm.JobID{Workflow: id, Node: int32(n)}, nil
}

// Bytes gives the job named by the 16 bytes of a workflow id and a number.
func Bytes(id []byte, node int32) (fsm.JobID, error) {
	if len(id) != len(fsm.WorkflowID{}) {
		return fsm.JobID{}, invalid("workflow_id", "%d bytes are not 16", len(id))
	}
	if node < 1 {
		return fsm.JobID{}, invalid("node", "%d is no job", node)
	}
	return fsm.JobID{Workflow: fsm.WorkflowID(id), Node: node}, nil
}

// Node checks the number of a node in a request; 0 is the root.
func Node(field string, n int32) (dag.ID, error) {
	if n < 0 {
		return 0, invalid(field, "%d is negative", n)
	}
	return dag.ID(n), nil
}

// clip bounds a value that is repeated in an error.
func clip(s string) string {
	if len(s) > maxText {
		return keep(s, maxText) + "..."
	}
	return s
}
