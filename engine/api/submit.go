package api

import (
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/engine/api/wire"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// maxSubmissions is the most workflows of one unary call.
const maxSubmissions = 10_000

// Submit writes workflows. One that is at fault does not keep the others from
// being written; only when none could be, for a reason that passes, does the
// call itself fail.
func (s *workflows) Submit(ctx context.Context, req *connect.Request[heddlev1.SubmitRequest]) (*connect.Response[heddlev1.SubmitResponse], error) {
	in := req.Msg.GetSubmissions()
	if len(in) == 0 {
		return nil, wire.Invalid("submissions", "is empty")
	}
	if len(in) > maxSubmissions {
		return nil, wire.Invalid("submissions", "%d submissions are over the limit of %d", len(in), maxSubmissions)
	}
	results := make([]*heddlev1.SubmitResult, len(in))
	subs := make([]model.Submission, 0, len(in))
	places := make([]int, 0, len(in))
	for i, m := range in {
		sub, err := s.limits.Submission(m)
		if err != nil {
			results[i] = refusal(m.GetId(), outward(wire.Within(fmt.Sprintf("submissions[%d]", i), err)))
			continue
		}
		subs = append(subs, sub)
		places = append(places, i)
	}
	if len(subs) == 0 {
		return connect.NewResponse(&heddlev1.SubmitResponse{Results: results}), nil
	}
	var passing *connect.Error
	failed := 0
	for j, done := range s.submitter.Submit(ctx, subs) {
		id := subs[j].ID.String()
		if done.Err == nil {
			results[places[j]] = &heddlev1.SubmitResult{Id: id, Created: done.Created}
			continue
		}
		e := outward(done.Err)
		results[places[j]] = refusal(id, e)
		if transient(e) {
			passing = e
			failed++
		}
	}
	if failed == len(in) {
		return nil, passing
	}
	return connect.NewResponse(&heddlev1.SubmitResponse{Results: results}), nil
}

// refusal is the result of a submission that was not written.
func refusal(id string, e *connect.Error) *heddlev1.SubmitResult {
	return &heddlev1.SubmitResult{Id: id, Code: e.Code().String(), Message: e.Message()}
}

// SubmitStream writes one workflow of any size. A part at fault ends the
// transaction.
func (s *workflows) SubmitStream(ctx context.Context, stream *connect.ClientStream[heddlev1.SubmitStreamRequest]) (*connect.Response[heddlev1.SubmitStreamResponse], error) {
	if !stream.Receive() {
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, wire.Invalid("header", "is missing: the stream is empty")
	}
	first, ok := stream.Msg().GetPart().(*heddlev1.SubmitStreamRequest_Header)
	if !ok {
		return nil, wire.Invalid("header", "is missing: it must be the first message")
	}
	parts, header, err := s.limits.Stream(first.Header)
	if err != nil {
		return nil, wire.Within("header", err)
	}
	var fault error
	last := false
	done, err := s.submitter.SubmitStream(ctx, header, func() (*model.Chunk, error) {
		if last {
			return nil, io.EOF
		}
		var chunk *model.Chunk
		if chunk, fault = nextChunk(stream, parts); fault != nil {
			return nil, fault
		}
		last = stream.Msg().GetLast()
		return chunk, nil
	})
	if fault != nil {
		return nil, fault
	}
	if err == nil {
		err = done.Err
	}
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.SubmitStreamResponse{
		Id: header.ID.String(), Created: done.Created, Nodes: int64(parts.Nodes()),
	}), nil
}

// nextChunk receives and converts the next part of a stream. A stream that ends
// here was cut off by something between its sender and us: what came of it must
// not pass for the whole (I8).
func nextChunk(stream *connect.ClientStream[heddlev1.SubmitStreamRequest], parts *wire.Stream) (*model.Chunk, error) {
	if !stream.Receive() {
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, wire.Invalid("last", "is missing: the stream ended before its last chunk")
	}
	part, ok := stream.Msg().GetPart().(*heddlev1.SubmitStreamRequest_Chunk)
	if !ok {
		return nil, wire.Invalid("chunk", "is missing: only the first message is a header")
	}
	chunk, err := parts.Chunk(part.Chunk)
	return chunk, wire.Within("graph", err)
}

// Append adds nodes to a workflow, from outside or under a lease (AddNow).
func (s *workflows) Append(ctx context.Context, req *connect.Request[heddlev1.AppendRequest]) (*connect.Response[heddlev1.AppendResponse], error) {
	m := req.Msg
	id, err := wire.WorkflowID("workflow_id", m.GetWorkflowId())
	if err != nil {
		return nil, err
	}
	if err := wire.Key("key", m.GetKey()); err != nil {
		return nil, err
	}
	lease, err := leaseRef(id, m.GetLease())
	if err != nil {
		return nil, err
	}
	if lease == nil && access.From(ctx).Role == access.Worker {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New("Append takes the role operator; a worker's jobs add nodes under their lease only"))
	}
	if lease != nil && m.GetKey() == "" {
		return nil, wire.Invalid("key", "is empty; a running job adds nodes under a key, or its next attempt adds them again")
	}
	chunk, err := s.limits.Append(m.GetGraph(), func(path string) (dag.ID, error) {
		node, _, err := s.reader.Resolve(ctx, id, dag.Root, path)
		return node, err
	})
	if err != nil {
		return nil, wire.Within("graph", err)
	}
	batch, err := s.grows(ctx, id, m.GetBatch(), lease)
	if err != nil {
		return nil, err
	}
	first, n, created, err := s.commander.Append(ctx, Append{ID: id, Batch: batch, Chunk: *chunk, Key: m.GetKey(), Lease: lease})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&heddlev1.AppendResponse{FirstNode: int32(first), Nodes: n, Created: created}), nil
}

// grows finds the batch that gets appended nodes: the one named, else that of
// the leased job, else the root.
func (s *workflows) grows(ctx context.Context, id fsm.WorkflowID, path string, lease *LeaseRef) (dag.ID, error) {
	if path != "" {
		return s.batch(ctx, id, "batch", path)
	}
	if lease == nil {
		return dag.Root, nil
	}
	j, err := s.reader.Job(ctx, lease.Job)
	return dag.ID(j.GetBatch()), err
}

// leaseRef converts the lease under which a handler calls about a workflow of
// its own; nil: there is none.
func leaseRef(id fsm.WorkflowID, m *heddlev1.LeaseRef) (*LeaseRef, error) {
	if m == nil {
		return nil, nil
	}
	job, err := wire.Bytes(m.GetWorkflowId(), m.GetNode())
	if err != nil {
		return nil, wire.Within("lease", err)
	}
	if job.Workflow != id {
		return nil, wire.Invalid("lease.workflow_id", "%s is another workflow than workflow_id", job.Workflow)
	}
	return &LeaseRef{Job: job, ID: m.GetLease(), Session: m.GetSession()}, nil
}
