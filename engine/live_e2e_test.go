package engine

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// A workflow is watched while its jobs start and end: what leases say and what
// Postgres says is one picture, in the totals, on the cards, in lists.
func TestLiveShowsRunningJobs(t *testing.T) {
	t.Parallel()
	e, c := newEngine(t, nil)
	started, finish := make(chan struct{}, 10), make(chan struct{})
	c.Work(2, map[string]enginetest.Handler{"hold": func(ctx context.Context, _ *heddlev1.Lease) *heddlev1.AttemptReport {
		started <- struct{}{}
		select {
		case <-finish:
		case <-ctx.Done():
		}
		return enginetest.Succeed(`1`)
	}})
	nodes := []*heddlev1.NodeSpec{enginetest.Batch("all")}
	for range 5 {
		j := enginetest.Job("", "hold")
		j.In = "all"
		nodes = append(nodes, j)
	}
	nodes = append(nodes, enginetest.Job("after", "hold", enginetest.After("all")))
	id := c.Put(enginetest.Graph(nodes...))[0]
	<-started
	<-started

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := c.Live.Watch(ctx, connect.NewRequest(&heddlev1.LiveServiceWatchRequest{View: &heddlev1.View{Overview: true, WorkflowId: id}}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	// next waits for a sight in which all is as it should be.
	next := func(what string, ok func(*heddlev1.Sight) bool) *heddlev1.Sight {
		t.Helper()
		var last *heddlev1.Sight
		for stream.Receive() {
			last = stream.Msg().GetSight()
			if ok(last) {
				return last
			}
		}
		t.Fatalf("%s: %v, last seen %v", what, stream.Err(), last)
		return nil
	}
	s := next("two run", func(s *heddlev1.Sight) bool {
		return s.GetWorkflow().GetWorkflow().GetJobs().GetRunning() == 2 && s.GetTotals().GetRunning().GetN() == 2
	})
	if n := s.GetTotals(); n.GetBlocked().GetN() != 1 || n.GetWorkflows().GetN() != 1 || n.GetBatches().GetN() != 1 || n.GetWorkers() != 1 || n.GetQueues() != 1 {
		t.Errorf("totals %v", n)
	}
	if h := s.GetHealth(); h.GetNode() != "engine" || h.GetLeader() != "engine" || !h.GetDispatching() || h.GetMembers() != 1 || h.GetTrouble() != "" {
		t.Errorf("health %v", h)
	}
	if o := s.GetOverview(); len(o.GetMinutes()) != 60 || len(o.GetRunning()) != 1 || o.GetRunning()[0].GetJobs().GetRunning() != 2 {
		t.Errorf("overview %v", o)
	}
	if b := s.GetWorkflow().GetWorkflow().GetBatches(); len(b) != 1 || b[0].GetMembers().GetRunning() != 2 || b[0].GetMembers().GetAvailable() != 3 {
		t.Errorf("batches %v", b)
	}
	// The same everywhere else.
	graph, err := c.Graph(ctx, connect.NewRequest(&heddlev1.GraphRequest{WorkflowId: id}))
	if err != nil {
		t.Fatal(err)
	}
	var running int64
	for _, card := range graph.Msg.GetCards() {
		if !card.GetIsBatch() {
			running += card.GetCounts().GetRunning()
		}
	}
	if running != 2 {
		t.Errorf("%d run on the cards %v", running, graph.Msg.GetCards())
	}
	only := []heddlev1.State{heddlev1.State_STATE_RUNNING}
	jobs, err := c.Jobs.List(ctx, connect.NewRequest(&heddlev1.JobServiceListRequest{States: only}))
	if err != nil || len(jobs.Msg.GetJobs()) != 2 || jobs.Msg.GetJobs()[0].GetState() != only[0] || jobs.Msg.GetJobs()[0].GetStartedAt() == nil {
		t.Errorf("running jobs: %v, %v", jobs, err)
	}
	of, err := c.Nodes(ctx, connect.NewRequest(&heddlev1.NodesRequest{WorkflowId: id, States: only}))
	if err != nil || len(of.Msg.GetJobs()) != 2 {
		t.Errorf("running nodes: %v, %v", of, err)
	}
	sessions, err := c.Sessions.List(ctx, connect.NewRequest(&heddlev1.SessionServiceListRequest{}))
	if err != nil || len(sessions.Msg.GetSessions()) != 1 || len(sessions.Msg.GetSessions()[0].GetJobs()) != 2 {
		t.Errorf("sessions: %v, %v", sessions, err)
	}

	close(finish)
	s = next("all ended", func(s *heddlev1.Sight) bool {
		return s.GetWorkflow().GetWorkflow().GetState() == heddlev1.State_STATE_SUCCEEDED && s.GetTotals().GetRunning().GetN() == 0
	})
	if n := s.GetTotals(); n.GetWorkflows().GetN() != 0 || n.GetAvailable().GetN() != 0 || n.GetBlocked().GetN() != 0 {
		t.Errorf("totals at the end %v", n)
	}
	next("rates", func(s *heddlev1.Sight) bool {
		var ended, began int32
		for _, r := range s.GetOverview().GetRates() {
			ended += r.GetSucceeded()
			began += r.GetStarted()
		}
		return ended == 6 && began == 6
	})
	if err := e.tally.write(ctx, e.store.AddMinutes); err != nil {
		t.Fatal(err)
	}
	day, err := e.store.LastDay(ctx)
	if err != nil || day.GetSucceeded() != 6 {
		t.Errorf("statistics %v, %v", day, err)
	}
}
