package store

import (
	"context"
	"time"
)

// Now is the database's time, at most a round trip old.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if err := s.readClock(ctx); err != nil {
		return time.Time{}, err
	}
	return s.now(ctx)
}

// Ping answers nil when the database can be reached.
func (s *Store) Ping(ctx context.Context) error { return s.main.Ping(ctx) }
