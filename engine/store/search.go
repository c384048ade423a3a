package store

import (
	"context"
	"time"
)

// search reads a list from its newest to its oldest row until it has enough
// rows or its budget is spent. K is a position in the order of the list.
type search[R, K any] struct {
	// bound gives the position searchStep rows behind from, or false when the
	// list ends before.
	bound func(ctx context.Context, from K) (low K, more bool, err error)
	// between gives the rows below from, from low on, newest first; it may leave
	// out rows that keep would.
	between  func(ctx context.Context, from, low K, limit int) ([]R, error)
	keep     func(*R) bool // nil: all
	position func(*R) K
}

// back reads from a position on. next is where to go on, nil at the end of the
// list.
func (q *search[R, K]) back(ctx context.Context, from K, want int) (found []R, next *K, err error) {
	began := time.Now()
	for read := 0; ; read += searchStep {
		low, more, err := q.bound(ctx, from)
		if err != nil {
			return nil, nil, err
		}
		for over := false; !over; {
			limit := want - len(found)
			if q.keep != nil {
				limit = max(limit, defaultPage)
			}
			rows, err := q.between(ctx, from, low, limit)
			if err != nil {
				return nil, nil, err
			}
			for i := range rows {
				from = q.position(&rows[i])
				if q.keep != nil && !q.keep(&rows[i]) {
					continue
				}
				if found = append(found, rows[i]); len(found) == want {
					return found, &from, nil
				}
			}
			over = len(rows) < limit
			if !over && time.Since(began) > searchBudget {
				return found, &from, nil
			}
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

// listed is a list read in one or several searches of the same order.
type listed[R, K any] struct {
	rows []R
	next *K // the nearest position at which a search was left
}

// add takes the result of one search. compare tells which position comes later
// in the list: it is negative when a does.
func (l *listed[R, K]) add(rows []R, next *K, compare func(a, b K) int) {
	l.rows = append(l.rows, rows...)
	if next != nil && (l.next == nil || compare(*next, *l.next) > 0) {
		l.next = next
	}
}
