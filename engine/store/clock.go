package store

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/internal/gen/db"
)

// When the database's clock is set back, what is submitted before anybody has
// noticed is dated by the old clock: those jobs start when the new one gets
// there, or by hand. Loads of windows bring the clock along, and so do
// submissions when the last reading is older than clockStale: under load that
// is how long it goes unnoticed. Never does it for longer than clockAge.
const (
	clockStale = 500 * time.Millisecond
	clockAge   = 2 * time.Second
)

// clockDrift is how long the fastest reading is kept, while others agree.
const clockDrift = 10 * time.Second

// clockJump is the step back from which a database's clock counts as set back;
// what is below is the time a reading took.
const clockJump = time.Second

// clock extrapolates the database's clock by the local monotonic one. It lags
// behind the true one by up to a round trip and never runs ahead of it by more
// than two oscillators drift apart in clockDrift.
type clock struct {
	mu      sync.Mutex
	base    time.Time // the database's clock ...
	at      time.Time // ... at this instant or a little before
	checked time.Time // when a reading last agreed
}

// set takes a reading. One that came back slower than the one before it would
// put the clock back by the difference; only a database whose clock was really
// set back does that.
func (c *clock) set(base, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = at
	slower := c.base.Add(at.Sub(c.at)).Sub(base) // by which the known one is ahead
	if slower > 0 && slower < clockJump && at.Sub(c.at) < clockDrift {
		return
	}
	c.base, c.at = base, at
}

// read answers false when the last reading is too old.
func (c *clock) read() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := time.Since(c.at)
	return c.base.Add(age).Round(0), !c.at.IsZero() && age < clockDrift && time.Since(c.checked) < clockAge
}

// take queues a reading if it is time for one: it costs no round trip here.
func (c *clock) take(b *pgx.Batch) {
	c.mu.Lock()
	stale := time.Since(c.checked) >= clockStale
	c.mu.Unlock()
	if !stale {
		return
	}
	b.Queue(db.DatabaseNowSQL).Query(func(rows pgx.Rows) error {
		now, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[time.Time])
		if err == nil {
			c.set(now, time.Now())
		}
		return err
	})
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
