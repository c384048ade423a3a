package api

import (
	"context"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// stats is the StatsService.
type stats struct{ pages Pages }

var _ heddlev1connect.StatsServiceHandler = (*stats)(nil)

// History shows how many jobs ended when.
func (s *stats) History(ctx context.Context, req *connect.Request[heddlev1.StatsServiceHistoryRequest]) (*connect.Response[heddlev1.StatsServiceHistoryResponse], error) {
	return answer(ctx, req, s.pages.History)
}

// Database tells how the database is.
func (s *stats) Database(ctx context.Context, req *connect.Request[heddlev1.StatsServiceDatabaseRequest]) (*connect.Response[heddlev1.StatsServiceDatabaseResponse], error) {
	return answer(ctx, req, s.pages.Database)
}

// Failures groups the failed jobs.
func (s *stats) Failures(ctx context.Context, req *connect.Request[heddlev1.StatsServiceFailuresRequest]) (*connect.Response[heddlev1.StatsServiceFailuresResponse], error) {
	return answer(ctx, req, s.pages.Failures)
}
