package raftsched

import (
	"math"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
)

// clock tells the database's time from this node's monotonic one. Every read
// brings the database's clock at its start, so the truth at its end lies between
// that and that plus the read's duration. The estimate is kept inside: it is
// late by a round trip at most, and never early but for the drift since the
// last read, or for a read's duration after the database's clock was set back.
type clock struct {
	base    time.Time
	offset  int64 // microseconds: database clock - time since base
	known   bool
	learned time.Time
}

// unknown stands before all times: nothing is due.
const unknown = math.MinInt64 / 4

// learn from the answers of one read that was asked at asked.
func (c *clock) learn(asked time.Time, loaded []dispatch.Loaded) {
	for i := range loaded {
		if loaded[i].Now != 0 {
			c.sample(asked, time.Now(), loaded[i].Now)
			return
		}
	}
}

func (c *clock) sample(asked, received time.Time, now int64) {
	low := now - received.Sub(c.base).Microseconds()
	high := now - asked.Sub(c.base).Microseconds()
	if c.known {
		c.offset = min(max(c.offset, low), high)
	} else {
		c.offset = low
	}
	c.known, c.learned = true, received
}

// now in microseconds of the database's clock; unknown before the first read.
func (c *clock) now() int64 {
	if !c.known {
		return unknown
	}
	return time.Since(c.base).Microseconds() + c.offset
}
