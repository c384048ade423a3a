package engine

import (
	"sync/atomic"
	"time"
)

// dbClock tells the database's time by this process's monotonic clock and the
// distance between the two, seen at the reads of the scheduler. Until the first
// of them it tells this machine's time. Safe for concurrent use.
type dbClock struct {
	base   time.Time // has a monotonic reading: steps of the wall clock do not matter
	offset atomic.Int64
}

func newDBClock() *dbClock {
	c := &dbClock{base: time.Now()}
	c.offset.Store(c.base.UnixMicro())
	return c
}

// observe takes a reading of the database's clock that has just arrived. It may
// be late by its way here, so that the clock is never ahead.
func (c *dbClock) observe(micros int64) {
	if micros > 0 {
		c.offset.Store(micros - time.Since(c.base).Microseconds())
	}
}

// now is the database's time in microseconds since the Unix epoch.
func (c *dbClock) now() int64 { return c.offset.Load() + time.Since(c.base).Microseconds() }
