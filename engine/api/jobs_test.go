package api

import (
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

// Who waits for a leased job sees it run. A lease outlives its job by a moment:
// what has ended is not running.
func TestLeasedJobsRun(t *testing.T) {
	s := leased(1, 2, 3).service()
	for state, want := range map[heddlev1.State]heddlev1.State{
		available: running, heddlev1.State_STATE_RETRYABLE: running, heddlev1.State_STATE_SCHEDULED: running,
		succeeded: succeeded, heddlev1.State_STATE_BLOCKED: heddlev1.State_STATE_BLOCKED,
	} {
		if got := s.shown(fsm.JobID{Workflow: theID, Node: 2}, state); got != want {
			t.Errorf("%v: got %v, want %v", state, got, want)
		}
	}
	if got := s.shown(fsm.JobID{Workflow: theID, Node: 9}, available); got != available {
		t.Errorf("not leased: got %v", got)
	}
}

// Filters reach the store as they are, which knows the leases; a size of pages is
// filled in.
func TestFiltersOfStates(t *testing.T) {
	f := &fake{}
	j := &jobs{reader: f, scheduler: f}
	w := f.service()
	states := []heddlev1.State{running, heddlev1.State_STATE_FAILED}
	res, err := j.List(t.Context(), connect.NewRequest(&heddlev1.JobServiceListRequest{States: states}))
	if err != nil || len(res.Msg.GetJobs()) != 2 || res.Msg.GetNextPageToken() != "next" {
		t.Fatal(res, err)
	}
	asked := f.last(t).(*heddlev1.JobServiceListRequest)
	if fmt.Sprint(asked.GetStates()) != fmt.Sprint(states) || asked.GetPageSize() != 50 {
		t.Errorf("asked %v", asked)
	}
	if _, err := w.Nodes(t.Context(), connect.NewRequest(&heddlev1.NodesRequest{WorkflowId: textID, Batch: "all", States: states})); err != nil {
		t.Fatal(err)
	}
	if read := f.last(t).(nodesAsked); fmt.Sprint(read.req.GetStates()) != fmt.Sprint(states) || read.batch != 1 {
		t.Errorf("asked %v", read)
	}
	if _, err := w.Nodes(t.Context(), connect.NewRequest(&heddlev1.NodesRequest{WorkflowId: textID})); err != nil || f.last(t).(nodesAsked).batch != dag.NoBatch {
		t.Errorf("got %v, asked %v", err, f.last(t))
	}
	bad := &heddlev1.JobFilter{States: []heddlev1.State{99}}
	if _, err := j.List(t.Context(), connect.NewRequest(&heddlev1.JobServiceListRequest{Filter: bad})); err == nil {
		t.Error("a state that there is not is taken")
	}
}

func TestGraphAsksForCards(t *testing.T) {
	f := &fake{graph: &heddlev1.GraphResponse{Groups: 3}}
	res, err := f.service().Graph(t.Context(), connect.NewRequest(&heddlev1.GraphRequest{WorkflowId: textID}))
	if err != nil || res.Msg.GetGroups() != 3 || f.last(t) != any(400) {
		t.Errorf("got %v, %v, asked for %v cards", res, err, f.last(t))
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
		j := &jobs{reader: f, scheduler: f}
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
