package store

import (
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// PoolStat describes a pool of connections.
type PoolStat struct {
	Name            string
	Busy, Idle, Max int32
	// Waited is how long callers have waited for connections, all together.
	Waited time.Duration
}

// Pools describes the pools at this moment.
func (s *Store) Pools() []PoolStat {
	var all []PoolStat
	for _, p := range []struct {
		name string
		pool *pgxpool.Pool
	}{{"main", s.main}, {"flush", s.flush}, {"read", s.read}} {
		st := p.pool.Stat()
		all = append(all, PoolStat{Name: p.name, Busy: st.AcquiredConns(), Idle: st.IdleConns(), Max: st.MaxConns(), Waited: st.EmptyAcquireWaitTime()})
	}
	return all
}
