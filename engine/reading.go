package engine

import (
	"context"
	"sync"
	"time"
)

// readShare is the part of the time that one reading may take: after a slow
// one the next waits that much longer, up to readPause.
const (
	readShare = 20
	readPause = 10 * time.Second
)

// reading is a value that is read for everyone who wants it: one read at a time
// and no two within its pace, however many ask, and none while nobody does.
type reading[T any] struct {
	pace time.Duration
	read func(context.Context) (T, error)
	// work runs a read; it lives on when those who wait for it go.
	work func(func(context.Context))

	mu    sync.Mutex
	value T
	err   error
	began time.Time     // of the read that gave value
	next  time.Time     // when the next may begin
	under chan struct{} // closed at the end of the read under way; nil: none is
	reads int
}

// get gives a value whose read began at since or later, and when that was. It
// waits for a read under way, for the pace, and for ctx.
func (r *reading[T]) get(ctx context.Context, since time.Time) (T, time.Time, error) {
	for {
		r.mu.Lock()
		if !r.began.IsZero() && !r.began.Before(since) {
			defer r.mu.Unlock()
			return r.value, r.began, r.err
		}
		under, pause := r.under, time.Until(r.next)
		if under == nil && pause <= 0 {
			r.start()
			under = r.under
		}
		r.mu.Unlock()
		if under != nil {
			select {
			case <-under:
			case <-ctx.Done():
				var none T
				return none, time.Time{}, ctx.Err()
			}
			continue
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			var none T
			return none, time.Time{}, ctx.Err()
		}
	}
}

// start begins a read. The lock is held.
func (r *reading[T]) start() {
	done := make(chan struct{})
	r.under = done
	began := time.Now()
	r.work(func(ctx context.Context) {
		value, err := r.read(ctx)
		took := time.Since(began)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.value, r.err, r.began = value, err, began
		r.next = began.Add(max(r.pace, min(readShare*took, readPause)))
		r.under = nil
		r.reads++
		close(done)
	})
}

// recent gives a value that is at most the pace old.
func (r *reading[T]) recent(ctx context.Context) (T, error) {
	r.mu.Lock()
	since := time.Now().Add(-r.pace)
	if time.Now().Before(r.next) && !r.began.IsZero() {
		since = r.began // it would have to be waited for
	}
	r.mu.Unlock()
	v, _, err := r.get(ctx, since)
	return v, err
}
