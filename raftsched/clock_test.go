package raftsched

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestClockIsNeverEarly: whatever reads bring, and in whatever part of them the
// database looked at its clock, the estimate is at most the truth, and late by
// the last read's duration at most. After the database's clock was set it may
// be early by that much.
func TestClockIsNeverEarly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := clock{base: time.Now()}
		if c.now() > 0 {
			t.Fatal("something is due before the first read")
		}
		now, ahead := c.base, rapid.Int64Range(-1e12, 1e12).Draw(t, "ahead")
		early := int64(0)
		truth := func(at time.Time) int64 { return at.Sub(c.base).Microseconds() + ahead }
		for range rapid.IntRange(1, 20).Draw(t, "reads") {
			now = now.Add(time.Duration(rapid.Int64Range(0, 1e10).Draw(t, "pause")))
			took := time.Duration(rapid.Int64Range(0, 1e9).Draw(t, "took"))
			looked := time.Duration(rapid.Int64Range(0, int64(took)).Draw(t, "looked"))
			if rapid.IntRange(0, 9).Draw(t, "step") == 0 {
				ahead += rapid.Int64Range(-1e7, 1e7).Draw(t, "by") // someone sets the clock
				early = 1
			}
			c.sample(now, now.Add(took), truth(now.Add(looked)))
			now = now.Add(took)
			estimate := now.Sub(c.base).Microseconds() + c.offset
			if late := truth(now) - estimate; late < -2-early*took.Microseconds() || late > took.Microseconds()+2 {
				t.Fatalf("late by %d us after a read of %v", late, took)
			}
		}
	})
}
