package policy

import (
	"math"
	"strings"
	"testing"
	"time"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"
)

func dur(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

func TestDelay(t *testing.T) {
	none := 0.0
	exponential := &heddlev1.RetryPolicy{Backoff: heddlev1.Backoff_BACKOFF_EXPONENTIAL, Initial: dur(2 * time.Second), Factor: 3, Max: dur(time.Minute), Jitter: &none}
	list := &heddlev1.RetryPolicy{Backoff: heddlev1.Backoff_BACKOFF_LIST, Delays: []*durationpb.Duration{dur(time.Second), dur(time.Hour)}, Jitter: &none}
	fixed := &heddlev1.RetryPolicy{Backoff: heddlev1.Backoff_BACKOFF_FIXED, Initial: dur(7 * time.Second), Jitter: &none}
	for _, c := range []struct {
		name    string
		p       *heddlev1.RetryPolicy
		attempt int
		rnd     float64
		want    time.Duration
	}{
		{"default, middle of the jitter", nil, 1, 0.5, 16 * time.Second},
		{"default, third", nil, 3, 0.5, 96 * time.Second},
		{"default, lower end", nil, 1, 0, 12800 * time.Millisecond},
		{"default, bounded by a day", nil, 100, 0.5, 24 * time.Hour},
		{"default, bound holds with jitter", nil, 1000, 0.999, 24 * time.Hour},
		{"attempt zero counts as one", nil, 0, 0.5, 16 * time.Second},
		{"polynomial is the default", &heddlev1.RetryPolicy{Backoff: heddlev1.Backoff_BACKOFF_POLYNOMIAL, Jitter: &none}, 2, 0.9, 31 * time.Second},
		{"exponential first", exponential, 1, 0.1, 2 * time.Second},
		{"exponential third", exponential, 3, 0.1, 18 * time.Second},
		{"exponential bounded", exponential, 900, 0.1, time.Minute},
		{"exponential defaults", &heddlev1.RetryPolicy{Backoff: heddlev1.Backoff_BACKOFF_EXPONENTIAL, Jitter: &none}, 4, 0, 8 * time.Second},
		{"fixed", fixed, 55, 0, 7 * time.Second},
		{"list first", list, 1, 0, time.Second},
		{"list: the last one repeats", list, 9, 0, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Delay(c.p, c.attempt, c.rnd)
			if diff := (got - c.want).Abs(); diff > time.Millisecond {
				t.Errorf("delay after attempt %d: %s, want %s", c.attempt, got, c.want)
			}
		})
	}
}

func TestAttempts(t *testing.T) {
	if n := Attempts(nil); n != 10 {
		t.Errorf("no policy: %d attempts, want 10", n)
	}
	if n := Attempts(&heddlev1.RetryPolicy{}); n != 10 {
		t.Errorf("empty policy: %d attempts, want 10", n)
	}
	if n := Attempts(&heddlev1.RetryPolicy{Attempts: 3}); n != 3 {
		t.Errorf("policy of 3: %d attempts", n)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	jitter := 1.5
	err := Validate(&heddlev1.RetryPolicy{
		Attempts: 1001, Backoff: 9, Initial: dur(-time.Second), Factor: 0.5,
		Max: dur(-1), Jitter: &jitter,
	})
	if err == nil {
		t.Fatal("a policy with six faults is accepted")
	}
	for _, want := range []string{"retry.attempts: 1001", "retry.backoff: 9", "retry.initial: -1s", "retry.factor: 0.5", "retry.max: -1ns", "retry.jitter: 1.5"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	nan := math.NaN()
	for field, p := range map[string]*heddlev1.RetryPolicy{
		"retry.jitter":     {Jitter: &nan},
		"retry.factor":     {Factor: math.Inf(1)},
		"retry.delays":     {Backoff: heddlev1.Backoff_BACKOFF_LIST},
		"retry.delays[0]":  {Backoff: heddlev1.Backoff_BACKOFF_LIST, Delays: []*durationpb.Duration{dur(-5)}},
		"retry.delays: gi": {Delays: []*durationpb.Duration{dur(5)}},
		"retry.initial":    {Initial: &durationpb.Duration{Seconds: 1, Nanos: -1}},
	} {
		if err := Validate(p); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
	if err := Validate(nil); err != nil {
		t.Errorf("no policy: %v", err)
	}
}

// Whatever a valid policy says, its delays are within its bound and its jitter.
func TestDelayIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &heddlev1.RetryPolicy{
			Attempts: rapid.Int32Range(0, 1000).Draw(t, "attempts"),
			Backoff:  heddlev1.Backoff(rapid.Int32Range(0, 4).Draw(t, "backoff")),
			Initial:  dur(time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "initial"))),
			Factor:   rapid.Float64Range(1, 1000).Draw(t, "factor"),
			Max:      dur(time.Duration(rapid.Int64Range(0, int64(72*time.Hour)).Draw(t, "max"))),
		}
		if p.Backoff == heddlev1.Backoff_BACKOFF_LIST {
			for _, d := range rapid.SliceOfN(rapid.Int64Range(0, int64(48*time.Hour)), 1, 5).Draw(t, "delays") {
				p.Delays = append(p.Delays, dur(time.Duration(d)))
			}
		}
		if rapid.Bool().Draw(t, "jittered") {
			j := rapid.Float64Range(0, 1).Draw(t, "jitter")
			p.Jitter = &j
		}
		if err := Validate(p); err != nil {
			t.Fatalf("valid policy refused: %v", err)
		}
		limit := p.Max.AsDuration()
		if limit == 0 {
			limit = DefaultMax
		}
		attempt := rapid.IntRange(0, 5000).Draw(t, "attempt")
		low, middle, high := Delay(p, attempt, 0), Delay(p, attempt, 0.5), Delay(p, attempt, 0.999999)
		if low < 0 || high > limit || low > middle || middle > high {
			t.Fatalf("delays %s, %s, %s are not in order within 0 to %s", low, middle, high, limit)
		}
	})
}
