// Package policy reads retry policies: how many attempts a job has and how long
// it waits between two of them. It is pure: no clock, no source of randomness,
// no goroutine. Engine, SDK and the users' test engine share it, so that a
// policy means the same everywhere.
package policy

import (
	"errors"
	"fmt"
	"math"
	"time"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// The defaults of fields that are not set.
const (
	DefaultAttempts = 10
	DefaultFactor   = 2.0
	DefaultJitter   = 0.2
	DefaultMax      = 24 * time.Hour
	// DefaultInitial is the first delay of an exponential backoff.
	DefaultInitial = time.Second

	// MaxAttempts is the most a policy may ask for.
	MaxAttempts = 1000
	// maxDelays bounds an explicit list.
	maxDelays = 1000
	// maxDelay bounds every duration of a policy.
	maxDelay = 10 * 365 * 24 * time.Hour
	// polynomialBase is added to attempt^4 seconds.
	polynomialBase = 15 * time.Second
)

// Attempts gives the number of attempts in all. A nil policy has the default.
func Attempts(p *heddlev1.RetryPolicy) int {
	if n := p.GetAttempts(); n > 0 {
		return int(n)
	}
	return DefaultAttempts
}

// Delay gives the time between the end of an attempt, counted from 1 within the
// job's present life, and the start of the next one. rnd is a random number in
// [0, 1) that places the delay within the jitter. The answer is never negative
// and never above the policy's maximum.
func Delay(p *heddlev1.RetryPolicy, attempt int, rnd float64) time.Duration {
	attempt = max(attempt, 1)
	limit := DefaultMax
	if d := p.GetMax().AsDuration(); d > 0 {
		limit = d
	}
	jitter := DefaultJitter
	if p != nil && p.Jitter != nil {
		jitter = p.GetJitter()
	}
	// Cut before and after the jitter: before, so that a huge power stays
	// finite; after, so that the bound holds.
	seconds := min(base(p, attempt), limit.Seconds())
	seconds *= 1 + jitter*(2*rnd-1)
	return time.Duration(min(max(seconds, 0), limit.Seconds()) * float64(time.Second))
}

// base gives the delay in seconds, without jitter and bound.
func base(p *heddlev1.RetryPolicy, attempt int) float64 {
	switch p.GetBackoff() {
	case heddlev1.Backoff_BACKOFF_EXPONENTIAL:
		initial, factor := DefaultInitial, DefaultFactor
		if d := p.GetInitial().AsDuration(); d > 0 {
			initial = d
		}
		if f := p.GetFactor(); f >= 1 {
			factor = f
		}
		return initial.Seconds() * math.Pow(factor, float64(attempt-1))
	case heddlev1.Backoff_BACKOFF_FIXED:
		return p.GetInitial().AsDuration().Seconds()
	case heddlev1.Backoff_BACKOFF_LIST:
		if n := len(p.GetDelays()); n > 0 {
			return p.GetDelays()[min(attempt, n)-1].AsDuration().Seconds()
		}
	}
	a := float64(attempt)
	return a*a*a*a + polynomialBase.Seconds()
}

// Validate reports every fault of a policy at once, each with the field's name
// and the value. A nil policy is the default and valid.
func Validate(p *heddlev1.RetryPolicy) error {
	if p == nil {
		return nil
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if n := p.GetAttempts(); n < 0 || n > MaxAttempts {
		fault("retry.attempts: %d is not within 0 to %d", n, MaxAttempts)
	}
	duration := func(field string, d interface {
		AsDuration() time.Duration
		CheckValid() error
	}) {
		if err := d.CheckValid(); err != nil {
			fault("%s: %w", field, err)
		} else if v := d.AsDuration(); v < 0 || v > maxDelay {
			fault("%s: %s is not within 0s to %s", field, v, maxDelay)
		}
	}
	if p.Initial != nil {
		duration("retry.initial", p.Initial)
	}
	if p.Max != nil {
		duration("retry.max", p.Max)
	}
	for i, d := range p.GetDelays() {
		duration(fmt.Sprintf("retry.delays[%d]", i), d)
	}
	if f := p.GetFactor(); f != 0 && !(f >= 1 && f <= 1000) {
		fault("retry.factor: %g is not within 1 to 1000", f)
	}
	if p.Jitter != nil && !(p.GetJitter() >= 0 && p.GetJitter() <= 1) {
		fault("retry.jitter: %g is not within 0 to 1", p.GetJitter())
	}

	backoff := p.GetBackoff()
	name, known := heddlev1.Backoff_name[int32(backoff)]
	switch {
	case !known:
		fault("retry.backoff: %d is unknown", backoff)
	case backoff == heddlev1.Backoff_BACKOFF_LIST && len(p.GetDelays()) == 0:
		fault("retry.delays: empty, but retry.backoff is %s", name)
	case backoff != heddlev1.Backoff_BACKOFF_LIST && len(p.GetDelays()) > 0:
		fault("retry.delays: given, but retry.backoff is %s", name)
	}
	if n := len(p.GetDelays()); n > maxDelays {
		fault("retry.delays: %d entries are more than %d", n, maxDelays)
	}
	return errors.Join(faults...)
}
