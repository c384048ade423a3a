package api

import (
	"context"
	"fmt"
	"testing"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/dag"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// leased is a fake with leases on jobs of its workflow.
func leased(nodes ...int32) *fake {
	f := &fake{}
	for i, n := range nodes {
		f.leases = append(f.leases, fsm.Lease{Job: fsm.JobID{Workflow: theID, Node: n}, ID: uint64(i + 1), GrantedAt: 1_700_000_000_000_000})
	}
	return f
}

func TestGetShowsRunningJobs(t *testing.T) {
	s := leased(3, 4).service()
	s.overlay.containers = func(_ context.Context, id fsm.WorkflowID, nodes []int32) ([]int32, error) {
		if id != theID || fmt.Sprint(nodes) != "[3 4]" {
			t.Errorf("asked for %v of %v", nodes, id)
		}
		return []int32{2, 0}, nil
	}
	res, err := s.Get(t.Context(), connect.NewRequest(&heddlev1.GetRequest{WorkflowId: textID}))
	if err != nil {
		t.Fatal(err)
	}
	w := res.Msg.GetWorkflow()
	for what, c := range map[string]struct {
		got                *heddlev1.Counts
		available, running int64
	}{
		"jobs":    {w.GetJobs(), 1, 2},
		"members": {w.GetMembers(), 0, 2},
		"all":     {w.GetBatches()[0].GetMembers(), 0, 1},
		"emails":  {w.GetBatches()[1].GetMembers(), 1, 1},
	} {
		if c.got.GetAvailable() != c.available || c.got.GetRunning() != c.running {
			t.Errorf("%s: got %v", what, c.got)
		}
	}
}

// A lease outlives its job by a moment: nothing is counted twice, and what has
// ended is not running.
func TestOverlayBelievesTheDatabaseOfEnds(t *testing.T) {
	f := leased(1, 2, 3)
	o := overlay{scheduler: f}
	c := &heddlev1.Counts{Total: 3, Available: 1, Succeeded: 2}
	start(c, 3)
	if c.GetAvailable() != 0 || c.GetRunning() != 1 {
		t.Errorf("got %v", c)
	}
	for state, want := range map[heddlev1.State]heddlev1.State{
		available: running, heddlev1.State_STATE_RETRYABLE: running, heddlev1.State_STATE_SCHEDULED: running,
		succeeded: succeeded, heddlev1.State_STATE_BLOCKED: heddlev1.State_STATE_BLOCKED,
	} {
		j := &heddlev1.Job{WorkflowId: textID, Node: 2, State: state}
		o.job(j)
		if j.GetState() != want {
			t.Errorf("%v: got %v, want %v", state, j.GetState(), want)
		}
		if (want == running) != (j.GetWorker() == "w1" && j.GetStartedAt().AsTime().Unix() == 1_700_000_000) {
			t.Errorf("%v: got %v", state, j)
		}
	}
	free := &heddlev1.Job{WorkflowId: textID, Node: 9, State: available}
	if o.job(free); free.GetState() != available {
		t.Errorf("got %v", free)
	}
}

// The database cannot tell running jobs from available ones: filters can.
func TestFiltersOfStates(t *testing.T) {
	f := leased(3)
	j := &jobs{overlay: overlay{scheduler: f}, reader: f, scheduler: f}
	w := f.service()
	failed := heddlev1.State_STATE_FAILED
	for _, c := range []struct{ states, asked, nodes any }{
		{[]heddlev1.State{running}, []heddlev1.State{running, available}, "[3]"},
		{[]heddlev1.State{available}, []heddlev1.State{available}, "[4]"},
		{[]heddlev1.State{running, available}, []heddlev1.State{running, available}, "[3 4]"},
		{[]heddlev1.State{running, failed}, []heddlev1.State{running, failed, available}, "[3]"},
		{[]heddlev1.State(nil), []heddlev1.State(nil), "[3 4]"},
	} {
		res, err := j.List(t.Context(), connect.NewRequest(&heddlev1.JobServiceListRequest{States: c.states.([]heddlev1.State)}))
		if err != nil {
			t.Fatal(err)
		}
		asked := f.last(t).(*heddlev1.JobServiceListRequest)
		if got := numbers(res.Msg.GetJobs()); got != c.nodes || fmt.Sprint(asked.GetStates()) != fmt.Sprint(c.asked) || asked.GetPageSize() != 50 || res.Msg.GetNextPageToken() != "next" {
			t.Errorf("jobs %v: got %s, asked %v", c.states, got, asked)
		}
		nodes, err := w.Nodes(t.Context(), connect.NewRequest(&heddlev1.NodesRequest{WorkflowId: textID, Batch: "all", States: c.states.([]heddlev1.State)}))
		if err != nil {
			t.Fatal(err)
		}
		read := f.last(t).(nodesAsked)
		if got := numbers(nodes.Msg.GetJobs()); got != c.nodes || read.batch != 1 {
			t.Errorf("nodes %v: got %s, asked %v", c.states, got, read)
		}
	}
	if _, err := w.Nodes(t.Context(), connect.NewRequest(&heddlev1.NodesRequest{WorkflowId: textID})); err != nil || f.last(t).(nodesAsked).batch != dag.NoBatch {
		t.Errorf("got %v, asked %v", err, f.last(t))
	}
}

func numbers(jobs []*heddlev1.Job) string {
	nodes := make([]int32, 0, len(jobs))
	for _, j := range jobs {
		nodes = append(nodes, j.GetNode())
	}
	return fmt.Sprint(nodes)
}

func TestGraphShowsRunningJobs(t *testing.T) {
	card := func(first, last, node int32) *heddlev1.Card {
		return &heddlev1.Card{FirstNode: first, LastNode: last, Node: node, State: available, Counts: &heddlev1.Counts{Available: 5}}
	}
	f := leased(1, 5, 6, 9)
	f.graph = &heddlev1.GraphResponse{Cards: []*heddlev1.Card{card(1, 1, 1), card(3, 5, 0), card(6, 10, 0), card(8, 12, 0), {IsBatch: true, FirstNode: 2, LastNode: 12}}}
	res, err := f.service().Graph(t.Context(), connect.NewRequest(&heddlev1.GraphRequest{WorkflowId: textID}))
	if err != nil {
		t.Fatal(err)
	}
	if f.last(t) != any(400) {
		t.Errorf("asked for %v cards", f.last(t))
	}
	for i, want := range []int64{1, 1, 1, 0, 0} { // 9 lies in two spans
		if got := res.Msg.GetCards()[i].GetCounts().GetRunning(); got != want {
			t.Errorf("card %d: got %d running, want %d", i, got, want)
		}
	}
	if res.Msg.GetCards()[0].GetState() != running {
		t.Errorf("got %v", res.Msg.GetCards()[0])
	}
}

func TestListShowsRunningJobs(t *testing.T) {
	res, err := leased(1, 2).service().List(t.Context(), connect.NewRequest(&heddlev1.ListRequest{PageSize: 7}))
	if err != nil || res.Msg.GetWorkflows()[0].GetJobs().GetRunning() != 2 || res.Msg.GetWorkflows()[0].GetJobs().GetAvailable() != 1 {
		t.Errorf("got %v, %v", res, err)
	}
	o := overlay{scheduler: leased(1, 2, 3)}
	for _, c := range []struct {
		w    *heddlev1.Workflow
		want int64
	}{
		{&heddlev1.Workflow{Id: textID, Jobs: &heddlev1.Counts{Total: 9, Succeeded: 3}}, 3},
		{&heddlev1.Workflow{Id: textID, Jobs: &heddlev1.Counts{Total: 9, Succeeded: 4, Failed: 4}}, 1},
		{&heddlev1.Workflow{Id: textID, State: succeeded, Jobs: &heddlev1.Counts{Total: 9, Succeeded: 4}}, 0},
	} {
		if o.summary(c.w); c.w.GetJobs().GetRunning() != c.want || c.w.GetJobs().GetAvailable() != 0 {
			t.Errorf("got %v, want %d running", c.w, c.want)
		}
	}
}

func TestExplain(t *testing.T) {
	facts := func(state heddlev1.State, codes ...string) *heddlev1.JobServiceExplainResponse {
		r := &heddlev1.JobServiceExplainResponse{State: state}
		for _, c := range codes {
			r.Reasons = append(r.Reasons, &heddlev1.Reason{Code: c})
		}
		return r
	}
	all := Serving{Queue: true, Kind: true, Free: true}
	for _, c := range []struct {
		name   string
		facts  *heddlev1.JobServiceExplainResponse
		change func(*fake)
		want   string
	}{
		{"ended", facts(succeeded, "ended"), func(f *fake) { f.notReady = true }, "STATE_SUCCEEDED [ended]"},
		{"blocked", facts(heddlev1.State_STATE_BLOCKED, "parents", "batch"), func(*fake) {}, "STATE_BLOCKED [parents batch]"},
		{"scheduled", facts(heddlev1.State_STATE_SCHEDULED, "time"), func(*fake) {}, "STATE_SCHEDULED [time]"},
		{"running", facts(available), func(f *fake) { f.leases = leased(1).leases }, "STATE_RUNNING [running]"},
		{"no leader", facts(available), func(f *fake) { f.notReady = true }, "STATE_AVAILABLE [no leader]"},
		{"no queue", facts(available), func(f *fake) { f.serving = Serving{} }, "STATE_AVAILABLE [no worker for this queue]"},
		{"no kind", facts(available), func(f *fake) { f.serving = Serving{Queue: true} }, "STATE_AVAILABLE [no worker for this kind]"},
		{"busy", facts(available), func(f *fake) { f.serving.Free = false }, "STATE_AVAILABLE [no free slot]"},
		{"paused", facts(available, "queue paused"), func(*fake) {}, "STATE_AVAILABLE [queue paused]"},
		{"paused and unserved", facts(available, "queue paused"), func(f *fake) { f.serving = Serving{} }, "STATE_AVAILABLE [queue paused no worker for this queue]"},
		{"next", facts(available), func(*fake) {}, "STATE_AVAILABLE [dispatching]"},
	} {
		f := &fake{explain: c.facts, serving: all}
		c.change(f)
		j := &jobs{overlay: overlay{scheduler: f}, reader: f, scheduler: f}
		res, err := j.Explain(t.Context(), connect.NewRequest(&heddlev1.JobServiceExplainRequest{Id: textID}))
		if err != nil {
			t.Fatal(err)
		}
		var codes []string
		for _, r := range res.Msg.GetReasons() {
			codes = append(codes, r.GetCode())
		}
		if got := fmt.Sprintf("%v %v", res.Msg.GetState(), codes); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}
