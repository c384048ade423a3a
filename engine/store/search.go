package store

import (
	"context"
	"time"
)

// searchBack reads a list from newest to oldest until it has want rows or its
// budget is spent. bound gives the position searchStep rows behind from, or
// false when the list ends before; between the matching rows below from, from
// low on, newest first. next is where to go on, nil at the end of the list.
func searchBack[R any](ctx context.Context, from key, want int,
	bound func(ctx context.Context, from key) (low key, more bool, err error),
	between func(ctx context.Context, from, low key, limit int) ([]R, error),
	position func(*R) key,
) (found []R, next *key, err error) {
	began := time.Now()
	for read := 0; ; read += searchStep {
		low, more, err := bound(ctx, from)
		if err != nil {
			return nil, nil, err
		}
		rows, err := between(ctx, from, low, want-len(found))
		if err != nil {
			return nil, nil, err
		}
		found = append(found, rows...)
		if len(found) == want {
			last := position(&found[len(found)-1])
			return found, &last, nil
		}
		if !more {
			return found, nil, nil
		}
		from = low
		if read+searchStep >= searchRows || time.Since(began) > searchBudget {
			return found, &from, nil
		}
	}
}
