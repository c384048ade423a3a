package wire

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

const someID = "01890a5d-ac96-774b-bcce-b302099a8057"

func TestJobID(t *testing.T) {
	for text, node := range map[string]int32{someID: 1, someID + "/1": 1, someID + "/2147483647": 2147483647} {
		id, err := JobID("id", text)
		if err != nil || id.Node != node || id.Workflow.String() != someID {
			t.Errorf("%s: got %v, %v", text, id, err)
		}
	}
	for _, text := range []string{"", "x", someID + "/", someID + "/0", someID + "/-1", someID + "/2147483648", someID + "/1/2", "{" + someID + "}"} {
		if _, err := JobID("id", text); err == nil || !strings.HasPrefix(err.Error(), `id: "`) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestReport(t *testing.T) {
	id := make([]byte, 16)
	sound := func(change func(*heddlev1.AttemptReport)) *heddlev1.AttemptReport {
		r := &heddlev1.AttemptReport{WorkflowId: id, Node: 1, Lease: 1, Ending: heddlev1.Ending_ENDING_SUCCEEDED}
		change(r)
		return r
	}
	for _, c := range []struct {
		change func(*heddlev1.AttemptReport)
		want   string
	}{
		{func(r *heddlev1.AttemptReport) {}, ""},
		{func(r *heddlev1.AttemptReport) { r.WorkflowId = id[:3] }, `workflow_id: 3 bytes are not 16`},
		{func(r *heddlev1.AttemptReport) { r.Node = 0 }, `node: 0 is no job`},
		{func(r *heddlev1.AttemptReport) { r.Ending = 0 }, `ending: 0 is unknown`},
		{func(r *heddlev1.AttemptReport) { r.Ending = 8 }, `ending: 8 is unknown`},
		{func(r *heddlev1.AttemptReport) { r.Result = make([]byte, 11) }, `result: 11 bytes are over the limit of 10`},
		{func(r *heddlev1.AttemptReport) { r.Ending, r.Result = 2, id[:1] }, `result: is set, but the attempt did not succeed`},
		{func(r *heddlev1.AttemptReport) { r.Ending, r.Then = 2, &heddlev1.Graph{} }, `then: is set, but the attempt did not succeed`},
		{func(r *heddlev1.AttemptReport) { r.After = durationpb.New(-1) }, `after: -1ns is negative`},
		{func(r *heddlev1.AttemptReport) { r.RanUs = -1 }, `ran_us: -1 is negative`},
		{func(r *heddlev1.AttemptReport) { r.EndedUsAgo = -1 }, `ended_us_ago: -1 is negative`},
	} {
		got := ""
		if err := (Limits{MaxBody: 10}).Report(sound(c.change)); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// An error of a handler is kept whatever bytes it holds.
func TestReportMendsErrors(t *testing.T) {
	r := &heddlev1.AttemptReport{
		WorkflowId: make([]byte, 16), Node: 1, Ending: heddlev1.Ending_ENDING_FAILED,
		Error: "a\x00b" + strings.Repeat("é", maxError),
	}
	if err := DefaultLimits().Report(r); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(r.GetError(), "a\uFFFDbé") || len(r.GetError()) > maxError+2 || !strings.HasSuffix(r.GetError(), "é") {
		t.Fatalf("got %d bytes", len(r.GetError()))
	}
}
