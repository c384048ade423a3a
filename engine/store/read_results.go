package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// A page of results ends at either bound.
const (
	resultsPage  = 1000
	resultsBytes = 2 << 20
)

// parseWorkflowID reads the text of a UUID.
func parseWorkflowID(text string) (fsm.WorkflowID, error) {
	var id fsm.WorkflowID
	plain := strings.ReplaceAll(text, "-", "")
	if n, err := hex.Decode(id[:], []byte(plain)); err != nil || n != len(id) || len(text) != 36 || id.String() != strings.ToLower(text) {
		return fsm.WorkflowID{}, invalid("workflow id %q is not a UUID", text)
	}
	return id, nil
}

// Resolve finds the node that a path names. The first name is looked up in the
// batch around from, then in the batch around that, up to the root; the rest
// of the path leads inwards. From the root itself (0) a path starts there. An
// empty path is the root. model.ErrNotFound names the path.
func (s *Store) Resolve(ctx context.Context, id fsm.WorkflowID, from dag.ID, path string) (node dag.ID, isBatch bool, err error) {
	if path == "" {
		return dag.Root, true, nil
	}
	names := strings.Split(path, "/")
	scopes, err := s.scopes(ctx, id, from)
	if err != nil {
		return 0, false, err
	}
	for _, scope := range scopes {
		node, isBatch, found, err := s.member(ctx, id, scope, names[0])
		if err != nil {
			return 0, false, err
		}
		if !found {
			continue
		}
		for _, name := range names[1:] {
			if !isBatch {
				return 0, false, noPath(id, path)
			}
			if node, isBatch, found, err = s.member(ctx, id, node, name); err != nil {
				return 0, false, err
			}
			if !found {
				return 0, false, noPath(id, path)
			}
		}
		return node, isBatch, nil
	}
	return 0, false, noPath(id, path)
}

func noPath(id fsm.WorkflowID, path string) error {
	return fmt.Errorf("node %q of workflow %s: %w", path, id, model.ErrNotFound)
}

// scopes lists the batches around a node, the innermost first.
func (s *Store) scopes(ctx context.Context, id fsm.WorkflowID, from dag.ID) ([]dag.ID, error) {
	if from == dag.Root {
		return []dag.ID{dag.Root}, nil
	}
	around, err := s.container(ctx, id, from)
	if err != nil {
		return nil, err
	}
	scopes := []dag.ID{around}
	if around == dag.Root {
		return scopes, nil
	}
	up, err := s.db.BatchAncestry(ctx, db.BatchAncestryParams{WorkflowID: id, Node: int32(around)})
	if err != nil {
		return nil, fmt.Errorf("batches around node %d of workflow %s: %w", from, id, err)
	}
	for _, b := range up {
		scopes = append(scopes, dag.ID(b.Parent))
	}
	return scopes, nil
}

// container gives the batch around a node; the root for a lone job.
func (s *Store) container(ctx context.Context, id fsm.WorkflowID, node dag.ID) (dag.ID, error) {
	jobs, err := s.db.ViewJob(ctx, db.ViewJobParams{WorkflowID: id, Node: int32(node)})
	if err != nil {
		return 0, fmt.Errorf("node %d of workflow %s: %w", node, id, err)
	}
	if len(jobs) > 0 {
		return max(dag.ID(jobs[0].Batch), dag.Root), nil
	}
	batches, err := s.db.GetBatch(ctx, db.GetBatchParams{WorkflowID: id, Node: int32(node)})
	if err != nil {
		return 0, fmt.Errorf("node %d of workflow %s: %w", node, id, err)
	}
	if len(batches) == 0 {
		return 0, notFoundJob(fsm.JobID{Workflow: id, Node: int32(node)})
	}
	return dag.ID(batches[0].Parent), nil
}

// member finds a direct member of a batch by its name.
func (s *Store) member(ctx context.Context, id fsm.WorkflowID, batch dag.ID, name string) (node dag.ID, isBatch, found bool, err error) {
	batches, err := s.db.FindBatch(ctx, db.FindBatchParams{WorkflowID: id, Parent: int32(batch), Name: name})
	if err != nil {
		return 0, false, false, fmt.Errorf("find %q in workflow %s: %w", name, id, err)
	}
	if len(batches) > 0 {
		return dag.ID(batches[0]), true, true, nil
	}
	jobs, err := s.db.FindJob(ctx, db.FindJobParams{WorkflowID: id, Batch: int32(batch), Name: name})
	if err != nil {
		return 0, false, false, fmt.Errorf("find %q in workflow %s: %w", name, id, err)
	}
	if len(jobs) > 0 {
		return dag.ID(jobs[0]), false, true, nil
	}
	return 0, false, false, nil
}

// Results sends the results of the job at a path, or of the ended jobs
// directly in the batch at a path, in node order, as of its start. send gets
// at most 1,000 at a time; its error ends the reading. A job that has not
// ended gives nothing.
func (s *Store) Results(ctx context.Context, id fsm.WorkflowID, from dag.ID, path string, send func([]*heddlev1.Result) error) (isBatch bool, err error) {
	node, isBatch, err := s.Resolve(ctx, id, from, path)
	if err != nil {
		return false, err
	}
	if !isBatch {
		rows, err := s.db.OneResult(ctx, db.OneResultParams{WorkflowID: id, Node: int32(node)})
		if err != nil {
			return false, fmt.Errorf("result of job %d of workflow %s: %w", node, id, err)
		}
		page := make([]db.ResultsRow, len(rows))
		for i, r := range rows {
			page[i] = db.ResultsRow(r)
		}
		return false, s.sendResults(ctx, id, page, send)
	}
	asOf, err := s.Now(ctx)
	if err != nil {
		return true, err
	}
	hi := int32(1<<31 - 1)
	after := int32(node)
	if node != dag.Root {
		batches, err := s.db.GetBatch(ctx, db.GetBatchParams{WorkflowID: id, Node: int32(node)})
		if err != nil {
			return true, fmt.Errorf("batch %d of workflow %s: %w", node, id, err)
		}
		if len(batches) > 0 {
			after, hi = batches[0].Lo-1, batches[0].Hi
		}
	}
	for {
		rows, err := s.db.Results(ctx, db.ResultsParams{
			WorkflowID: id, Batch: int32(node), After: after, Hi: hi, AsOf: timestampOf(asOf), MaxRows: resultsPage,
		})
		if err != nil {
			return true, fmt.Errorf("results of batch %d of workflow %s: %w", node, id, err)
		}
		if err := s.sendResults(ctx, id, rows, send); err != nil {
			return true, err
		}
		if len(rows) < resultsPage {
			return true, nil
		}
		after = rows[len(rows)-1].Node
	}
}

// sendResults adds what lies in payloads and sends the rows in pages of
// bounded size.
func (s *Store) sendResults(ctx context.Context, id fsm.WorkflowID, rows []db.ResultsRow, send func([]*heddlev1.Result) error) error {
	for len(rows) > 0 {
		n, size, outside := 0, 0, []int32(nil)
		for n < len(rows) && size < resultsBytes {
			size += len(rows[n].Args) + len(rows[n].Result) + len(rows[n].Error)
			if rows[n].Flags&(FlagArgsInPayloads|FlagResultInPayloads) != 0 {
				size += resultsBytes / 16 // what they hold is known only when read
				outside = append(outside, rows[n].Node)
			}
			n++
		}
		page := make([]*heddlev1.Result, n)
		at := make(map[int32]int, len(outside))
		for i := range n {
			r := &rows[i]
			page[i] = &heddlev1.Result{
				Node: r.Node, Name: r.Name, Outcome: heddlev1.Outcome(r.Outcome), Result: r.Result, Error: r.Error, Args: r.Args,
			}
			at[r.Node] = i
		}
		if len(outside) > 0 {
			payloads, err := s.db.ResultPayloads(ctx, db.ResultPayloadsParams{WorkflowID: id, Nodes: outside})
			if err != nil {
				return fmt.Errorf("payloads of workflow %s: %w", id, err)
			}
			for _, p := range payloads {
				switch i := at[p.Node]; {
				case p.Slot == slotArgs && rows[i].Flags&FlagArgsInPayloads != 0:
					page[i].Args = p.Body
				case p.Slot == slotResult && rows[i].Flags&FlagResultInPayloads != 0:
					page[i].Result = p.Body
				}
			}
		}
		if err := send(page); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// Ended tells which of these workflows and lone jobs have ended, and how.
func (s *Store) Ended(ctx context.Context, ids []fsm.WorkflowID) (map[fsm.WorkflowID]dag.Outcome, error) {
	rows, err := s.db.EndedWorkflows(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("ended workflows: %w", err)
	}
	outcomes := make(map[fsm.WorkflowID]dag.Outcome, len(rows))
	for _, r := range rows {
		outcomes[r.ID] = dag.Outcome(r.Outcome)
	}
	return outcomes, nil
}

// NodeState gives the state of a node, and the result and error of a job that
// has ended. Node 0 is the workflow; that of a lone job is its job.
func (s *Store) NodeState(ctx context.Context, id fsm.WorkflowID, node dag.ID) (state heddlev1.State, result []byte, errText string, ended bool, err error) {
	if node == dag.Root {
		w, err := s.db.GetWorkflow(ctx, id)
		if err == nil {
			return batchState(w.State, w.Outcome), nil, "", w.State == stateEnded, nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return 0, nil, "", false, fmt.Errorf("workflow %s: %w", id, err)
		}
	}
	job := fsm.JobID{Workflow: id, Node: max(int32(node), 1)}
	now, err := s.now(ctx)
	if err != nil {
		return 0, nil, "", false, err
	}
	rows, err := s.db.ViewJob(ctx, db.ViewJobParams{WorkflowID: id, Node: job.Node})
	if err != nil {
		return 0, nil, "", false, fmt.Errorf("job %s: %w", job, err)
	}
	if len(rows) == 0 && node == dag.Root {
		return 0, nil, "", false, notFoundWorkflow(id)
	}
	if len(rows) == 0 {
		batches, err := s.db.GetBatch(ctx, db.GetBatchParams{WorkflowID: id, Node: int32(node)})
		if err != nil {
			return 0, nil, "", false, fmt.Errorf("batch %s: %w", job, err)
		}
		if len(batches) == 0 {
			return 0, nil, "", false, notFoundJob(job)
		}
		b := &batches[0]
		return batchState(b.State, b.Outcome), nil, "", b.State == stateEnded, nil
	}
	r := &rows[0]
	if r.State == stateEnded {
		if _, result, err = s.bodies(ctx, job, r.Flags); err != nil {
			return 0, nil, "", false, fmt.Errorf("result of job %s: %w", job, err)
		}
	}
	return jobState(r, now), result, r.Error, r.State == stateEnded, nil
}
