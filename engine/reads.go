package engine

import (
	"context"
	"errors"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// reader reads the store. A workflow it does not find may still lie in the
// inbox, committed by its user's own transaction a moment ago: the inbox is
// imported before not_found is answered.
type reader struct{ e *Engine }

var _ api.Reader = reader{}

// find runs a read, and once more if it finds nothing and the inbox had
// something.
func find[T any](ctx context.Context, e *Engine, read func() (T, error)) (T, error) {
	before := e.inbox.imported.Load()
	v, err := read()
	if errors.Is(err, model.ErrNotFound) && e.importOnce(ctx, before) {
		v, err = read()
	}
	return v, err
}

// Workflow implements api.Reader.
func (r reader) Workflow(ctx context.Context, id fsm.WorkflowID) (*heddlev1.Workflow, error) {
	return find(ctx, r.e, func() (*heddlev1.Workflow, error) { return r.e.store.Workflow(ctx, id) })
}

// Workflows implements api.Reader.
func (r reader) Workflows(ctx context.Context, req *heddlev1.ListRequest) (*heddlev1.ListResponse, error) {
	return r.e.store.Workflows(ctx, req)
}

// Graph implements api.Reader.
func (r reader) Graph(ctx context.Context, id fsm.WorkflowID, maxCards int) (*heddlev1.GraphResponse, error) {
	return find(ctx, r.e, func() (*heddlev1.GraphResponse, error) { return r.e.store.Graph(ctx, id, maxCards) })
}

// Nodes implements api.Reader.
func (r reader) Nodes(ctx context.Context, id fsm.WorkflowID, batch dag.ID, req *heddlev1.NodesRequest) (*heddlev1.NodesResponse, error) {
	return find(ctx, r.e, func() (*heddlev1.NodesResponse, error) { return r.e.store.Nodes(ctx, id, batch, req) })
}

// Job implements api.Reader.
func (r reader) Job(ctx context.Context, id fsm.JobID) (*heddlev1.Job, error) {
	return find(ctx, r.e, func() (*heddlev1.Job, error) { return r.e.store.Job(ctx, id) })
}

// Jobs implements api.Reader.
func (r reader) Jobs(ctx context.Context, req *heddlev1.JobServiceListRequest) (*heddlev1.JobServiceListResponse, error) {
	return r.e.store.Jobs(ctx, req)
}

// Results implements api.Reader.
func (r reader) Results(ctx context.Context, id fsm.WorkflowID, from dag.ID, path string, send func([]*heddlev1.Result) error) (bool, error) {
	return find(ctx, r.e, func() (bool, error) { return r.e.store.Results(ctx, id, from, path, send) })
}

// Resolve implements api.Reader.
func (r reader) Resolve(ctx context.Context, id fsm.WorkflowID, from dag.ID, path string) (node dag.ID, isBatch bool, err error) {
	node, err = find(ctx, r.e, func() (n dag.ID, err error) {
		n, isBatch, err = r.e.store.Resolve(ctx, id, from, path)
		return n, err
	})
	return node, isBatch, err
}

// NodeState implements api.Reader.
func (r reader) NodeState(ctx context.Context, id fsm.WorkflowID, node dag.ID) (state heddlev1.State, result []byte, text string, ended bool, err error) {
	state, err = find(ctx, r.e, func() (s heddlev1.State, err error) {
		s, result, text, ended, err = r.e.store.NodeState(ctx, id, node)
		return s, err
	})
	return state, result, text, ended, err
}

// Explain implements api.Reader.
func (r reader) Explain(ctx context.Context, id fsm.JobID) (*heddlev1.JobServiceExplainResponse, error) {
	return find(ctx, r.e, func() (*heddlev1.JobServiceExplainResponse, error) { return r.e.store.Explain(ctx, id) })
}

// Queues implements api.Reader.
func (r reader) Queues(ctx context.Context) ([]*heddlev1.Queue, error) {
	return r.e.store.Queues(ctx)
}
