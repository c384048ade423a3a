package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Groups of an answer, and the rows that making them may read.
const (
	defaultGroups = 50
	mostGroups    = 500
	groupedRows   = 10_000
	groupedStep   = 1_000
)

func groupLimit(asked int32) (int, error) {
	switch {
	case asked == 0:
		return defaultGroups, nil
	case asked < 0 || asked > mostGroups:
		return 0, invalid("limit is %d, must be 1 to %d", asked, mostGroups)
	}
	return int(asked), nil
}

// Failures groups the failed jobs by kind and error, the most frequent first,
// within a budget that begins at the latest.
func (s *Store) Failures(ctx context.Context, req *heddlev1.StatsServiceFailuresRequest) (*heddlev1.StatsServiceFailuresResponse, error) {
	limit, err := groupLimit(req.GetLimit())
	if err != nil {
		return nil, err
	}
	f := jobFilter{anyRoute: true}
	if err := f.readRoutes(ctx, s, [2]string{req.GetQueue(), req.GetKind()}); err != nil {
		return nil, err
	}
	resp := &heddlev1.StatsServiceFailuresResponse{}
	if f.nothing {
		return resp, nil
	}
	type groupKey struct{ kind, error string }
	groups := map[groupKey]*heddlev1.FailureGroup{}
	at, began := lastEnd, time.Now()
	more := false
	for read := 0; ; {
		rows, err := s.rdb.FailedErrors(ctx, db.FailedErrorsParams{
			FinishedAt: timestampOf(at.at), WorkflowID: at.id, Node: at.node, AnyRoute: f.anyRoute, Routes: f.routes, MaxRows: groupedStep,
		})
		if err != nil {
			return nil, fmt.Errorf("failures: %w", err)
		}
		for _, r := range rows {
			at = endKey{r.FinishedAt.Time, key{r.WorkflowID, r.Node}}
			route, err := s.routeNames(ctx, r.Route)
			if err != nil {
				return nil, err
			}
			k := groupKey{route.kind, errorGroup(r.Error)}
			g := groups[k]
			if g == nil {
				g = &heddlev1.FailureGroup{
					Kind: k.kind, Error: k.error, Jobs: &heddlev1.Count{}, Last: stamp(r.FinishedAt), Example: fsm.JobID{Workflow: r.WorkflowID, Node: r.Node}.String(),
				}
				groups[k] = g
			}
			g.Jobs.N++
			g.First = stamp(r.FinishedAt)
		}
		if len(rows) < groupedStep {
			break
		}
		if read += len(rows); read >= groupedRows || time.Since(began) > searchBudget {
			more = true
			resp.SearchedBackTo = timestamppb.New(at.at)
			break
		}
	}
	for _, g := range groups {
		g.Jobs.More = more
		resp.Groups = append(resp.Groups, g)
	}
	slices.SortFunc(resp.Groups, func(a, b *heddlev1.FailureGroup) int {
		return cmp.Or(cmp.Compare(b.Jobs.N, a.Jobs.N), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Error, b.Error))
	})
	resp.Groups = resp.Groups[:min(limit, len(resp.Groups))]
	return resp, nil
}

// JobGroups counts the jobs that a filter finds, the largest group first, within
// a budget.
func (s *Store) JobGroups(ctx context.Context, req *heddlev1.JobServiceGroupsRequest) (*heddlev1.JobServiceGroupsResponse, error) {
	limit, err := groupLimit(req.GetLimit())
	if err != nil {
		return nil, err
	}
	by := req.GetBy()
	if by != "kind" && by != "queue" && by != "error" {
		return nil, invalid("by is %q, must be kind, queue or error", by)
	}
	f, err := s.jobFilter(ctx, &heddlev1.JobServiceListRequest{Filter: req.GetFilter()})
	if err != nil {
		return nil, err
	}
	type groupKey struct{ key, kind string }
	groups := map[groupKey]*heddlev1.JobGroup{}
	resp := &heddlev1.JobServiceGroupsResponse{}
	began := time.Now()
	token := ""
	for read := 0; ; {
		found, err := s.findJobs(ctx, f, token, groupedStep)
		if err != nil {
			return nil, fmt.Errorf("groups of jobs: %w", err)
		}
		for i := range found.rows {
			row := &found.rows[i]
			route, err := s.routeNames(ctx, row.Route)
			if err != nil {
				return nil, err
			}
			var k groupKey
			switch by {
			case "kind":
				k.key = route.kind
			case "queue":
				k.key = route.queue
			case "error":
				if row.Error == "" {
					continue
				}
				k = groupKey{errorGroup(row.Error), route.kind}
			}
			g := groups[k]
			if g == nil {
				g = &heddlev1.JobGroup{Key: k.key, Kind: k.kind, Example: fsm.JobID{Workflow: row.WorkflowID, Node: row.Node}.String()}
				groups[k] = g
				resp.Groups = append(resp.Groups, g)
			}
			g.Jobs++
		}
		if token = found.token; token == "" {
			break
		}
		if read += groupedStep; read >= groupedRows || time.Since(began) > searchBudget {
			resp.SearchedBackTo = timestamppb.New(found.back)
			break
		}
	}
	slices.SortFunc(resp.Groups, func(a, b *heddlev1.JobGroup) int {
		return cmp.Or(cmp.Compare(b.Jobs, a.Jobs), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Kind, b.Kind))
	})
	resp.Groups = resp.Groups[:min(limit, len(resp.Groups))]
	return resp, nil
}
