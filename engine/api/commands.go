package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// targeted are the requests that name a node of a workflow.
type targeted interface {
	GetWorkflowId() string
	GetPath() string
	GetNode() int32
}

// target finds what a command is about: by path, by number, or the whole
// workflow.
func (s *workflows) target(ctx context.Context, m targeted) (fsm.WorkflowID, dag.ID, error) {
	id, err := wire.WorkflowID("workflow_id", m.GetWorkflowId())
	if err != nil {
		return id, 0, err
	}
	node, err := wire.Node("node", m.GetNode())
	if err != nil || m.GetPath() == "" {
		return id, node, err
	}
	if node != dag.Root {
		return id, 0, wire.Invalid("node", "%d is set beside path, %q; give one of them", node, m.GetPath())
	}
	if err := wire.Path("path", m.GetPath()); err != nil {
		return id, 0, err
	}
	node, _, err = s.reader.Resolve(ctx, id, dag.Root, m.GetPath())
	return id, node, err
}

// one is target for commands that need a single node. That of a lone job is 1.
func (s *workflows) one(ctx context.Context, m targeted) (fsm.WorkflowID, dag.ID, error) {
	id, node, err := s.target(ctx, m)
	if err == nil && node == dag.Root {
		err = wire.Invalid("path", "is empty, and node is 0: one of them must name a node")
	}
	return id, node, err
}

// Cancel cancels a node or a whole workflow.
func (s *workflows) Cancel(ctx context.Context, req *connect.Request[heddlev1.CancelRequest]) (*connect.Response[heddlev1.CancelResponse], error) {
	id, node, err := s.target(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	if err := s.commander.Cancel(ctx, id, node, req.Msg.GetForce()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.CancelResponse{}), nil
}

// Retry takes outcomes back.
func (s *workflows) Retry(ctx context.Context, req *connect.Request[heddlev1.RetryRequest]) (*connect.Response[heddlev1.RetryResponse], error) {
	id, node, err := s.target(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	jobs, err := s.commander.Retry(ctx, id, node, req.Msg.GetDownstream())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.RetryResponse{Jobs: int32(jobs)}), nil
}

// Dismiss declares a job succeeded.
func (s *workflows) Dismiss(ctx context.Context, req *connect.Request[heddlev1.DismissRequest]) (*connect.Response[heddlev1.DismissResponse], error) {
	m := req.Msg
	result, err := s.limits.Result(m.GetResult(), m.GetResultJson())
	if err != nil {
		return nil, err
	}
	if err := wire.Note("note", m.GetNote()); err != nil {
		return nil, err
	}
	id, node, err := s.one(ctx, m)
	if err != nil {
		return nil, err
	}
	if err := s.commander.Dismiss(ctx, id, node, result, m.GetNote()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.DismissResponse{}), nil
}

// GiveUp ends the hold of a failed node.
func (s *workflows) GiveUp(ctx context.Context, req *connect.Request[heddlev1.GiveUpRequest]) (*connect.Response[heddlev1.GiveUpResponse], error) {
	id, node, err := s.one(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	if err := s.commander.GiveUp(ctx, id, node); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.GiveUpResponse{}), nil
}

// Seal closes an open batch, or an open workflow.
func (s *workflows) Seal(ctx context.Context, req *connect.Request[heddlev1.SealRequest]) (*connect.Response[heddlev1.SealResponse], error) {
	id, node, err := s.target(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	if err := s.commander.Seal(ctx, id, node); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.SealResponse{}), nil
}

// Pause keeps a workflow from starting anything new.
func (s *workflows) Pause(ctx context.Context, req *connect.Request[heddlev1.PauseRequest]) (*connect.Response[heddlev1.PauseResponse], error) {
	if err := s.setPaused(ctx, req.Msg.GetWorkflowId(), true); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.PauseResponse{}), nil
}

// Resume ends a pause.
func (s *workflows) Resume(ctx context.Context, req *connect.Request[heddlev1.ResumeRequest]) (*connect.Response[heddlev1.ResumeResponse], error) {
	if err := s.setPaused(ctx, req.Msg.GetWorkflowId(), false); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.ResumeResponse{}), nil
}

func (s *workflows) setPaused(ctx context.Context, text string, paused bool) error {
	id, err := wire.WorkflowID("workflow_id", text)
	if err != nil {
		return err
	}
	return s.commander.SetPaused(ctx, id, paused)
}

// Delete removes an ended workflow.
func (s *workflows) Delete(ctx context.Context, req *connect.Request[heddlev1.DeleteRequest]) (*connect.Response[heddlev1.DeleteResponse], error) {
	id, err := wire.WorkflowID("workflow_id", req.Msg.GetWorkflowId())
	if err != nil {
		return nil, err
	}
	if err := s.commander.Delete(ctx, id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.DeleteResponse{}), nil
}
