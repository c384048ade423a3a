package dag

import (
	"errors"
	"fmt"
)

var (
	// ErrRefused: the state of the graph does not allow the event. Nothing has
	// changed.
	ErrRefused = errors.New("refused")
	// ErrInvalid: the event or the graph is at fault, whatever the state.
	ErrInvalid = errors.New("invalid")
)

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// noun names a node for a sentence.
func noun(n *Node) string {
	switch {
	case n.ID == Root && n.IsBatch:
		return "the workflow"
	case n.IsBatch:
		return fmt.Sprintf("batch %d", n.ID)
	}
	return fmt.Sprintf("job %d", n.ID)
}

// String gives the outcome in words; sets are joined by "|".
func (o Outcome) String() string {
	if o == None {
		return "none"
	}
	text := ""
	for i, word := range [...]string{"succeeded", "failed", "cancelled", "skipped"} {
		if o&(1<<i) != 0 {
			if text != "" {
				text += "|"
			}
			text += word
		}
	}
	return text
}

// String gives the state in a word.
func (s State) String() string {
	switch s {
	case Blocked:
		return "blocked"
	case Released:
		return "released"
	case Ended:
		return "ended"
	}
	return fmt.Sprintf("state %d", uint8(s))
}
