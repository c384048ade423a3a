package store

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClockTakesTheFasterReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		truth := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		start := time.Now()
		now := func() time.Time { return truth.Add(time.Since(start)) }
		var c clock
		c.set(now(), time.Now())
		// The answer of a slow reading tells the time at which it was sent off.
		c.set(now().Add(-80*time.Millisecond), time.Now())
		if got, ok := c.read(); !ok || !got.Equal(now()) {
			t.Errorf("after a slow reading the clock is at %v, %v; the database at %v", got, ok, now())
		}
		// A clock that was set back is followed.
		truth = truth.Add(-time.Hour)
		c.set(now(), time.Now())
		if got, _ := c.read(); !got.Equal(now()) {
			t.Errorf("the clock is at %v, the database was set back to %v", got, now())
		}
		// And so is a slow reading that is all there is after a while.
		time.Sleep(clockAge)
		c.set(now().Add(-80*time.Millisecond), time.Now())
		if got, ok := c.read(); !ok || !got.Equal(now().Add(-80*time.Millisecond)) {
			t.Errorf("after a pause: %v, %v", got, ok)
		}
	})
}
