package raftsched

import "sync"

// inbox holds what the loop is to do next. Putting never blocks, so nobody who
// talks to the loop can hold it up, nor it them.
type inbox struct {
	mu     sync.Mutex
	items  []func()
	closed bool
	wake   chan struct{} // holds one token while items wait
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// put tells whether the loop will still see f.
func (b *inbox) put(f func()) bool {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	b.items = append(b.items, f)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

// take empties the box into the slice it gets back for reuse.
func (b *inbox) take(into []func()) []func() {
	clear(into)
	b.mu.Lock()
	out := b.items
	b.items = into[:0]
	b.mu.Unlock()
	return out
}

// close refuses everything from now on and drops what waits.
func (b *inbox) close() {
	b.mu.Lock()
	b.closed, b.items = true, nil
	b.mu.Unlock()
}
