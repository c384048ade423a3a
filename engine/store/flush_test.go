package store

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// finish ends the job of a row.
func finish(row dispatch.Row, ending model.Ending) model.Finish {
	return model.Finish{Job: row.Job, Turn: row.Turn, Ending: ending, Worker: "w", Batch: row.Batch, Flags: row.Flags}
}

// mustFlush writes ends that are all to be answered as done.
func mustFlush(t testing.TB, s *Store, reign model.Reign, items ...model.Finish) model.Effects {
	t.Helper()
	answers, eff, err := s.Flush(context.Background(), reign, items)
	if err != nil {
		t.Fatalf("flush: %v", err)
	}
	for i, a := range answers {
		if a != (model.Flushed{}) {
			t.Fatalf("%s: answered %+v", items[i].Job, a)
		}
	}
	return eff
}

func options(t testing.TB, o *heddlev1.JobOptions) []byte {
	t.Helper()
	b, err := proto.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFlushCountsAttempts(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	row := submitOne(t, s, lone("mail")).Ready[0]
	steps := []struct {
		ending                model.Ending
		how                   int16
		attempt, losses, turn int64
	}{
		{model.EndRetry, 1, 1, 0, 1},
		{model.EndSnooze, 3, 1, 0, 2},
		{model.EndReleased, 4, 1, 0, 3},
		{model.EndRetry, 2, 2, 1, 4},
		{model.EndRetry, 5, 3, 1, 5},
	}
	for i, step := range steps {
		f := finish(row, step.ending)
		f.How, f.Error, f.Delay, f.Ran = step.how, "boom", time.Hour, time.Second
		if step.ending == model.EndReleased {
			f.Delay = 0
		}
		eff := mustFlush(t, s, reign, f)
		if len(eff.Ready) != 1 {
			t.Fatalf("step %d: ready %+v", i, eff.Ready)
		}
		before := row
		row = eff.Ready[0]
		if int64(row.Attempt) != step.attempt || int64(row.Losses) != step.losses || int64(row.Turn) != step.turn {
			t.Errorf("step %d: row %+v", i, row)
		}
		if moved := row.RunAt != before.RunAt; moved == (step.ending == model.EndReleased) {
			t.Errorf("step %d: run_at %d, before %d", i, row.RunAt, before.RunAt)
		}
		if string(row.Args) != "{}" || row.Batch != -1 {
			t.Errorf("step %d: row %+v", i, row)
		}
		// The same report once more, as after an answer that was lost.
		if eff := mustFlush(t, s, reign, f); len(eff.Ready) != 0 {
			t.Errorf("step %d: the repeat frees %+v", i, eff.Ready)
		}
	}
	f := finish(row, model.EndFailed)
	f.Error, f.Ran, f.Ago = "last", 2*time.Second, time.Second
	eff := mustFlush(t, s, reign, f)
	if len(eff.Ended) != 1 || eff.Ended[0] != row.Job.Workflow {
		t.Errorf("ended %v", eff.Ended)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM finished_jobs WHERE workflow_id = $1 AND attempt = 4 AND turn = 6 AND outcome = 2 AND error = 'last' AND worker = 'w'
		AND finished_at - started_at = interval '2 seconds' AND batch IS NULL`, row.Job.Workflow); n != 1 {
		t.Error("the row in the history is not as reported")
	}
	if n := queryInt(t, s, `SELECT count(*) FROM attempts WHERE workflow_id = $1 AND worker = 'w' AND error = 'boom' AND attempt = CASE how WHEN 1 THEN 1 WHEN 2 THEN 2 WHEN 3 THEN 2 WHEN 4 THEN 2 WHEN 5 THEN 3 END`, row.Job.Workflow); n != 5 {
		t.Errorf("%d attempts as reported", n)
	}
	// All reports of its life, replayed: stale or long done, and nothing moves.
	answers, _, err := s.Flush(context.Background(), reign, []model.Finish{
		{Job: row.Job, Turn: 5, Ending: model.EndSucceeded, Worker: "w", Batch: -1},
		{Job: row.Job, Turn: 3, Ending: model.EndFailed, Worker: "w", Batch: -1},
	})
	if err != nil || !answers[0].Stale || !answers[1].Stale {
		t.Errorf("stale reports: %+v, %v", answers, err)
	}
}

func TestFlushExpiredCountsNoAttempt(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	row := submitOne(t, s, lone("mail")).Ready[0]
	f := finish(row, model.EndFailed)
	f.Worker, f.Error = "", "waited too long"
	mustFlush(t, s, reign, f)
	if n := queryInt(t, s, `SELECT count(*) FROM finished_jobs WHERE attempt = 0 AND started_at IS NULL AND worker IS NULL AND outcome = 2`); n != 1 {
		t.Error("an attempt was counted or a start made up")
	}
}

func TestFlushLargeResults(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	large := bytes.Repeat([]byte("x"), PayloadThreshold+1)
	for _, nodes := range [][]model.NewNode{nil, {job("a"), job("b")}} {
		sub := lone("a")
		if nodes != nil {
			sub = graphOf(nodes)
		}
		row := submitOne(t, s, sub).Ready[0]
		f := finish(row, model.EndSucceeded)
		f.Result = large
		mustFlush(t, s, reign, f)
		if n := queryInt(t, s, `SELECT count(*) FROM finished_jobs f JOIN payloads p USING (workflow_id, node) WHERE workflow_id = $1 AND slot = 1 AND length(body) = $2 AND f.flags & 128 <> 0 AND f.result IS NULL`, sub.ID, len(large)); n != 1 {
			t.Errorf("lone %v: the result is not in payloads", sub.Lone)
		}
		// A stale report leaves the payload alone.
		f.Result = bytes.Repeat([]byte("y"), PayloadThreshold+1)
		f.Turn = 7
		if answers, _, err := s.Flush(context.Background(), reign, []model.Finish{f}); err != nil || !answers[0].Stale {
			t.Errorf("stale: %+v, %v", answers, err)
		}
		if n := queryInt(t, s, `SELECT count(*) FROM payloads WHERE workflow_id = $1 AND body = $2`, sub.ID, large); n != 1 {
			t.Error("a stale report changed the result")
		}
	}
}

// Two reports of one job in one flush: one end is written, the other is told
// apart from it by its turn or its outcome.
func TestFlushTwoReportsOfOneJob(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	for _, sub := range []model.Submission{lone("a"), graphOf([]model.NewNode{job("a"), job("b")})} {
		row := submitOne(t, s, sub).Ready[0]
		old := finish(row, model.EndFailed)
		old.Turn = 8
		retry := finish(row, model.EndRetry)
		retry.How = 1
		items := []model.Finish{old, finish(row, model.EndSucceeded), finish(row, model.EndSucceeded), retry}
		answers, eff, err := s.Flush(context.Background(), reign, items)
		if err != nil {
			t.Fatal(err)
		}
		done := !answers[1].Stale && !answers[2].Stale
		if !answers[0].Stale || done == !answers[3].Stale {
			t.Errorf("lone %v: %+v", sub.Lone, answers)
		}
		if open := queryInt(t, s, `SELECT count(*) FROM jobs WHERE workflow_id = $1 AND node = 1`, sub.ID); (open == 0) != done || len(eff.Ready) != int(open) {
			t.Errorf("lone %v: %d open rows, answers %+v", sub.Lone, open, answers)
		}
	}
}

// A job that was told to cancel and then fails an attempt does not run again.
func TestFlushRetryOfCancelledEnds(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	for _, sub := range []model.Submission{lone("a"), graphOf([]model.NewNode{job("a"), job("b")}, dag.Edge{Parent: 1, Child: 2, On: dag.Cancelled})} {
		row := submitOne(t, s, sub).Ready[0]
		eff, err := s.Cancel(ctx, reign, sub.ID, 1, false, []int32{1})
		if err != nil || len(eff.Tell) != 1 || eff.Tell[0] != row.Job || len(eff.Gone) != 0 {
			t.Fatalf("cancel of a running job: %+v, %v", eff, err)
		}
		f := finish(row, model.EndRetry)
		f.How, f.Error = 1, "boom"
		eff = mustFlush(t, s, reign, f)
		if n := queryInt(t, s, `SELECT count(*) FROM finished_jobs WHERE workflow_id = $1 AND outcome = 4 AND error = 'boom'`, sub.ID); n != 1 {
			t.Errorf("lone %v: not cancelled", sub.Lone)
		}
		if !sub.Lone && (len(eff.Ready) != 1 || eff.Ready[0].Job.Node != 2) {
			t.Errorf("the continuation: %+v", eff.Ready)
		}
	}
}

func TestReleaseStartsTheClocks(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	slow := job("b")
	slow.Job.Opts = options(t, &heddlev1.JobOptions{
		Delay: durationpb.New(time.Hour), WaitTimeout: durationpb.New(2 * time.Hour), Deadline: durationpb.New(90 * time.Minute),
	})
	sub := graphOf([]model.NewNode{job("a"), slow}, dag.Edge{Parent: 1, Child: 2, On: dag.Succeeded})
	row := submitOne(t, s, sub).Ready[0]
	eff := mustFlush(t, s, reign, finish(row, model.EndSucceeded))
	if len(eff.Ready) != 1 {
		t.Fatalf("ready %+v", eff.Ready)
	}
	r := eff.Ready[0]
	hour := time.Hour.Microseconds()
	now, err := s.Now(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if d := r.RunAt - now.UnixMicro() - hour; d > 0 || d < -time.Minute.Microseconds() {
		t.Errorf("due %v from one hour ahead", time.Duration(d)*time.Microsecond)
	}
	if r.DeadlineAt-r.RunAt != hour*3/2 || r.ExpiresAt != r.DeadlineAt {
		t.Errorf("deadline %d, expires %d after run_at", r.DeadlineAt-r.RunAt, r.ExpiresAt-r.RunAt)
	}
	// A snooze restarts the wait, not the deadline (T5).
	f := finish(r, model.EndSnooze)
	f.How, f.Delay, f.Wait = 3, time.Minute, 2*time.Hour
	after := mustFlush(t, s, reign, f).Ready[0]
	if after.DeadlineAt != r.DeadlineAt || after.ExpiresAt-after.RunAt != 2*hour {
		t.Errorf("after a snooze: deadline %d, want %d; expires %d after run_at", after.DeadlineAt, r.DeadlineAt, after.ExpiresAt-after.RunAt)
	}
	f = finish(after, model.EndSnooze)
	f.How, f.Wait = 3, 24*time.Hour
	last := mustFlush(t, s, reign, f).Ready[0]
	if last.ExpiresAt != r.DeadlineAt {
		t.Errorf("the wait ends at %d, after the deadline %d", last.ExpiresAt, r.DeadlineAt)
	}
}

func TestFlushReturnedGraph(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	graph := func() *model.Chunk {
		return &model.Chunk{
			Nodes: []model.NewNode{named("next", job("n")), named("group", batch("")), in(-2, job("m"))},
			Edges: []dag.Edge{{Parent: 1, Child: -1, On: dag.Succeeded}},
		}
	}
	jobs := func(id fsm.WorkflowID) int64 {
		return queryInt(t, s, `SELECT (SELECT count(*) FROM jobs WHERE workflow_id = $1) + (SELECT count(*) FROM batches WHERE workflow_id = $1)`, id)
	}
	t.Run("of a failed attempt leaves nothing", func(t *testing.T) {
		row := submitOne(t, s, graphOf([]model.NewNode{job("a"), job("b")})).Ready[0]
		f := finish(row, model.EndFailed)
		f.Then = graph()
		mustFlush(t, s, reign, f)
		if n := jobs(row.Job.Workflow); n != 1 {
			t.Errorf("%d open nodes", n)
		}
	})
	t.Run("of a stale report leaves nothing", func(t *testing.T) {
		row := submitOne(t, s, graphOf([]model.NewNode{job("a"), job("b")})).Ready[0]
		f := finish(row, model.EndSucceeded)
		f.Then, f.Turn = graph(), 3
		answers, _, err := s.Flush(ctx, reign, []model.Finish{f})
		if err != nil || !answers[0].Stale || jobs(row.Job.Workflow) != 2 {
			t.Errorf("%+v, %v, %d open nodes", answers, err, jobs(row.Job.Workflow))
		}
	})
	t.Run("continues a graph", func(t *testing.T) {
		out := submitOne(t, s, graphOf([]model.NewNode{job("a"), job("b")}))
		f := finish(out.Ready[0], model.EndSucceeded)
		f.Then = graph()
		eff := mustFlush(t, s, reign, f, finish(out.Ready[1], model.EndSucceeded))
		if len(eff.Ready) != 2 || eff.Ready[0].Job.Node != 3 || eff.Ready[1].Job.Node != 5 || len(eff.Ended) != 0 {
			t.Errorf("effects %+v", eff)
		}
		if n := queryInt(t, s, `SELECT released_by FROM jobs WHERE workflow_id = $1 AND node = 3`, out.ID); n != 1 {
			t.Errorf("released by %d", n)
		}
		eff = mustFlush(t, s, reign, finish(eff.Ready[0], model.EndSucceeded), finish(eff.Ready[1], model.EndSucceeded))
		if len(eff.Ended) != 1 {
			t.Errorf("the workflow did not end: %+v", eff)
		}
	})
	t.Run("makes a graph of a lone job", func(t *testing.T) {
		row := submitOne(t, s, lone("a")).Ready[0]
		f := finish(row, model.EndSucceeded)
		f.Then, f.Result = graph(), []byte("7")
		eff := mustFlush(t, s, reign, f, finish(submitOne(t, s, lone("b")).Ready[0], model.EndSucceeded))
		if len(eff.Ready) != 2 || eff.Ready[0].Batch != 0 || eff.Ready[1].Batch != 3 {
			t.Fatalf("effects %+v", eff)
		}
		if n := queryInt(t, s, `SELECT count(*) FROM finished_jobs WHERE workflow_id = $1 AND batch = 0 AND flags = 258 AND result = '7'`, row.Job.Workflow); n != 1 {
			t.Error("the job is not in its graph")
		}
		if n := queryInt(t, s, `SELECT count(*) FROM workflows WHERE id = $1 AND total = 3 AND succeeded = 1 AND next_node = 5 AND state = 1`, row.Job.Workflow); n != 1 {
			t.Error("the workflow's row is wrong")
		}
		mustFlush(t, s, reign, f) // the repeat finds all done
		if n := jobs(row.Job.Workflow); n != 3 {
			t.Errorf("%d open nodes after a repeat", n)
		}
	})
	t.Run("refused leaves the others", func(t *testing.T) {
		out := submitOne(t, s, graphOf([]model.NewNode{job("a"), named("next", job("b")), job("c")}))
		bad := finish(out.Ready[0], model.EndSucceeded)
		bad.Then = graph() // "next" is taken
		unknown := finish(out.Ready[2], model.EndSucceeded)
		unknown.Then = &model.Chunk{Nodes: []model.NewNode{job("x")}, Edges: []dag.Edge{{Parent: 99, Child: -1, On: dag.Succeeded}}}
		other := finish(submitOne(t, s, lone("d")).Ready[0], model.EndSucceeded)
		answers, _, err := s.Flush(ctx, reign, []model.Finish{bad, finish(out.Ready[1], model.EndFailed), unknown, other})
		if err != nil {
			t.Fatal(err)
		}
		for i, refused := range []bool{true, false, true, false} {
			if a := answers[i]; a.Stale || (a.Err != nil) != refused || refused && !errors.Is(a.Err, model.ErrInvalid) && !errors.Is(a.Err, model.ErrNotFound) {
				t.Errorf("item %d: %+v", i, a)
			}
		}
		if !strings.Contains(answers[0].Err.Error(), `"next"`) {
			t.Errorf("the error names no name: %v", answers[0].Err)
		}
		if n := queryInt(t, s, `SELECT count(*) FROM workflows WHERE id = $1 AND failed = 1 AND total = 3 AND next_node = 4`, out.ID); n != 1 {
			t.Error("the refused graphs left something behind")
		}
		// Without its graph the success counts.
		bad.Then, unknown.Then = nil, nil
		mustFlush(t, s, reign, bad, unknown)
	})
	t.Run("several into one workflow", func(t *testing.T) {
		out := submitOne(t, s, graphOf([]model.NewNode{job("a"), job("b"), job("c")}))
		var items []model.Finish
		for i, row := range out.Ready {
			f := finish(row, model.EndSucceeded)
			f.Then = &model.Chunk{Nodes: []model.NewNode{job("x")}, Edges: []dag.Edge{{Parent: dag.ID(row.Job.Node), Child: -1, On: dag.Succeeded}}}
			if i == 1 {
				f.Then.Edges[0].Parent = 77
			}
			items = append(items, f)
		}
		answers, eff, err := s.Flush(ctx, reign, items)
		if err != nil || answers[0] != (model.Flushed{}) || answers[1].Err == nil || answers[2] != (model.Flushed{}) || len(eff.Ready) != 2 {
			t.Errorf("%+v %+v %v", answers, eff, err)
		}
	})
	t.Run("dropped in a cancelled batch", func(t *testing.T) {
		out := submitOne(t, s, graphOf([]model.NewNode{job("a"), job("b")}))
		if _, err := s.Cancel(ctx, reign, out.ID, 0, false, []int32{1, 2}); err != nil {
			t.Fatal(err)
		}
		f := finish(out.Ready[0], model.EndSucceeded)
		f.Then = graph()
		mustFlush(t, s, reign, f)
		if n := jobs(out.ID); n != 1 {
			t.Errorf("%d open nodes", n)
		}
	})
}

// Two members of a batch end in two flushes: the batch ends once (good_job 832).
func TestFlushLastMembersSideBySide(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	for range 20 {
		out := submitOne(t, s, graphOf([]model.NewNode{batch("b"), in(1, job("m")), in(1, job("n")), job("c")}, dag.Edge{Parent: 1, Child: 4, On: dag.Succeeded}))
		effs := make(chan model.Effects, 2)
		for _, row := range out.Ready {
			go func() {
				_, eff, err := s.Flush(context.Background(), reign, []model.Finish{finish(row, model.EndSucceeded)})
				if err != nil {
					t.Error(err)
				}
				effs <- eff
			}()
		}
		a, b := <-effs, <-effs
		if len(a.Ready)+len(b.Ready) != 1 {
			t.Fatalf("the continuation was released %d times", len(a.Ready)+len(b.Ready))
		}
	}
}
