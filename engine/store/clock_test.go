package store

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/raftsched/dispatch"
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
		time.Sleep(clockDrift)
		c.set(now().Add(-80*time.Millisecond), time.Now())
		if got, ok := c.read(); !ok || !got.Equal(now().Add(-80*time.Millisecond)) {
			t.Errorf("after a pause: %v, %v", got, ok)
		}
	})
}

// A reading that agrees, if more slowly, keeps the clock going; without any it
// is not trusted for long.
func TestClockWantsReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		truth := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		start := time.Now()
		var c clock
		c.set(truth, start)
		for range 4 {
			time.Sleep(clockAge - time.Millisecond)
			if _, ok := c.read(); !ok {
				t.Fatalf("no time %v after the last reading", clockAge-time.Millisecond)
			}
			c.set(truth.Add(time.Since(start)-50*time.Millisecond), time.Now())
		}
		if got, ok := c.read(); !ok || !got.Equal(truth.Add(time.Since(start))) {
			t.Errorf("%v, %v; slower readings count for nothing", got, ok)
		}
		time.Sleep(clockAge)
		if _, ok := c.read(); ok {
			t.Errorf("a reading of %v ago is trusted", clockAge)
		}
	})
}

// What goes to the database anyway finds out that its clock was set back: the
// store is made to believe that it was an hour ahead a moment ago.
func TestSubmissionsCorrectTheClock(t *testing.T) {
	s := openStore(t)
	for name, act := range map[string]func(){
		"a lone job": func() { submitOne(t, s, lone("mail")) },
		"a graph":    func() { submitOne(t, s, graphOf([]model.NewNode{job("a")})) },
		"a walk": func() {
			if _, _, err := s.Walk(t.Context(), dispatch.LanePriority{}, true, 1, 1); err != nil {
				t.Fatal(err)
			}
		},
	} {
		s.clock.mu.Lock()
		s.clock.base, s.clock.at = time.Now().Add(time.Hour), time.Now()
		s.clock.checked = time.Now().Add(-clockStale)
		s.clock.mu.Unlock()
		act()
		if late := time.Until(time.UnixMicro(submitOne(t, s, lone("mail")).Ready[0].RunAt)); late > clockJump {
			t.Errorf("%s: the next job is due in %v", name, late)
		}
	}
}
