package heddle

import (
	"sync"
	"sync/atomic"
	"time"
)

// outage is a time without an engine. It is logged when every engine has been
// asked in vain, and when it ends, however many calls fail in between: that a
// call finds another engine at once is no news.
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

// failed takes note of a call that failed and will be repeated after a pause.
func (o *outage) failed(e *endpoint, err error, pause time.Duration) {
	if pause <= 0 {
		return
	}
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
