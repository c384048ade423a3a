package dispatch

import (
	"testing"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

func TestHoldAndRelease(t *testing.T) {
	r := newRig(t, Config{})
	lone := r.row(1, 9)
	node := func(n int32) Row {
		row := r.row(1, int64(9-n))
		row.Job.Workflow, row.Job.Node, row.Batch = fsm.WorkflowID{1: 9, 2: 9}, n, 0
		return row
	}
	n2, n3, n4 := node(2), node(3), node(4)
	r.ready(lone, n2, n3, n4)
	r.wait(1, 9)
	h1 := r.d.HoldJob(lone.Job)
	h2 := r.d.HoldNodes(n2.Job.Workflow, 2, 3)
	r.wantRows(r.take(9), []Row{n4})
	old := r.d.Begin()
	r.d.ReleaseHold(h1)
	r.d.ReleaseHold(h2)
	r.d.Commit(old, nil, nil, []Row{n2}) // read before the release
	r.wait(1, 9)
	r.wantRows(r.take(9), nil)
	r.serveAll()
	r.wantRows(r.take(9), []Row{lone, n2, n3})
	if len(r.d.bars) != 0 {
		t.Fatal("a bar is left")
	}
	r.d.ReleaseHold(h1) // once more: nothing
}

func TestHoldCoversWhatComes(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(1, 5)
	h := r.d.HoldWorkflow(row.Job.Workflow)
	r.ready(row)
	r.wait(1, 1)
	r.serveAll()
	r.wantRows(r.take(1), nil)
	r.d.ReleaseHold(h)
	r.serveAll()
	r.wantRows(r.take(1), []Row{row})
}

// A grant that is refused while its job is held does not come back by memory.
func TestRejectedUnderAHold(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(1, 5)
	r.ready(row)
	r.wait(1, 1)
	r.match(1)
	h := r.d.HoldJob(row.Job)
	r.drop(row.Job)
	r.d.Rejected(row.Job)
	r.wait(1, 1)
	r.wantRows(r.take(1), nil)
	delete(r.table, row.Job) // cancelled
	r.d.Commit(r.d.Begin(), nil, []JobTurn{{Job: row.Job}}, nil)
	r.d.ReleaseHold(h)
	r.serveAll()
	r.wantRows(r.take(1), nil)
}

func TestGoneWhileTheGrantIsOnItsWay(t *testing.T) {
	r := newRig(t, Config{})
	row := r.row(1, 5)
	r.ready(row)
	r.wait(1, 1)
	r.match(1)
	delete(r.table, row.Job)
	r.d.Gone(row.Job, 0)
	r.drop(row.Job)
	r.d.Rejected(row.Job)
	r.wait(1, 1)
	r.wantRows(r.take(1), nil)
}
