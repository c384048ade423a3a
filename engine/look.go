package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// contactLost is the silence after which a member counts as out of reach.
const contactLost = 3 * time.Second

// looks shows this node to people.
type looks struct{ e *Engine }

var (
	_ pageNode     = looks{}
	_ api.Sessions = looks{}
)

// Health implements pageNode.
func (l looks) Health() *heddlev1.Health {
	here := l.e.cluster.Here()
	h := &heddlev1.Health{
		Node: here.GetNode(), Version: l.e.cfg.Version, Leader: here.GetLeader(), Dispatching: here.GetDispatching(),
		Members: int32(len(here.GetMembers())), Trouble: here.GetTrouble(), ReadOnly: l.e.cfg.ReadOnly,
	}
	if here.GetLeader() != here.GetNode() {
		h.Dispatching = here.GetLeader() != ""
		return h
	}
	for _, m := range here.GetMembers() {
		if m.GetSuffrage() != heddlev1.Suffrage_SUFFRAGE_VOTER {
			continue
		}
		if m.GetId() == here.GetNode() || m.GetLastContact() != nil && m.GetLastContact().AsDuration() < contactLost {
			h.Reachable++
		}
	}
	return h
}

// Workers implements pageNode.
func (l looks) Workers() int { return len(l.e.node.Sessions()) }

// Running implements pageNode.
func (l looks) Running() map[string]int { return scheduler(l).Running() }

// Rates implements pageNode.
func (l looks) Rates() []*heddlev1.Rate { return l.e.tally.rates(l.e.clock.now()) }

// Leads implements pageNode.
func (l looks) Leads() bool {
	_, leading := l.e.node.Leader()
	return leading
}

// Subscribe implements pageNode.
func (l looks) Subscribe(id fsm.WorkflowID) api.Subscription { return l.e.hub.Subscribe(id) }

// Now implements pageNode.
func (l looks) Now() time.Time { return time.UnixMicro(l.e.clock.now()).UTC() }

// Jobs shown of a session among others, and of one by itself.
const (
	sessionJobs     = 20
	sessionJobsMost = 1000
)

// Sessions implements api.Sessions.
func (l looks) Sessions(ctx context.Context, only uint64) ([]*heddlev1.Session, error) {
	infos := l.e.node.Sessions()
	most := sessionJobs
	if only != 0 {
		infos = slices.DeleteFunc(infos, func(i raftsched.SessionInfo) bool { return i.ID != only })
		most = sessionJobsMost
		if len(infos) == 0 {
			return nil, fmt.Errorf("session %d: %w", only, model.ErrNotFound)
		}
	}
	out := make([]*heddlev1.Session, len(infos))
	byJob := make(map[fsm.JobID]*heddlev1.Session)
	leases := make(map[fsm.JobID]fsm.Lease)
	var ids []fsm.JobID
	for i, info := range infos {
		s := &heddlev1.Session{
			Id: info.ID, Worker: info.Worker, Process: strings.TrimPrefix(info.Process, inProcess), Closing: info.Closing, Draining: info.Draining,
			Running: int32(info.Leases), Queues: info.Queues, Kinds: info.Kinds, Version: info.Version, Slots: int32(info.Capacity),
		}
		if info.OpenedAt != 0 {
			s.OpenedAt = timestamppb.New(time.UnixMicro(info.OpenedAt))
		}
		if info.HeartbeatAge >= 0 {
			s.HeartbeatAge = durationpb.New(info.HeartbeatAge)
		}
		out[i] = s
		for _, lease := range l.e.node.SessionLeases(info.ID, most) {
			byJob[lease.Job], leases[lease.Job] = s, lease
			ids = append(ids, lease.Job)
		}
	}
	jobs, err := l.e.store.JobsByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if j := jobs[id]; j != nil && j.GetFinishedAt() == nil {
			j.State, j.Worker = heddlev1.State_STATE_RUNNING, byJob[id].GetWorker()
			j.StartedAt = timestamppb.New(time.UnixMicro(leases[id].GrantedAt))
			byJob[id].Jobs = append(byJob[id].Jobs, j)
		}
	}
	slices.SortFunc(out, func(a, b *heddlev1.Session) int {
		return cmp.Or(cmp.Compare(a.GetWorker(), b.GetWorker()), cmp.Compare(a.GetId(), b.GetId()))
	})
	return out, nil
}
