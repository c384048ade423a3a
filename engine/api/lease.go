package api

import (
	"bytes"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// leasesOf turns grants into messages. The messages of one answer share three
// allocations, and jobs without options decode nothing: an answer may hold
// thousands. They point into grants.
func leasesOf(grants []Grant, now int64) ([]*heddlev1.Lease, error) {
	if len(grants) == 0 {
		return nil, nil
	}
	out := make([]*heddlev1.Lease, len(grants))
	leases := make([]heddlev1.Lease, len(grants))
	times := make([]timestamppb.Timestamp, 2*len(grants))
	var last []byte
	var decoded *heddlev1.JobOptions
	for i := range grants {
		g, l := &grants[i], &leases[i]
		row := &g.Row
		if len(row.Opts) > 0 {
			if decoded == nil || !bytes.Equal(last, row.Opts) {
				decoded = new(heddlev1.JobOptions)
				if err := proto.Unmarshal(row.Opts, decoded); err != nil {
					return nil, fmt.Errorf("options of job %s: %w", row.Job, err)
				}
				last = row.Opts
			}
			l.Options = decoded
		}
		l.WorkflowId, l.Node, l.Lease = row.Job.Workflow[:], row.Job.Node, g.Lease.ID
		l.Kind, l.Queue, l.Name = g.Route.Kind, g.Route.Queue, row.Name
		l.Attempt, l.MaxAttempts = int32(row.Attempt)+1, int32(row.MaxAttempts)
		l.Args, l.Priority = row.Args, int32(row.Priority)
		if l.Lone = row.Batch < 0; !l.Lone {
			l.Batch = row.Batch
		}
		l.CreatedAt, l.RunAt = &times[2*i], &times[2*i+1]
		setMicro(l.CreatedAt, created(row.Job.Workflow))
		setMicro(l.RunAt, row.RunAt)
		if row.DeadlineAt != 0 {
			l.DeadlineIn = durationpb.New(time.Duration(max(row.DeadlineAt-now, 0)) * time.Microsecond)
		}
		out[i] = l
	}
	return out, nil
}

// created gives the microseconds since the Unix epoch that a UUIDv7 holds.
func created(id fsm.WorkflowID) int64 {
	ms := int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])
	return ms * 1000
}

// setMicro sets a time to microseconds since the Unix epoch.
func setMicro(t *timestamppb.Timestamp, us int64) {
	t.Seconds, t.Nanos = us/1e6, int32(us%1e6)*1000
	if t.Nanos < 0 {
		t.Seconds, t.Nanos = t.Seconds-1, t.Nanos+1e9
	}
}

// heldLeases checks and converts the leases that a worker says it holds.
func heldLeases(in []*heddlev1.HeldLease) ([]HeldLease, error) {
	if len(in) > maxHeld {
		return nil, wire.Invalid("held", "%d leases are over the limit of %d", len(in), maxHeld)
	}
	out := make([]HeldLease, len(in))
	for i, h := range in {
		job, err := wire.Bytes(h.GetWorkflowId(), h.GetNode())
		if err != nil {
			return nil, wire.Within(fmt.Sprintf("held[%d]", i), err)
		}
		out[i] = HeldLease{Job: job, ID: h.GetLease()}
	}
	return out, nil
}

// namedLeases turns leases into messages, which point into in.
func namedLeases(in []HeldLease) []*heddlev1.HeldLease {
	if len(in) == 0 {
		return nil
	}
	out := make([]*heddlev1.HeldLease, len(in))
	for i := range in {
		out[i] = &heddlev1.HeldLease{WorkflowId: in[i].Job.Workflow[:], Node: in[i].Job.Node, Lease: in[i].ID}
	}
	return out
}
