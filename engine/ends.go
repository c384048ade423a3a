package engine

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/policy"
	"github.com/heddle-io/heddle/raftsched"
	"google.golang.org/protobuf/proto"
)

// How an attempt that did not finish its job is recorded in `attempts`.
const (
	howFailed   int16 = 1
	howLost     int16 = 2
	howSnoozed  int16 = 3
	howReleased int16 = 4
	howTimeout  int16 = 5
)

// attemptEnd is how one attempt ended, as its worker or the scheduler tells it,
// before the job's policy has been applied.
type attemptEnd struct {
	ending heddlev1.Ending
	how    int16 // of a counted failure
	result []byte
	err    string
	after  *time.Duration // overrides the policy's delay
	ran    time.Duration
	ago    time.Duration
	then   *model.Chunk
}

// lostEnd is the end that the scheduler found for a leased job.
func lostEnd(e raftsched.End) attemptEnd {
	if e.Reason == raftsched.EndTimeout {
		return attemptEnd{ending: heddlev1.Ending_ENDING_TIMEOUT, how: howTimeout, err: "the attempt was silent past its timeout"}
	}
	text := "the worker was lost"
	if e.Worker != "" {
		text = fmt.Sprintf("the worker %q was lost", e.Worker)
	}
	// The job is not to blame: it starts elsewhere at once.
	return attemptEnd{ending: heddlev1.Ending_ENDING_FAILED, how: howLost, err: text, after: new(time.Duration)}
}

// decide applies the job's policy to the end of an attempt. The order of
// precedence is success, cancel, deadline, not retryable, retry (T5). now is
// the database's clock in microseconds; rnd in [0, 1) places the jitter.
func decide(f *model.Finish, e attemptEnd, j heldJob, now int64, rnd float64) {
	f.Batch, f.Flags = j.batch, j.flags
	f.Error, f.Ran, f.Ago = e.err, e.ran, e.ago

	switch e.ending {
	case heddlev1.Ending_ENDING_SUCCEEDED:
		f.Ending, f.Result, f.Then = model.EndSucceeded, e.result, e.then
		return
	case heddlev1.Ending_ENDING_CANCELLED:
		f.Ending = model.EndCancelled
		return
	}
	if j.told {
		f.Ending = model.EndCancelled
		return
	}
	switch e.ending {
	case heddlev1.Ending_ENDING_RELEASED:
		f.Ending, f.How, f.Wait = model.EndReleased, howReleased, waitTimeout(j)
		return
	case heddlev1.Ending_ENDING_SNOOZED:
		f.Ending, f.How, f.Wait = model.EndSnooze, howSnoozed, waitTimeout(j)
		if e.after != nil {
			f.Delay = max(*e.after, 0)
		}
	case heddlev1.Ending_ENDING_FAILED_NO_RETRY:
		f.Ending, f.How = model.EndFailed, howFailed
		return
	default:
		f.How = e.how
		if f.How == 0 {
			f.How = howFailed
			if e.ending == heddlev1.Ending_ENDING_TIMEOUT {
				f.How = howTimeout
			}
		}
		attempt := int(j.attempt) + 1
		if attempt >= int(j.maxAttempts) {
			f.Ending = model.EndFailed
			return
		}
		f.Ending, f.Wait = model.EndRetry, waitTimeout(j)
		if e.after != nil {
			f.Delay = max(*e.after, 0)
		} else {
			f.Delay = retryDelay(j, attempt, rnd)
		}
	}
	// The next start would lie behind the deadline: failed at once (T3).
	if j.deadlineAt != 0 && now+f.Delay.Microseconds() >= j.deadlineAt {
		f.Ending, f.Delay, f.Wait = model.EndFailed, 0, 0
		if f.Error == "" {
			f.Error = "deadline exceeded"
		} else {
			f.Error = "deadline exceeded; the last attempt: " + f.Error
		}
	}
}

// retryDelay is the policy's delay after the attempt. Attempt numbers grow over
// all lives of a job, delays start anew with each (T2).
func retryDelay(j heldJob, attempt int, rnd float64) time.Duration {
	retry := optionsOf(j).GetRetry()
	earlier := max(int(j.maxAttempts)-policy.Attempts(retry), 0)
	return policy.Delay(retry, attempt-earlier, rnd)
}

// waitTimeout is how long the job may wait in its queue, each time anew.
func waitTimeout(j heldJob) time.Duration { return optionsOf(j).GetWaitTimeout().AsDuration() }

// optionsOf decodes a job's options; nil when it has none.
func optionsOf(j heldJob) *heddlev1.JobOptions {
	if len(j.opts) == 0 {
		return nil
	}
	var opts heddlev1.JobOptions
	if proto.Unmarshal(j.opts, &opts) != nil {
		return nil
	}
	return &opts
}

// jittered spreads a pause by a fifth to both sides.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
