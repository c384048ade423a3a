package heddle

import (
	"sync"
	"sync/atomic"
	"time"
)

// outage is a time without an engine. It is logged when it begins and when it
// ends, however many calls fail in between.
type outage struct {
	w    *Worker
	lies atomic.Bool // one is under way

	mu    sync.Mutex
	since time.Time
	told  map[string]bool // what has been logged of this one
}

// toldMost bounds the lines about one outage: errors may name a port that is
// different each time.
const toldMost = 5

// failed takes note of a call to an engine that failed.
func (o *outage) failed(e *endpoint, err error) {
	o.mu.Lock()
	if !o.lies.Load() {
		o.since, o.told = time.Now(), make(map[string]bool)
		o.lies.Store(true)
	}
	line := e.addr + ": " + err.Error()
	news := !o.told[line] && len(o.told) < toldMost
	if news {
		o.told[line] = true
	}
	o.mu.Unlock()
	if news {
		o.w.log.Warn("engine unavailable, trying again", "engine", e.addr, "error", err)
	}
}

// answered takes note of a call that an engine answered.
func (o *outage) answered(e *endpoint) {
	if !o.lies.Load() {
		return
	}
	o.mu.Lock()
	over := o.lies.Swap(false)
	lasted := time.Since(o.since)
	o.mu.Unlock()
	if over {
		o.w.log.Info("engine available again", "engine", e.addr, "after", lasted.Round(time.Millisecond))
	}
}
