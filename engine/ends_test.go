package engine

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched"
)

const (
	succeeded = heddlev1.Ending_ENDING_SUCCEEDED
	failed    = heddlev1.Ending_ENDING_FAILED
	noRetry   = heddlev1.Ending_ENDING_FAILED_NO_RETRY
	snoozed   = heddlev1.Ending_ENDING_SNOOZED
	cancelled = heddlev1.Ending_ENDING_CANCELLED
	released  = heddlev1.Ending_ENDING_RELEASED
	timeout   = heddlev1.Ending_ENDING_TIMEOUT
)

func fixedPolicy(t *testing.T, attempts int32, d time.Duration) []byte {
	t.Helper()
	none := 0.0
	b, err := proto.Marshal(&heddlev1.JobOptions{Retry: &heddlev1.RetryPolicy{
		Attempts: attempts, Backoff: heddlev1.Backoff_BACKOFF_FIXED, Initial: durationpb.New(d), Jitter: &none,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The precedence of ends is success, cancel, deadline, not retryable, retry.
func TestDecide(t *testing.T) {
	const now = int64(1_000_000_000)
	minute, hour := time.Minute, time.Hour
	soon, late := now+int64(30*time.Second/time.Microsecond), now+int64(time.Hour/time.Microsecond)
	job := func(change func(*heldJob)) heldJob {
		j := heldJob{attempt: 0, maxAttempts: 3, opts: fixedPolicy(t, 3, minute), batch: 4, flags: 2}
		if change != nil {
			change(&j)
		}
		return j
	}
	for _, c := range []struct {
		name  string
		end   attemptEnd
		job   heldJob
		want  model.Ending
		how   int16
		delay time.Duration
		text  string
	}{
		{name: "success", end: attemptEnd{ending: succeeded}, job: job(nil), want: model.EndSucceeded},
		{name: "success after a cancel request", end: attemptEnd{ending: succeeded}, job: job(func(j *heldJob) { j.told = true }), want: model.EndSucceeded},
		{name: "success after the deadline", end: attemptEnd{ending: succeeded}, job: job(func(j *heldJob) { j.deadlineAt = 1 }), want: model.EndSucceeded},
		{name: "failure with attempts left", end: attemptEnd{ending: failed}, job: job(nil), want: model.EndRetry, how: howFailed, delay: minute},
		{name: "failure, last attempt", end: attemptEnd{ending: failed}, job: job(func(j *heldJob) { j.attempt = 2 }), want: model.EndFailed, how: howFailed},
		{name: "failure after a cancel request", end: attemptEnd{ending: failed}, job: job(func(j *heldJob) { j.told = true }), want: model.EndCancelled},
		{name: "failure says when", end: attemptEnd{ending: failed, after: &hour}, job: job(nil), want: model.EndRetry, how: howFailed, delay: hour},
		{name: "not retryable", end: attemptEnd{ending: noRetry}, job: job(nil), want: model.EndFailed, how: howFailed},
		{name: "not retryable after a cancel request", end: attemptEnd{ending: noRetry}, job: job(func(j *heldJob) { j.told = true }), want: model.EndCancelled},
		{name: "timeout", end: attemptEnd{ending: timeout}, job: job(nil), want: model.EndRetry, how: howTimeout, delay: minute},
		{name: "lost", end: lostEnd(raftsched.End{Reason: raftsched.EndLost, Worker: "w"}), job: job(nil), want: model.EndRetry, how: howLost, delay: 0, text: `"w"`},
		{name: "lost, last attempt", end: lostEnd(raftsched.End{Reason: raftsched.EndLost}), job: job(func(j *heldJob) { j.attempt = 2 }), want: model.EndFailed, how: howLost},
		{name: "silent", end: lostEnd(raftsched.End{Reason: raftsched.EndTimeout}), job: job(nil), want: model.EndRetry, how: howTimeout, delay: minute},
		{name: "snoozed", end: attemptEnd{ending: snoozed, after: &hour}, job: job(func(j *heldJob) { j.attempt = 2 }), want: model.EndSnooze, how: howSnoozed, delay: hour},
		{name: "snoozed after a cancel request", end: attemptEnd{ending: snoozed, after: &hour}, job: job(func(j *heldJob) { j.told = true }), want: model.EndCancelled},
		{name: "snoozed past the deadline", end: attemptEnd{ending: snoozed, after: &hour}, job: job(func(j *heldJob) { j.deadlineAt = late }), want: model.EndFailed, how: howSnoozed, text: "deadline"},
		{name: "given back", end: attemptEnd{ending: released}, job: job(func(j *heldJob) { j.attempt = 2 }), want: model.EndReleased, how: howReleased},
		{name: "given back after a cancel request", end: attemptEnd{ending: released}, job: job(func(j *heldJob) { j.told = true }), want: model.EndCancelled},
		{name: "cancelled itself", end: attemptEnd{ending: cancelled}, job: job(nil), want: model.EndCancelled},
		{name: "next start behind the deadline", end: attemptEnd{ending: failed, err: "boom"}, job: job(func(j *heldJob) { j.deadlineAt = soon }), want: model.EndFailed, how: howFailed, text: "boom"},
		{name: "next start before the deadline", end: attemptEnd{ending: failed}, job: job(func(j *heldJob) { j.deadlineAt = late }), want: model.EndRetry, how: howFailed, delay: minute},
		{name: "deadline before not retryable", end: attemptEnd{ending: noRetry, err: "boom"}, job: job(func(j *heldJob) { j.deadlineAt = 1 }), want: model.EndFailed, how: howFailed, text: "boom"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f model.Finish
			decide(&f, c.end, c.job, now, 0.5)
			if f.Ending != c.want || f.How != c.how || f.Delay != c.delay {
				t.Errorf("ending %d, how %d, delay %s; want %d, %d, %s", f.Ending, f.How, f.Delay, c.want, c.how, c.delay)
			}
			if !strings.Contains(f.Error, c.text) {
				t.Errorf("error %q does not say %q", f.Error, c.text)
			}
			if f.Batch != 4 || f.Flags != 2 {
				t.Errorf("batch %d and flags %d are not the row's", f.Batch, f.Flags)
			}
		})
	}
}

// The wait in the queue begins anew whenever the job waits again (T5), and only
// then.
func TestWaitBeginsAnew(t *testing.T) {
	opts, err := proto.Marshal(&heddlev1.JobOptions{WaitTimeout: durationpb.New(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for ending, want := range map[heddlev1.Ending]time.Duration{
		failed: time.Hour, snoozed: time.Hour, released: time.Hour, timeout: time.Hour, noRetry: 0, succeeded: 0, cancelled: 0,
	} {
		var f model.Finish
		if decide(&f, attemptEnd{ending: ending}, heldJob{maxAttempts: 3, opts: opts}, 0, 0); f.Wait != want {
			t.Errorf("%s: waits %s, want %s", ending, f.Wait, want)
		}
	}
}

// Attempt numbers grow over all lives, delays begin anew in each (T2).
func TestDelaysBeginAnewInEachLife(t *testing.T) {
	none := 0.0
	opts, err := proto.Marshal(&heddlev1.JobOptions{Retry: &heddlev1.RetryPolicy{
		Attempts: 4, Backoff: heddlev1.Backoff_BACKOFF_EXPONENTIAL, Initial: durationpb.New(time.Second), Factor: 10, Jitter: &none,
	}})
	if err != nil {
		t.Fatal(err)
	}
	first := retryDelay(heldJob{maxAttempts: 4, opts: opts}, 1, 0)
	second := retryDelay(heldJob{maxAttempts: 4 + 4, opts: opts}, 5, 0)
	if first != time.Second || second != first {
		t.Errorf("first delays of two lives: %s and %s, want 1s each", first, second)
	}
	if d := retryDelay(heldJob{maxAttempts: 8, opts: opts}, 6, 0); d != 10*time.Second {
		t.Errorf("second delay of the second life: %s, want 10s", d)
	}
}
