package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/engine/store"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

const (
	// operationsAtOnce is how many operations are worked off side by side, a part
	// of each in turn; the others wait.
	operationsAtOnce = 4
	// operationPoll is how often running operations are looked for that nobody
	// told of.
	operationPoll = cascadePoll
	// graphsAtOnce is how many graphs one transaction of an operation holds: while
	// they are held, none of their jobs starts.
	graphsAtOnce = 16
)

// operations starts and shows what is done to many jobs.
type operations struct{ e *Engine }

var _ api.Operations = operations{}

// Count implements api.Operations.
func (o operations) Count(ctx context.Context, action heddlev1.Action, sel *heddlev1.Selection) (int64, bool, error) {
	return o.e.store.CountOperation(ctx, action, sel)
}

// Start implements api.Operations.
func (o operations) Start(ctx context.Context, req *heddlev1.OperationServiceStartRequest) (*heddlev1.Operation, error) {
	op, err := o.e.store.StartOperation(ctx, req, access.From(ctx).Name)
	if err == nil {
		put(o.e.leader.operations)
	}
	return op, err
}

// Get implements api.Operations.
func (o operations) Get(ctx context.Context, id fsm.WorkflowID) (*heddlev1.Operation, error) {
	return o.e.store.Operation(ctx, id)
}

// List implements api.Operations.
func (o operations) List(ctx context.Context, req *heddlev1.OperationServiceListRequest) (*heddlev1.OperationServiceListResponse, error) {
	return o.e.store.Operations(ctx, req)
}

// Stop implements api.Operations.
func (o operations) Stop(ctx context.Context, id fsm.WorkflowID) error {
	err := o.e.store.StopOperation(ctx, id, access.From(ctx).Name)
	if err == nil {
		put(o.e.leader.operations)
	}
	return err
}

// workOff works operations off, a part of each in turn.
func (e *Engine) workOff(ctx context.Context) {
	trouble := e.trouble("work on operations")
	for {
		more, err := e.workOffParts(ctx)
		again, stop := trouble.handle(ctx, err)
		switch {
		case stop:
			return
		case again || more:
		case !wait(ctx, e.leader.operations, operationPoll):
			return
		}
	}
}

func (e *Engine) workOffParts(ctx context.Context) (more bool, err error) {
	ops, err := e.store.RunningOperations(ctx, operationsAtOnce)
	if err != nil {
		return false, err
	}
	for _, op := range ops { // one that cannot go on does not stop the others
		err = errors.Join(err, e.workOffPage(ctx, op))
	}
	return len(ops) > 0, err
}

// workOffPage does the next page of an operation, or ends it.
func (e *Engine) workOffPage(ctx context.Context, op *store.RunningOperation) error {
	if op.Stop {
		return e.operate(ctx, op, nil, nil)
	}
	page, err := e.store.OperationPage(ctx, op)
	if err != nil {
		return err
	}
	parts := partsOf(page.Jobs)
	for i, part := range parts {
		step := &store.OperationStep{}
		if i == len(parts)-1 {
			step.Page, step.PassedOver = page, page.PassedOver
		}
		if err := e.workOffPart(ctx, op, part, step); err != nil {
			return err
		}
	}
	return nil
}

// partsOf cuts a page into what one transaction takes. There is one at least.
func partsOf(jobs []store.OperationJob) [][]store.OperationJob {
	var parts [][]store.OperationJob
	graphs := map[fsm.WorkflowID]bool{}
	from := 0
	for i, j := range jobs {
		if j.Lone || graphs[j.ID.Workflow] {
			continue
		}
		if len(graphs) == graphsAtOnce {
			parts, from = append(parts, jobs[from:i]), i
			clear(graphs)
		}
		graphs[j.ID.Workflow] = true
	}
	return append(parts, jobs[from:])
}

// workOffPart does a part of a page. Where some data of it are at fault, it goes
// on by halves, until the job at fault is alone and is counted as failed.
func (e *Engine) workOffPart(ctx context.Context, op *store.RunningOperation, jobs []store.OperationJob, step *store.OperationStep) error {
	err := e.operate(ctx, op, jobs, step)
	switch {
	case err == nil, ctx.Err() != nil, passes(err):
		return err
	case len(jobs) == 0:
		return err
	case len(jobs) == 1:
		step.Failed, step.Fault = 1, fmt.Sprintf("job %s: %v", jobs[0].ID, err)
		return e.operate(ctx, op, nil, step)
	}
	half := len(jobs) / 2
	if err := e.workOffPart(ctx, op, jobs[:half], &store.OperationStep{}); err != nil {
		return err
	}
	return e.workOffPart(ctx, op, jobs[half:], step)
}

// passes reports whether an error is nobody's fault in particular: the same may
// succeed later, or under another leader.
func passes(err error) bool {
	return store.Transient(err) || errors.Is(err, api.ErrNotLeader) || errors.Is(err, api.ErrUnavailable)
}

// operate runs one transaction of an operation, under holds of what it may
// change. Without a step it ends the operation.
func (e *Engine) operate(ctx context.Context, op *store.RunningOperation, jobs []store.OperationJob, step *store.OperationStep) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandTime)
	defer cancel()
	reign, leading := e.reign()
	if !leading {
		return api.ErrNotLeader
	}
	if step == nil {
		return e.commandError(reign, e.store.EndOperation(ctx, reign, op))
	}
	h := e.holdJobs(ctx, jobs)
	defer h.release()
	if h.err != nil {
		return apiError(h.err)
	}
	step.Leased = h.leased
	step.Jobs = step.Jobs[:0]
	for _, j := range jobs {
		step.Jobs = append(step.Jobs, j.ID)
	}
	mark := e.node.Begin()
	eff, err := e.store.Operate(ctx, reign, op, step)
	e.settle(mark, &eff, err)
	return e.commandError(reign, err)
}

// holdings are the holds of one transaction.
type holdings struct {
	mu       sync.Mutex
	releases []func()
	leased   map[fsm.WorkflowID][]int32
	err      error
}

// holdJobs holds graphs as a whole, and lone jobs. Each hold waits for the entry
// in flight, so they are put side by side.
func (e *Engine) holdJobs(ctx context.Context, jobs []store.OperationJob) *holdings {
	h := &holdings{leased: make(map[fsm.WorkflowID][]int32)}
	var wg sync.WaitGroup
	held := map[fsm.WorkflowID]bool{}
	for _, j := range jobs {
		if held[j.ID.Workflow] {
			continue
		}
		held[j.ID.Workflow] = true
		wg.Go(func() {
			hold := func() (func(), []fsm.Lease, error) { return e.node.HoldWorkflow(ctx, j.ID.Workflow) }
			if j.Lone {
				hold = func() (func(), []fsm.Lease, error) { return e.node.HoldJob(ctx, j.ID) }
			}
			release, leases, err := hold()
			h.mu.Lock()
			defer h.mu.Unlock()
			h.releases = append(h.releases, release)
			h.leased[j.ID.Workflow] = nodesOf(leases)
			h.err = errors.Join(h.err, err)
		})
	}
	wg.Wait()
	return h
}

func (h *holdings) release() {
	for _, release := range h.releases {
		release()
	}
}
