package engine

import "time"

// backoff is a growing pause between tries, spread so that many who wait for
// the same thing do not come back at once. Not safe for concurrent use.
type backoff struct {
	first, limit, next time.Duration
	count              int
}

func newBackoff(first, limit time.Duration) *backoff {
	return &backoff{first: first, limit: limit, next: first}
}

// sleep waits for the next pause; false says that stop came first.
func (b *backoff) sleep(stop <-chan struct{}) bool {
	d := jittered(b.next)
	b.next = min(2*b.next, b.limit)
	b.count++
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	}
}

func (b *backoff) tries() int { return b.count }

func (b *backoff) reset() { b.next, b.count = b.first, 0 }
