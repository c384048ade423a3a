package heddle

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/policy"
)

// maxName is the longest name of a kind, queue, key, node or workflow, in bytes.
const maxName = 200

// JobOptions are the settings of a job. The zero value of a field inherits: from
// the options before it, then from the kind's, then the engine's default.
type JobOptions struct {
	// Name of the node, unique in its batch, at most 200 bytes, without "/". It
	// is what paths address. Lone jobs have none.
	Name string
	// Queue, at most 200 bytes. Default "default".
	Queue string
	// Priority from 1 (first) to 4. Default: that of the nearest batch that has
	// one, else the workflow's, else 2.
	Priority int
	// Key for concurrency and fairness between tenants, at most 200 bytes.
	Key string
	// RunAt is the earliest start, by the engine's clock.
	RunAt time.Time
	// Delay counted from the moment the job is released.
	Delay time.Duration
	// Timeout of one attempt. It is enforced by the worker's clock.
	Timeout time.Duration
	// HeartbeatTimeout is the longest silence of a running handler between two
	// calls of Progress.
	HeartbeatTimeout time.Duration
	// WaitTimeout is the longest wait in the queue, from being due to the start;
	// beyond it the job fails.
	WaitTimeout time.Duration
	// Deadline over all attempts, from the release or RunAt, whichever is later.
	Deadline time.Duration
	// Retry says how often and when a failed job runs again.
	Retry *Retry
	// Tags are for people and filters. Merging adds them up.
	Tags []string
	// Headers reach the handler's context. Merging is per key.
	Headers map[string]string
}

// Retry is a retry policy. Zero fields inherit: from the kind's policy, then the
// default of 10 attempts, attempt^4 + 15 s apart, give or take 20 %.
type Retry struct {
	// Attempts in all, 1 to 1,000.
	Attempts int
	// Backoff is the form of the delays.
	Backoff Backoff
	// Initial is the first delay (exponential) or the delay (fixed).
	Initial time.Duration
	// Factor between delays (exponential), at least 1. Default 2.
	Factor float64
	// Max bounds every delay. Default one day.
	Max time.Duration
	// Delays is an explicit list; its last element repeats. It needs no Backoff.
	Delays []time.Duration
	// Jitter is the fraction by which delays vary at random, up to 1. Default
	// 0.2; below zero: none.
	Jitter float64
}

// Backoff is the form of the delays between attempts.
type Backoff int

// The backoffs. The zero value inherits.
const (
	// Exponential delays begin with Retry.Initial (default 1 s), each Retry.Factor
	// times the one before.
	Exponential Backoff = iota + 1
	// Fixed delays are Retry.Initial.
	Fixed
	// Polynomial delays are attempt^4 + 15 s: the default.
	Polynomial
	// List takes the delays from Retry.Delays.
	List
)

// merge gives the options of o with those set in p put over them.
func (o JobOptions) merge(p JobOptions) JobOptions {
	if p.Name != "" {
		o.Name = p.Name
	}
	if p.Queue != "" {
		o.Queue = p.Queue
	}
	if p.Priority != 0 {
		o.Priority = p.Priority
	}
	if p.Key != "" {
		o.Key = p.Key
	}
	if !p.RunAt.IsZero() {
		o.RunAt = p.RunAt
	}
	for _, d := range []struct {
		to   *time.Duration
		from time.Duration
	}{
		{&o.Delay, p.Delay}, {&o.Timeout, p.Timeout}, {&o.HeartbeatTimeout, p.HeartbeatTimeout},
		{&o.WaitTimeout, p.WaitTimeout}, {&o.Deadline, p.Deadline},
	} {
		if d.from != 0 {
			*d.to = d.from
		}
	}
	if p.Retry != nil {
		var r Retry
		if o.Retry != nil {
			r = *o.Retry
		}
		r = r.merge(*p.Retry)
		o.Retry = &r
	}
	if len(p.Tags) > 0 {
		o.Tags = slices.Concat(o.Tags, p.Tags)
	}
	if len(p.Headers) > 0 {
		h := make(map[string]string, len(o.Headers)+len(p.Headers))
		maps.Copy(h, o.Headers)
		maps.Copy(h, p.Headers)
		o.Headers = h
	}
	return o
}

func (r Retry) merge(p Retry) Retry {
	if p.Attempts != 0 {
		r.Attempts = p.Attempts
	}
	if p.Backoff != 0 {
		r.Backoff = p.Backoff
		if p.Backoff != List {
			r.Delays = nil
		}
	}
	if p.Initial != 0 {
		r.Initial = p.Initial
	}
	if p.Factor != 0 {
		r.Factor = p.Factor
	}
	if p.Max != 0 {
		r.Max = p.Max
	}
	if len(p.Delays) > 0 {
		r.Delays = p.Delays
		r.Backoff = List
	}
	if p.Jitter != 0 {
		r.Jitter = p.Jitter
	}
	return r
}

// check gives every fault of the options at once.
func (o *JobOptions) check() error {
	var errs []error
	if err := checkName("name", o.Name); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, checkText("queue", o.Queue), checkText("key", o.Key), checkHeaders(o.Headers))
	for _, tag := range o.Tags {
		errs = append(errs, checkText("tag", tag))
	}
	if err := checkPriority(o.Priority); err != nil {
		errs = append(errs, err)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"delay", o.Delay}, {"timeout", o.Timeout}, {"heartbeat timeout", o.HeartbeatTimeout},
		{"wait timeout", o.WaitTimeout}, {"deadline", o.Deadline},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s %v: must not be negative", d.name, d.value))
		}
	}
	if o.Retry != nil {
		if o.Retry.Backoff < 0 || o.Retry.Backoff > List {
			errs = append(errs, fmt.Errorf("retry: unknown backoff %d", o.Retry.Backoff))
		} else if err := policy.Validate(o.Retry.proto()); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func checkPriority(p int) error {
	if p < 0 || p > 4 {
		return fmt.Errorf("priority %d: must be 1 to 4", p)
	}
	return nil
}

// proto gives the rare options as they are sent; nil if there are none.
func (o *JobOptions) proto() *heddlev1.JobOptions {
	if o.Retry == nil && o.Timeout == 0 && o.HeartbeatTimeout == 0 && o.WaitTimeout == 0 && o.Deadline == 0 &&
		o.Delay == 0 && len(o.Headers) == 0 && len(o.Tags) == 0 {
		return nil
	}
	return &heddlev1.JobOptions{
		Retry:            o.Retry.proto(),
		Timeout:          duration(o.Timeout),
		HeartbeatTimeout: duration(o.HeartbeatTimeout),
		WaitTimeout:      duration(o.WaitTimeout),
		Deadline:         duration(o.Deadline),
		Delay:            duration(o.Delay),
		Headers:          o.Headers,
		Tags:             o.Tags,
	}
}

func (r *Retry) proto() *heddlev1.RetryPolicy {
	if r == nil {
		return nil
	}
	p := &heddlev1.RetryPolicy{
		Attempts: int32(min(max(r.Attempts, -1), policy.MaxAttempts+1)),
		Initial:  duration(r.Initial),
		Factor:   r.Factor,
		Max:      duration(r.Max),
	}
	switch r.Backoff {
	case Exponential:
		p.Backoff = heddlev1.Backoff_BACKOFF_EXPONENTIAL
	case Fixed:
		p.Backoff = heddlev1.Backoff_BACKOFF_FIXED
	case Polynomial:
		p.Backoff = heddlev1.Backoff_BACKOFF_POLYNOMIAL
	case List:
		p.Backoff = heddlev1.Backoff_BACKOFF_LIST
	}
	if len(r.Delays) > 0 {
		p.Backoff = heddlev1.Backoff_BACKOFF_LIST
		for _, d := range r.Delays {
			p.Delays = append(p.Delays, durationpb.New(d))
		}
	}
	if r.Jitter != 0 {
		j := max(r.Jitter, 0)
		p.Jitter = &j
	}
	return p
}

func duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// BatchOptions are the settings of a batch. Zero fields inherit.
type BatchOptions struct {
	// Tolerance is how many direct members may fail, or be cancelled, without
	// spoiling the batch. Default: none.
	Tolerance Tolerance
	// Open batches do not end until they are sealed (Run.Seal) or cancelled.
	Open bool
	// Priority of the members that have none, 1 to 4.
	Priority int
}

// WorkflowOptions are the settings of a workflow.
type WorkflowOptions struct {
	// Tolerance is how many direct members may fail, or be cancelled, without
	// spoiling the workflow. Default: none.
	Tolerance Tolerance
	// Open workflows do not end until they are sealed (Run.Seal) or cancelled.
	Open bool
	// Priority of the jobs that have none, also by their batches, 1 to 4.
	// Default 2.
	Priority int
	// Headers of all jobs; a job's own go before them.
	Headers map[string]string
	// ID is the id of the workflow, a UUIDv7 in text, made within a day of the
	// Submit by the database's clock. Default: a new one at each Submit. With an
	// id of the caller's a repeated Submit changes nothing, and the same id with
	// another graph is ErrAlreadyExists.
	ID string
}

// Tolerance is a number or a share of members; see [Percent] and [Count]. The
// zero value tolerates none.
type Tolerance struct {
	percent float64
	count   int
}

// Percent tolerates p percent, 0 to 100, of the direct members of a batch,
// skipped ones counted among the members.
func Percent(p float64) Tolerance { return Tolerance{percent: p} }

// Count tolerates n members.
func Count(n int) Tolerance { return Tolerance{count: n} }

func (t Tolerance) check() error {
	if t.count < 0 || t.count > 1<<31-1 {
		return fmt.Errorf("tolerance of %d members: out of range", t.count)
	}
	if !(t.percent >= 0 && t.percent <= 100) {
		return fmt.Errorf("tolerance of %v percent: must be 0 to 100", t.percent)
	}
	return nil
}

func (o BatchOptions) check() error {
	return errors.Join(o.Tolerance.check(), checkPriority(o.Priority))
}

func (o BatchOptions) proto() *heddlev1.BatchSpec {
	return &heddlev1.BatchSpec{
		ToleranceCount:   int32(o.Tolerance.count),
		TolerancePercent: o.Tolerance.percent,
		Open:             o.Open,
		Priority:         int32(o.Priority),
	}
}
