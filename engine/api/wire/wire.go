// Package wire turns messages of the API into values of the engine and refuses
// those that are not sound. It is pure: no network, no database, no clock. Its
// errors wrap model.ErrInvalid and name the field, in the words of the proto,
// and the value. The handlers of engine/api use it, the completer for returned
// graphs, and the import of submissions written in users' own transactions.
package wire

import (
	"errors"
	"fmt"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
)

// Bounds of what people write by hand; none of them is configurable.
const (
	maxText     = 200 // bytes of a name, kind, queue, key or tag
	maxAttempts = 1000
	maxDelays   = 100
	maxTags     = 50
	maxHeaders  = 64
	maxHeader   = 8 << 10  // bytes of one header's value
	maxError    = 64 << 10 // bytes of an attempt's error that are kept
)

// defaultAttempts is how often a job is tried when no policy says otherwise.
const defaultAttempts = 10

// defaultQueue takes the jobs that name none.
const defaultQueue = "default"

// Limits bounds what is accepted. The zero value refuses every body; see
// DefaultLimits.
type Limits struct {
	// MaxBody is the most bytes of a job's arguments or result.
	MaxBody int
	// MaxNodes is the most nodes of one graph.
	MaxNodes int
}

// DefaultLimits are 1 MiB for arguments and results, and what the rules allow
// of nodes.
func DefaultLimits() Limits {
	return Limits{MaxBody: 1 << 20, MaxNodes: dag.DefaultLimits.Nodes}
}

// FieldError says what is wrong with one field of a message. It wraps
// model.ErrInvalid, and Cause if there is one.
type FieldError struct {
	// Field is the path of the field, as in "graph.nodes[5].job.priority".
	Field string
	// Problem names the value and what is expected.
	Problem string
	Cause   error
}

// Error gives "field: problem".
func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}

// Unwrap gives model.ErrInvalid and the cause.
func (e *FieldError) Unwrap() []error {
	if e.Cause == nil {
		return []error{model.ErrInvalid}
	}
	return []error{model.ErrInvalid, e.Cause}
}

// invalid makes a FieldError.
func invalid(field, format string, args ...any) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// caused makes a FieldError of an error of another package.
func caused(field string, err error) error {
	return &FieldError{Field: field, Problem: err.Error(), Cause: err}
}

// Within puts the name of the enclosing message before the field of err.
func Within(field string, err error) error {
	var fe *FieldError
	if !errors.As(err, &fe) || field == "" {
		return err
	}
	if fe.Field != "" {
		field += "." + fe.Field
	}
	return &FieldError{Field: field, Problem: fe.Problem, Cause: fe.Cause}
}

// withinItem is Within for an item of a repeated field.
func withinItem(field string, index int, err error) error {
	return Within(fmt.Sprintf("%s[%d]", field, index), err)
}
