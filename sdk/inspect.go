package heddle

import (
	"errors"
	"time"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/sdk/internal/attempt"
)

// IsNoRetry reports whether a handler's error says that its job fails for
// good. It is for tests of handlers and for middleware.
func IsNoRetry(err error) bool {
	c := control(err)
	return c != nil && c.Ending == heddlev1.Ending_ENDING_FAILED_NO_RETRY
}

// RetryDelay gives the delay that a handler's error asks for with [RetryAfter];
// false if it leaves that to the policy.
func RetryDelay(err error) (time.Duration, bool) {
	c := control(err)
	if c == nil || c.Ending != heddlev1.Ending_ENDING_FAILED {
		return 0, false
	}
	return c.After, true
}

func control(err error) *attempt.Control {
	var c *attempt.Control
	if !errors.As(err, &c) {
		return nil
	}
	return c
}
