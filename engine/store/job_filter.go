package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// jobFilter is a list request, read. What the statements leave out by it is
// left out for speed; keeps decides.
type jobFilter struct {
	now        time.Time
	states     stateSet
	anyRoute   bool
	routes     []int32
	within     *fsm.WorkflowID
	batch      int32 // -1: any
	name, tag  string
	errors     []string // words, in lower case
	errorGroup string
	patterns   []string // what an error that is looked for is like
	// All that is looked for lies below top and from floor on.
	top, floor key
	// nothing can be found: no route has that queue and kind.
	nothing bool
}

// jobFilter reads a request, whose older fields and filter hold both.
func (s *Store) jobFilter(ctx context.Context, req *heddlev1.JobServiceListRequest) (*jobFilter, error) {
	m := req.GetFilter()
	f := &jobFilter{
		states: newStateSet(req.GetStates()).and(newStateSet(m.GetStates())), anyRoute: true, batch: -1,
		name: m.GetName(), tag: m.GetTag(), errors: strings.Fields(strings.ToLower(m.GetError())), errorGroup: m.GetErrorGroup(), top: lastKey,
		patterns: []string{},
	}
	for _, w := range f.errors {
		f.patterns = append(f.patterns, "%"+escapeLike(w)+"%")
	}
	if f.errorGroup != "" {
		f.patterns = append(f.patterns, errorGroupPattern(f.errorGroup))
	}
	if err := f.readRange(req); err != nil {
		return nil, err
	}
	if f.batch >= 0 && f.within == nil {
		return nil, invalid("filter.batch is %d without a workflow_id", f.batch)
	}
	if err := f.readBatch(ctx, s); err != nil {
		return nil, err
	}
	if err := f.readRoutes(ctx, s, [2]string{req.GetQueue(), req.GetKind()}, [2]string{m.GetQueue(), m.GetKind()}); err != nil {
		return nil, err
	}
	var err error
	f.now, err = s.now(ctx)
	return f, err
}

// readRange reads what bounds the keys.
func (f *jobFilter) readRange(req *heddlev1.JobServiceListRequest) error {
	m := req.GetFilter()
	for _, text := range []string{req.GetWorkflowId(), m.GetWorkflowId()} {
		if text == "" {
			continue
		}
		id, err := parseWorkflowID(text)
		if err != nil {
			return err
		}
		if f.within != nil && *f.within != id {
			f.nothing = true
		}
		f.within = &id
	}
	if m.GetTo() != nil {
		f.top = key{id: firstID(later(m.GetTo().AsTime(), time.Unix(0, 0)))}
	}
	if m.GetFrom() != nil {
		f.floor = key{id: firstID(later(m.GetFrom().AsTime(), time.Unix(0, 0)))}
	}
	if f.within != nil {
		if f.floor.compare(key{*f.within, 1<<31 - 1}) > 0 || f.top.compare(key{id: *f.within}) <= 0 {
			f.nothing = true
		}
		f.floor, f.top = key{id: *f.within}, key{*f.within, 1<<31 - 1}
	}
	if m != nil && m.Batch != nil {
		f.batch = max(m.GetBatch(), -1)
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// readBatch narrows the keys to the batch's range.
func (f *jobFilter) readBatch(ctx context.Context, s *Store) error {
	if f.batch <= 0 {
		return nil
	}
	batches, err := s.rdb.GetBatch(ctx, db.GetBatchParams{WorkflowID: *f.within, Node: f.batch})
	if err != nil {
		return fmt.Errorf("list jobs: %w", err)
	}
	if len(batches) == 0 {
		f.nothing = true
		return nil
	}
	f.floor.node, f.top.node = batches[0].Lo, batches[0].Hi+1
	return nil
}

// readRoutes finds the routes that have every queue and kind asked for.
func (f *jobFilter) readRoutes(ctx context.Context, s *Store, pairs ...[2]string) error {
	for _, p := range pairs {
		if p[0] == "" && p[1] == "" {
			continue
		}
		routes, err := s.rdb.MatchingRoutes(ctx, db.MatchingRoutesParams{Queue: p[0], Kind: p[1]})
		if err != nil {
			return fmt.Errorf("list jobs: %w", err)
		}
		if f.anyRoute {
			f.anyRoute, f.routes = false, routes
			continue
		}
		f.routes = slices.DeleteFunc(f.routes, func(r int32) bool { return !slices.Contains(routes, r) })
	}
	f.nothing = f.nothing || !f.anyRoute && len(f.routes) == 0
	return nil
}

// byEnd: only what did not succeed is asked for, of any workflow: the list goes
// by the time of the ends.
func (f *jobFilter) byEnd() bool {
	return !f.states.open() && f.states.outcomes != 0 && f.states.outcomes&int32(dag.Succeeded) == 0 && f.within == nil
}

// bounded keeps a walk from going below the floor.
func (f *jobFilter) bounded(bound func(context.Context, key) (key, bool, error)) func(context.Context, key) (key, bool, error) {
	return func(ctx context.Context, from key) (key, bool, error) {
		low, more, err := bound(ctx, from)
		if err != nil {
			return key{}, false, err
		}
		if low.compare(f.floor) <= 0 {
			return f.floor, false, nil
		}
		return low, more, nil
	}
}

// keeps decides about a row.
func (f *jobFilter) keeps(s *Store, r *viewRow) bool {
	state := jobState(r, f.now)
	if waits(state) {
		if _, _, leased := s.leases().LeaseOf(fsm.JobID{Workflow: r.WorkflowID, Node: r.Node}); leased {
			state = heddlev1.State_STATE_RUNNING
		}
	}
	k := rowKey(r)
	if !f.states.has(state) || k.compare(f.top) >= 0 || k.compare(f.floor) < 0 {
		return false
	}
	if !f.anyRoute && !slices.Contains(f.routes, r.Route) || f.name != "" && r.Name != f.name || f.batch >= 0 && max(r.Batch, 0) != f.batch {
		return false
	}
	if f.errorGroup != "" && (r.Error == "" || errorGroup(r.Error) != f.errorGroup) {
		return false
	}
	if len(f.errors) > 0 {
		text := strings.ToLower(r.Error)
		for _, word := range f.errors {
			if !strings.Contains(text, word) {
				return false
			}
		}
	}
	return f.tag == "" || hasTag(r.Opts, f.tag)
}

func hasTag(opts []byte, tag string) bool {
	var o heddlev1.JobOptions
	return proto.Unmarshal(opts, &o) == nil && slices.Contains(o.GetTags(), tag)
}

// escapeLike has LIKE take a text as it is.
func escapeLike(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}
