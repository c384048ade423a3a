package store

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// A cancel of a huge batch is answered at once; its members follow in steps,
// and the leased ones are told.
func TestCancelHugeBatch(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	const members = 20_000
	nodes := []model.NewNode{batch("huge")}
	for range members {
		nodes = append(nodes, in(1, job("m")))
	}
	nodes = append(nodes, job("after"))
	out := submitOne(t, s, graphOf(nodes, dag.Edge{Parent: 1, Child: members + 2, On: dag.Cancelled}))
	start := time.Now()
	eff, err := s.Cancel(ctx, reign, out.ID, 1, false, []int32{2, 15_000})
	if err != nil || !eff.Cascades || len(eff.Gone) != 0 {
		t.Fatalf("cancel: %+v, %v", eff, err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("the cancel took %s", took)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM finished_jobs`); n != 0 {
		t.Errorf("%d members ended in the cancel itself", n)
	}
	var tell []fsm.JobID
	gone, steps := 0, 0
	for {
		eff, more, err := s.Step(ctx, reign, func(fsm.WorkflowID) ([]int32, error) { return []int32{2, 15_000}, nil })
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		steps++
		tell = append(tell, eff.Tell...)
		gone += len(eff.Gone)
		if n := queryInt(t, s, `SELECT cancelled - (SELECT count(*) FROM finished_jobs WHERE outcome = 4) FROM batches WHERE node = 1`); n != 0 {
			t.Fatalf("the counter is %d off after step %d", n, steps)
		}
	}
	if steps != 2 || len(tell) != 2 || gone != members-2 {
		t.Errorf("%d steps told %v and took %d", steps, tell, gone)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE flags & 32 <> 0`); n != 2 {
		t.Errorf("%d jobs are marked as told", n)
	}
	var last model.Effects
	for _, node := range []int32{2, 15_000} {
		f := model.Finish{Job: fsm.JobID{Workflow: out.ID, Node: node}, Ending: model.EndFailed, Worker: "w", Batch: 1}
		last = mustFlush(t, s, reign, f)
	}
	if len(last.Ready) != 1 || last.Ready[0].Job.Node != members+2 {
		t.Errorf("the continuation: %+v", last.Ready)
	}
}

// A waiting batch above the limit starts in steps, in order (I4).
func TestStartHugeBatch(t *testing.T) {
	s := openStore(t)
	s.cascadeLimit, s.cascadeChunk = 10, 20
	reign := newReign(t, s)
	ctx := context.Background()
	nodes := []model.NewNode{job("first"), batch("huge")}
	for range 50 {
		nodes = append(nodes, in(2, job("m")))
	}
	out := submitOne(t, s, graphOf(nodes, dag.Edge{Parent: 1, Child: 2, On: dag.Succeeded}))
	eff := mustFlush(t, s, reign, finish(out.Ready[0], model.EndSucceeded))
	if !eff.Cascades || len(eff.Ready) != 0 {
		t.Fatalf("effects %+v", eff)
	}
	next := int32(3)
	for _, want := range []int{20, 20, 10} {
		eff, more, err := s.Step(ctx, reign, nil)
		if err != nil || !more || len(eff.Ready) != want {
			t.Fatalf("%d rows, more %v, %v", len(eff.Ready), more, err)
		}
		for _, row := range eff.Ready {
			if row.Job.Node != next {
				t.Fatalf("node %d is free before %d", row.Job.Node, next)
			}
			next++
		}
	}
	if _, more, err := s.Step(ctx, reign, nil); more || err != nil {
		t.Errorf("more %v, %v", more, err)
	}
}

func TestCommandsOnLoneJobs(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	count := func(sql string, id fsm.WorkflowID) int64 { t.Helper(); return queryInt(t, s, sql, id) }
	sub := lone("a")
	row := submitOne(t, s, sub).Ready[0]
	eff, err := s.Cancel(ctx, reign, sub.ID, 0, false, nil)
	if err != nil || len(eff.Gone) != 1 || eff.Gone[0] != (dispatch.JobTurn{Job: row.Job}) || len(eff.Ended) != 1 {
		t.Fatalf("cancel: %+v, %v", eff, err)
	}
	if eff, err = s.Cancel(ctx, reign, sub.ID, 1, true, nil); err != nil || len(eff.Gone) != 0 {
		t.Errorf("cancel of an ended job: %+v, %v", eff, err)
	}
	n, eff, err := s.Retry(ctx, reign, sub.ID, 0, false, nil)
	if err != nil || n != 1 || len(eff.Ready) != 1 || eff.Ready[0].Turn != 1 || eff.Ready[0].Batch != -1 {
		t.Fatalf("retry: %d, %+v, %v", n, eff, err)
	}
	_, _, err = s.Retry(ctx, reign, sub.ID, 1, false, nil)
	if want := "retry node " + sub.ID.String() + "/1: refused: job 1 has not ended"; !errors.Is(err, model.ErrRefused) || err.Error() != want {
		t.Errorf("retry of an open job: %v, want %s", err, want)
	}
	mustFlush(t, s, reign, finish(eff.Ready[0], model.EndFailed))
	if _, err := s.Dismiss(ctx, reign, sub.ID, 1, []byte("42"), "paid by hand"); err != nil {
		t.Fatal(err)
	}
	if n := count(`SELECT count(*) FROM finished_jobs WHERE workflow_id = $1 AND outcome = 1 AND result = '42' AND turn = 3 AND batch IS NULL`, sub.ID); n != 1 {
		t.Error("the dismissed job is not succeeded")
	}
	if _, err := s.Dismiss(ctx, reign, sub.ID, 1, nil, ""); !errors.Is(err, model.ErrRefused) || !strings.Contains(err.Error(), "can be dismissed") {
		t.Errorf("dismissed twice: %v", err)
	}
	if n := count(`SELECT count(*) FROM audit WHERE workflow_id = $1 AND action = 'dismiss' AND note = 'paid by hand' AND node = 1`, sub.ID); n != 1 {
		t.Error("no audit of the dismissal")
	}
	if n := count(`SELECT count(*) FROM workflows WHERE id = $1`, sub.ID); n != 0 {
		t.Error("a lone job has a row in workflows")
	}
	for _, err := range []error{
		func() error { _, err := s.Cancel(ctx, reign, newID(), 0, false, nil); return err }(),
		func() error { _, err := s.Cancel(ctx, reign, sub.ID, 2, false, nil); return err }(),
		func() error { _, err := s.SetPaused(ctx, reign, newID(), true); return err }(),
	} {
		if !errors.Is(err, model.ErrNotFound) {
			t.Errorf("an unknown job: %v", err)
		}
	}
}

// T2: a new life has a full budget, attempts go on counting, clocks restart.
func TestRetryBudget(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	three := job("a")
	three.Job.MaxAttempts = 3
	three.Job.Opts = options(t, &heddlev1.JobOptions{
		Retry: &heddlev1.RetryPolicy{Attempts: 3}, WaitTimeout: durationpb.New(time.Hour), Deadline: durationpb.New(2 * time.Hour),
	})
	three.Job.WaitTimeout, three.Job.Deadline = time.Hour, 2*time.Hour
	out := submitOne(t, s, graphOf([]model.NewNode{three, job("b")}))
	row := out.Ready[0]
	for range 2 {
		f := finish(row, model.EndRetry)
		f.How = 2
		row = mustFlush(t, s, reign, f).Ready[0]
	}
	mustFlush(t, s, reign, finish(row, model.EndFailed))
	n, eff, err := s.Retry(context.Background(), reign, out.ID, 0, false, nil)
	if err != nil || n != 1 || len(eff.Ready) != 1 {
		t.Fatalf("retry: %d, %+v, %v", n, eff, err)
	}
	r := eff.Ready[0]
	if r.Attempt != 3 || r.MaxAttempts != 6 || r.Turn != 3 || r.Losses != 0 {
		t.Errorf("row %+v", r)
	}
	if hour := time.Hour.Microseconds(); r.ExpiresAt-r.RunAt != hour || r.DeadlineAt-r.RunAt != 2*hour || r.RunAt < row.RunAt {
		t.Errorf("the clocks do not start again: %+v", r)
	}
	// Reports of the first life find another turn.
	answers, _, err := s.Flush(context.Background(), reign, []model.Finish{finish(row, model.EndFailed), finish(out.Ready[0], model.EndSucceeded)})
	if err != nil || !answers[0].Stale || !answers[1].Stale {
		t.Errorf("%+v, %v", answers, err)
	}
}

func TestSetPaused(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	slow := lone("a")
	slow.Nodes[0].Job.WaitTimeout = time.Minute
	slow.Nodes[0].Job.Opts = options(t, &heddlev1.JobOptions{WaitTimeout: durationpb.New(time.Minute)})
	graph := graphOf([]model.NewNode{job("a"), job("b")})
	for _, sub := range []model.Submission{slow, graph} {
		submitOne(t, s, sub)
		for range 2 {
			if _, err := s.SetPaused(ctx, reign, sub.ID, true); err != nil {
				t.Fatal(err)
			}
		}
		if _, paused, err := s.Paused(ctx); err != nil || len(paused) != 1 || paused[0] != sub.ID {
			t.Fatalf("paused %v, %v", paused, err)
		}
		exec(t, s, `UPDATE jobs SET run_at = run_at - interval '1 hour', expires_at = expires_at - interval '1 hour' WHERE workflow_id = $1`, sub.ID)
		if expired, _, err := s.Expired(ctx, 10); err != nil || len(expired) != 0 {
			t.Errorf("a wait ended in a pause: %v, %v", expired, err)
		}
		if _, err := s.SetPaused(ctx, reign, sub.ID, false); err != nil {
			t.Fatal(err)
		}
		if expired, _, err := s.Expired(ctx, 10); err != nil || len(expired) != 0 {
			t.Errorf("a wait counts the pause: %v, %v", expired, err)
		}
	}
	// A cancel of the workflow lifts its pause.
	if _, err := s.SetPaused(ctx, reign, graph.ID, true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Cancel(ctx, reign, graph.ID, 0, false, nil); err != nil {
		t.Fatal(err)
	}
	if _, paused, err := s.Paused(ctx); err != nil || len(paused) != 0 {
		t.Errorf("paused after a cancel: %v, %v", paused, err)
	}
	if _, err := s.SetPaused(ctx, reign, graph.ID, true); !errors.Is(err, model.ErrRefused) {
		t.Errorf("pause of an ended workflow: %v", err)
	}
	// The lone job goes on as a graph of one.
	row := readyOf(t, s, slow.ID)[0]
	if eff := mustFlush(t, s, reign, finish(row, model.EndSucceeded)); len(eff.Ended) != 1 {
		t.Errorf("effects %+v", eff)
	}
}

// readyOf reads the available rows of one workflow.
func readyOf(t testing.TB, s *Store, id fsm.WorkflowID) []dispatch.Row {
	t.Helper()
	loaded, _, err := s.Walk(context.Background(), dispatch.LanePriority{}, true, 1000, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var rows []dispatch.Row
	for _, l := range loaded {
		for _, row := range l.Rows {
			if row.Job.Workflow == id {
				rows = append(rows, row)
			}
		}
	}
	return rows
}

func TestAppendKeys(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	for _, sub := range []model.Submission{lone("a"), graphOf([]model.NewNode{batch("b"), in(1, named("a", job("a")))})} {
		row := submitOne(t, s, sub).Ready[0]
		req := AppendRequest{
			Reign: &reign, ID: sub.ID, Batch: dag.ID(row.Batch), Key: "more", Lease: &fsm.Lease{Job: row.Job, Turn: row.Turn},
			Chunk: model.Chunk{Nodes: []model.NewNode{named("x", job("x")), named("y", job("y"))}, Edges: []dag.Edge{{Parent: -1, Child: -2}}},
		}
		first, n, created, eff, err := s.Append(ctx, req)
		if err != nil || !created || n != 2 || first != dag.ID(row.Job.Node)+1 || len(eff.Ready) != 1 {
			t.Fatalf("append: %d %d %v %+v %v", first, n, created, eff, err)
		}
		// The first attempt fails; the second adds nothing twice.
		f := finish(row, model.EndRetry)
		f.How, f.Batch = 1, max(row.Batch, 0)
		row = mustFlush(t, s, reign, f).Ready[0]
		if _, _, _, _, err := s.Append(ctx, req); !errors.Is(err, model.ErrStale) {
			t.Errorf("append under the lease of the first attempt: %v", err)
		}
		req.Lease.Turn = row.Turn
		if again, m, created, _, err := s.Append(ctx, req); err != nil || created || again != first || m != 2 {
			t.Errorf("second append: %d %d %v %v", again, m, created, err)
		}
		req.Key = "other"
		if _, _, _, _, err := s.Append(ctx, req); !errors.Is(err, model.ErrInvalid) {
			t.Errorf("names that are taken: %v", err)
		}
		if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE workflow_id = $1`, sub.ID); n != 3 {
			t.Errorf("%d jobs", n)
		}
	}
}

func TestAppendToAnEndedLoneJob(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	sub := lone("a")
	sub.Nodes[0].Name = "a"
	mustFlush(t, s, reign, finish(submitOne(t, s, sub).Ready[0], model.EndFailed))
	on := func(o dag.Outcome) AppendRequest {
		return AppendRequest{ID: sub.ID, Batch: -1, Chunk: model.Chunk{Nodes: []model.NewNode{job("n")}, Edges: []dag.Edge{{Parent: 1, Child: -1, On: o}}}}
	}
	taken := on(dag.Failed)
	taken.Chunk.Nodes[0].Name = "a"
	if _, _, _, _, err := s.Append(ctx, taken); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("the name of the lone job: %v", err)
	}
	if first, _, _, eff, err := s.Append(ctx, on(dag.Succeeded)); err != nil || first != 2 || len(eff.Ready) != 0 {
		t.Fatalf("first %d, %+v, %v", first, eff, err)
	}
	first, _, _, eff, err := s.Append(ctx, on(dag.Failed))
	if err != nil || first != 3 || len(eff.Ready) != 1 {
		t.Fatalf("first %d, %+v, %v", first, eff, err)
	}
	mustFlush(t, s, reign, finish(eff.Ready[0], model.EndSucceeded))
	if n := queryInt(t, s, `SELECT count(*) FROM workflows WHERE id = $1 AND total = 3 AND failed = 1 AND skipped = 1 AND succeeded = 1 AND outcome = 2 AND state = 2 AND finished_at IS NOT NULL`, sub.ID); n != 1 {
		t.Error("the workflow did not end as it should")
	}
	// And the failure can be mended; what was skipped waits again.
	if n, eff, err := s.Retry(ctx, reign, sub.ID, 0, false, nil); err != nil || n != 1 || len(eff.Ready) != 1 {
		t.Errorf("retry: %d, %+v, %v", n, eff, err)
	}
}
