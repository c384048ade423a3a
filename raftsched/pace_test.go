package raftsched

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const interval = 2 * time.Millisecond
	count := func(grants int, length time.Duration) int {
		var p pace
		start := time.Unix(0, 0)
		entries := 0
		for now := start; now.Sub(start) < length; entries++ {
			next := p.next(now, interval, grants)
			if next.Before(now) {
				t.Fatalf("the next entry lies %v back", now.Sub(next))
			}
			now = later(next, now.Add(100*time.Microsecond)) // what an entry takes
		}
		return entries
	}
	if n := count(1000, time.Second); n != 500 {
		t.Errorf("%d large entries in a second, want 500", n)
	}
	if n := count(1, 50*time.Millisecond); n != 500 {
		t.Errorf("%d small entries in 50 ms, want one each 100 µs", n)
	}
	// In the long run small ones keep the pace as well.
	if n, most := count(1, 10*time.Second), 10*500+paceSaved+1; n > most {
		t.Errorf("%d small entries in 10 s, want at most %d", n, most)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
