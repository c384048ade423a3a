package store

import (
	"context"
	"fmt"
)

// vacuumJobs is a utility statement: no pipeline, no transaction.
const vacuumJobs = "VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) jobs"

// VacuumJobs takes the dead rows of finished jobs out of the hot table. The
// leader calls it every few hundred thousand jobs: at that rate autovacuum,
// which looks once a minute, comes too late.
func (s *Store) VacuumJobs(ctx context.Context) error {
	if err := s.utility(ctx, vacuumJobs); err != nil {
		return fmt.Errorf("vacuum jobs: %w", err)
	}
	return nil
}

// utility runs a statement that must not be part of a transaction or pipeline.
func (s *Store) utility(ctx context.Context, sql string) error {
	conn, err := s.main.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().Exec(ctx, sql).ReadAll()
	return err
}
