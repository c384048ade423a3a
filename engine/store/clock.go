package store

import (
	"context"
	"sync"
	"time"
)

// clockAge is how long a reading of the database's clock is extrapolated.
const clockAge = 10 * time.Second

// clockJump is the step back from which a database's clock counts as set back;
// what is below is the time a reading took.
const clockJump = time.Second

// clock extrapolates the database's clock by the local monotonic one. It lags
// behind the true one by up to a round trip and never runs ahead of it by more
// than two oscillators drift apart in clockAge.
type clock struct {
	mu   sync.Mutex
	base time.Time // the database's clock ...
	at   time.Time // ... at this instant or a little before
}

// set takes a reading. One that came back slower than the one before it would
// put the clock back by the difference; only a database whose clock was really
// set back does that.
func (c *clock) set(base, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slower := c.base.Add(at.Sub(c.at)).Sub(base) // by which the known one is ahead
	if slower > 0 && slower < clockJump && at.Sub(c.at) < clockAge {
		return
	}
	c.base, c.at = base, at
}

// read answers false when the last reading is too old.
func (c *clock) read() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := time.Since(c.at)
	return c.base.Add(age).Round(0), !c.at.IsZero() && age < clockAge
}

// readClock asks the database for its time.
func (s *Store) readClock(ctx context.Context) error {
	now, err := s.fdb.DatabaseNow(ctx)
	if err != nil {
		return err
	}
	s.clock.set(now.Time, time.Now())
	return nil
}

// now is the database's time, in UTC and whole microseconds.
func (s *Store) now(ctx context.Context) (time.Time, error) {
	now, fresh := s.clock.read()
	if !fresh {
		if err := s.readClock(ctx); err != nil {
			return time.Time{}, err
		}
		now, _ = s.clock.read()
	}
	return now.UTC().Truncate(time.Microsecond), nil
}
