package engine

import (
	"errors"
	"fmt"
	"testing"

	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/raftsched"
)

func TestSchedulerErrorsAreSaidOnce(t *testing.T) {
	for want, err := range map[string]error{
		"unknown session": raftsched.ErrUnknownSession,
		"stale lease":     raftsched.ErrStaleLease,
		"not the leader":  raftsched.ErrNotLeader,
	} {
		if got := apiError(err); got.Error() != want {
			t.Errorf("%v became %q", err, got)
		}
	}
	detailed := apiError(fmt.Errorf("%w: the log is full", raftsched.ErrNotLeader))
	if !errors.Is(detailed, api.ErrNotLeader) || !errors.Is(detailed, raftsched.ErrNotLeader) {
		t.Errorf("%v lost its kind", detailed)
	}
	if apiError(nil) != nil {
		t.Error("an error came of none")
	}
}
