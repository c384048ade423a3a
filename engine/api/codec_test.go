package api

import (
	"encoding/json"
	"testing"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Who reads JSON sees arguments and results that are JSON as text.
func TestJSONAnswersAreReadable(t *testing.T) {
	for _, c := range []struct{ args, result, argsText, resultText string }{
		{`{"to":"a@b"}`, `[1,"ü"]`, `{"to":"a@b"}`, `[1,"ü"]`},
		{"", "", "", ""},
		{"plain", `{"cut`, "", ""},
		{"\"\xff\"", "\x00", "", ""},
	} {
		f := &fake{job: func(id fsm.JobID) *heddlev1.Job {
			return &heddlev1.Job{Id: id.String(), Args: []byte(c.args), Result: []byte(c.result)}
		}}
		url := serve(t, f, nil).URL
		status, got, _ := post(t, url+"/heddle.v1.JobService/Get", `{"id":"`+textID+`"}`)
		var answer struct {
			Job struct {
				Args, Result         []byte
				ArgsJSON, ResultJSON string
			}
		}
		if err := json.Unmarshal([]byte(got), &answer); err != nil || status != 200 {
			t.Fatalf("got %d %s: %v", status, got, err)
		}
		j := answer.Job
		if string(j.Args) != c.args || string(j.Result) != c.result || j.ArgsJSON != c.argsText || j.ResultJSON != c.resultText {
			t.Errorf("%q, %q: got %+v", c.args, c.result, j)
		}
		res, err := dial(t, url).jobs.Get(t.Context(), connect.NewRequest(&heddlev1.JobServiceGetRequest{Id: textID}))
		if err != nil || res.Msg.GetJob().GetArgsJson() != "" || res.Msg.GetJob().GetResultJson() != "" {
			t.Errorf("binary: got %v, %v", res, err)
		}
	}
}

// So do the pages of jobs.
func TestJSONPagesAreReadable(t *testing.T) {
	job := func() *heddlev1.Job { return &heddlev1.Job{Args: []byte("1"), Result: []byte("{}")} }
	list := &heddlev1.JobServiceListResponse{Jobs: []*heddlev1.Job{job()}}
	nodes := &heddlev1.NodesResponse{Jobs: []*heddlev1.Job{job(), job()}}
	readable(list)
	readable(nodes)
	for _, j := range append(list.GetJobs(), nodes.GetJobs()...) {
		if j.GetArgsJson() != "1" || j.GetResultJson() != "{}" {
			t.Errorf("got %v", j)
		}
	}
	readable(&heddlev1.JobServiceGetResponse{})
}

// A result may be given by hand without base64.
func TestDismissTakesJSON(t *testing.T) {
	f := &fake{}
	url := serve(t, f, nil).URL
	status, got, _ := post(t, url+"/heddle.v1.WorkflowService/Dismiss", `{"workflowId":"`+textID+`","node":3,"resultJson":"{\"ok\":true}","note":"by hand"}`)
	if want := (command{"dismiss", 3, false, `{"ok":true} by hand`}); status != 200 || f.last(t) != want {
		t.Errorf("got %d %s, asked %v", status, got, f.last(t))
	}
}
