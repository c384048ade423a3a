package store

import (
	"context"
	"time"

	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// codedState reads a state as NodeStates writes it.
func codedState(code int32) heddlev1.State {
	if code > 10 {
		return outcomeState(int16(code - 10))
	}
	return heddlev1.State(code)
}

// fact is what there is to say of a node among others.
type fact struct {
	db.NodeFactsRow
	kind  string // of a job
	state heddlev1.State
}

// outcome is 0 while the node has not ended.
func (f *fact) outcome() int32 { return max(f.State-10, 0) }

// facts reads nodes of a workflow by their numbers; those that are not there are
// left out.
func (s *Store) facts(ctx context.Context, id fsm.WorkflowID, nodes []int32, now time.Time) (map[int32]*fact, error) {
	facts := make(map[int32]*fact, len(nodes))
	if len(nodes) == 0 {
		return facts, nil
	}
	rows, err := s.rdb.NodeFacts(ctx, db.NodeFactsParams{WorkflowID: id, Nodes: nodes, Leased: s.leasedNodes(id), Now: timestampOf(now)})
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		f := &fact{NodeFactsRow: r, state: codedState(r.State)}
		if !r.IsBatch {
			route, err := s.routeNames(ctx, r.Route)
			if err != nil {
				return nil, err
			}
			f.kind = route.kind
			if f.state == heddlev1.State_STATE_RUNNING {
				if lease, _, ok := s.leases().LeaseOf(fsm.JobID{Workflow: id, Node: r.Node}); ok {
					f.StartedAt = timestampOf(time.UnixMicro(lease.GrantedAt))
				}
			}
		}
		facts[r.Node] = f
	}
	return facts, nil
}
