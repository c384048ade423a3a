package store

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// MinuteSum sums up the attempts of one route that ended within a minute.
// RunUs and WaitUs are microseconds that they ran, and that they had waited
// when they started.
type MinuteSum struct {
	Minute                                time.Time
	Route                                 int32
	Succeeded, Failed, Cancelled, Retried int64
	RunUs, WaitUs                         int64
}

// AddMinutes adds sums to those that are there. Repeated after an error that
// leaves it open whether it was done, they may count twice.
func (s *Store) AddMinutes(ctx context.Context, sums []MinuteSum) error {
	if len(sums) == 0 {
		return nil
	}
	p := db.AddMinutesParams{}
	for i := range sums {
		m := &sums[i]
		p.Minutes = append(p.Minutes, timestampOf(m.Minute.UTC().Truncate(time.Minute)))
		p.Routes = append(p.Routes, m.Route)
		p.Succeeded = append(p.Succeeded, m.Succeeded)
		p.Failed = append(p.Failed, m.Failed)
		p.Cancelled = append(p.Cancelled, m.Cancelled)
		p.Retried = append(p.Retried, m.Retried)
		p.RunUs = append(p.RunUs, m.RunUs)
		p.WaitUs = append(p.WaitUs, m.WaitUs)
	}
	if err := s.db.AddMinutes(ctx, p); err != nil {
		return fmt.Errorf("add statistics: %w", err)
	}
	return nil
}

// Points of a history.
const (
	defaultPoints = 300
	mostPoints    = 2000
	longestPast   = 366 * 24 * time.Hour
	// statsKept is how long statistics are kept.
	statsKept = 400 * 24 * time.Hour
)

// History sums the statistics up into points of equal width, oldest first,
// empty ones as well.
func (s *Store) History(ctx context.Context, req *heddlev1.StatsServiceHistoryRequest) (*heddlev1.StatsServiceHistoryResponse, error) {
	points := int64(req.GetPoints())
	switch {
	case points == 0:
		points = defaultPoints
	case points < 1 || points > mostPoints:
		return nil, invalid("points is %d, must be 1 to %d", points, mostPoints)
	}
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	to := now.Add(time.Minute)
	if req.GetTo() != nil {
		to = req.GetTo().AsTime()
	}
	from := to.Add(-dayBack)
	if req.GetFrom() != nil {
		from = req.GetFrom().AsTime()
	}
	if !from.Before(to) || to.Sub(from) > longestPast {
		return nil, invalid("from %s to %s is not a time of up to 366 days", from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	from, to = from.Truncate(time.Minute), to.Truncate(time.Minute)
	minutes := max(int64(to.Sub(from)/time.Minute), 1)
	width := (minutes + points - 1) / points
	points = (minutes + width - 1) / width
	f := jobFilter{anyRoute: true}
	if err := f.readRoutes(ctx, s, [2]string{req.GetQueue(), req.GetKind()}); err != nil {
		return nil, err
	}
	resp := &heddlev1.StatsServiceHistoryResponse{WidthMinutes: int32(width)}
	resp.Points, err = s.minutes(ctx, from, int(points), time.Duration(width)*time.Minute, f.anyRoute, f.routes)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return resp, nil
}

// LastMinutes are the last n minutes, the present one included.
func (s *Store) LastMinutes(ctx context.Context, n int) ([]*heddlev1.Minute, error) {
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	points, err := s.minutes(ctx, now.Truncate(time.Minute).Add(-time.Duration(n-1)*time.Minute), n, time.Minute, true, nil)
	if err != nil {
		return nil, fmt.Errorf("last minutes: %w", err)
	}
	return points, nil
}

// LastDay sums up the last 24 hours.
func (s *Store) LastDay(ctx context.Context) (*heddlev1.Minute, error) {
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	points, err := s.minutes(ctx, now.Truncate(time.Minute).Add(-dayBack), 1, dayBack+time.Minute, true, nil)
	if err != nil {
		return nil, fmt.Errorf("last day: %w", err)
	}
	return points[0], nil
}

func (s *Store) minutes(ctx context.Context, from time.Time, n int, width time.Duration, anyRoute bool, routes []int32) ([]*heddlev1.Minute, error) {
	sums, err := s.rdb.SumMinutes(ctx, db.SumMinutesParams{
		FromAt: timestampOf(from), ToAt: timestampOf(from.Add(time.Duration(n) * width)), Width: int32(width / time.Second), AnyRoute: anyRoute, Routes: routes,
	})
	if err != nil {
		return nil, err
	}
	points := make([]*heddlev1.Minute, n)
	for i := range points {
		points[i] = &heddlev1.Minute{At: timestamppb.New(from.Add(time.Duration(i) * width))}
	}
	for _, sum := range sums {
		if sum.Point < 0 || int(sum.Point) >= n {
			continue
		}
		p := points[sum.Point]
		p.Succeeded, p.Failed, p.Cancelled, p.Retried = sum.Succeeded, sum.Failed, sum.Cancelled, sum.Retried
		if all := sum.Succeeded + sum.Failed + sum.Cancelled + sum.Retried; all > 0 {
			p.RunUs, p.WaitUs = sum.RunUs/all, sum.WaitUs/all
		}
	}
	return points, nil
}

// RetainMinutes removes old statistics.
func (s *Store) RetainMinutes(ctx context.Context) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	if _, err := s.db.RemoveMinutes(ctx, timestampOf(now.Add(-statsKept))); err != nil {
		return fmt.Errorf("remove old statistics: %w", err)
	}
	return nil
}
