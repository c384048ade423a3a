package store

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// Database tells how the database is: connections, sizes, and what holds up the
// clearing away of dead rows.
func (s *Store) Database(ctx context.Context, _ *heddlev1.StatsServiceDatabaseRequest) (*heddlev1.StatsServiceDatabaseResponse, error) {
	facts, err := s.rdb.DatabaseFacts(ctx)
	if err != nil {
		return nil, fmt.Errorf("facts of the database: %w", err)
	}
	resp := &heddlev1.StatsServiceDatabaseResponse{
		Version: facts.Version, Connections: facts.Connections, MaxConnections: facts.MaxConnections, Bytes: facts.Bytes,
	}
	oldest, err := s.rdb.OldestTransaction(ctx)
	if err != nil {
		return nil, fmt.Errorf("oldest transaction: %w", err)
	}
	if len(oldest) > 0 {
		resp.OldestTransaction = durationpb.New(time.Duration(oldest[0].AgeUs) * time.Microsecond)
		resp.OldestTransactionWhat = oldest[0].What
	}
	tables, err := s.rdb.TableSizes(ctx)
	if err != nil {
		return nil, fmt.Errorf("sizes of tables: %w", err)
	}
	for _, t := range tables {
		resp.Tables = append(resp.Tables, &heddlev1.DatabaseTable{Name: t.Name, Bytes: t.Bytes, Rows: t.Rows})
	}
	return resp, nil
}
