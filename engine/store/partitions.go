package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Partitions are kept from daysBack days ago to daysAhead days from now.
const (
	daysBack  = 2
	daysAhead = 3
)

// partitioned lists the tables with a partition for each UTC day.
var partitioned = []string{"finished_jobs", "payloads", "attempts", "edges"}

// day is a day of UTC, counted from the Unix epoch.
type day int64

func dayOf(t time.Time) day { return day(floorDiv(t.UnixMilli(), 86_400_000)) }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func (d day) time() time.Time { return time.Unix(int64(d)*86_400, 0).UTC() }

// first is the smallest id of the day.
func (d day) first() fsm.WorkflowID { return firstID(d.time()) }

// suffix of the names of the day's partitions.
func (d day) suffix() string { return "_" + d.time().Format("20060102") }

// firstID is the smallest id of a millisecond.
func firstID(t time.Time) fsm.WorkflowID {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(t.UnixMilli())<<16)
	var id fsm.WorkflowID
	copy(id[:6], b[:6])
	return id
}

// idTime is the time in a UUIDv7.
func idTime(id fsm.WorkflowID) time.Time {
	var b [8]byte
	copy(b[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b[:]))).UTC()
}

// dayCache remembers the days whose partitions are there.
type dayCache struct {
	mu   sync.RWMutex
	have map[day]bool
}

func (c *dayCache) has(d day) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.have[d]
}

func (c *dayCache) add(from, to day) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have == nil {
		c.have = map[day]bool{}
	}
	for d := from; d <= to; d++ {
		c.have[d] = true
	}
}

func (c *dayCache) drop(d day) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.have, d)
}

// EnsurePartitions creates the partitions from two days ago to three days
// ahead that are missing, by the database's clock.
func (s *Store) EnsurePartitions(ctx context.Context) error {
	now, err := s.now(ctx)
	if err != nil {
		return fmt.Errorf("partitions: %w", err)
	}
	today := dayOf(now)
	return s.ensureDays(ctx, today-daysBack, today+daysAhead)
}

func (s *Store) ensureDay(ctx context.Context, d day) error {
	if s.days.has(d) {
		return nil
	}
	return s.ensureDays(ctx, d, d)
}

func (s *Store) ensureDays(ctx context.Context, from, to day) error {
	date := func(d day) pgtype.Date { return pgtype.Date{Time: d.time(), Valid: true} }
	made, err := s.db.EnsurePartitions(ctx, db.EnsurePartitionsParams{First: date(from), Last: date(to)})
	if err != nil {
		return fmt.Errorf("partitions of %s to %s: %w", from.time().Format(time.DateOnly), to.time().Format(time.DateOnly), err)
	}
	s.days.add(from, to)
	if made > 0 {
		s.log.InfoContext(ctx, "partitions created", "from", from.time().Format(time.DateOnly), "to", to.time().Format(time.DateOnly), "tables", made)
	}
	return nil
}
