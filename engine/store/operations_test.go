package store

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

const (
	actRetry   = heddlev1.Action_ACTION_RETRY
	actCancel  = heddlev1.Action_ACTION_CANCEL
	actDismiss = heddlev1.Action_ACTION_DISMISS
	actDelete  = heddlev1.Action_ACTION_DELETE
	actRunNow  = heddlev1.Action_ACTION_RUN_NOW
)

func filterOf(f *heddlev1.JobFilter) *heddlev1.Selection { return &heddlev1.Selection{Filter: f} }

func startOp(t testing.TB, s *Store, action heddlev1.Action, sel *heddlev1.Selection) *heddlev1.Operation {
	t.Helper()
	op, err := s.StartOperation(context.Background(), &heddlev1.OperationServiceStartRequest{
		Id: newID().String(), Action: action, Selection: sel, Note: "by test"}, "ada")
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// next takes the only running operation's next page.
func nextPage(t testing.TB, s *Store) (*RunningOperation, *OperationPage) {
	t.Helper()
	ops, err := s.RunningOperations(context.Background(), 10)
	if err != nil || len(ops) != 1 {
		t.Fatalf("%d running operations, %v", len(ops), err)
	}
	page, err := s.OperationPage(context.Background(), ops[0])
	if err != nil {
		t.Fatal(err)
	}
	return ops[0], page
}

// work carries out what is left of the only running operation.
func workOff(t testing.TB, s *Store, reign model.Reign) (eff []model.Effects) {
	t.Helper()
	for {
		op, page := nextPage(t, s)
		step := &OperationStep{PassedOver: page.PassedOver, Page: page}
		for _, j := range page.Jobs {
			step.Jobs = append(step.Jobs, j.ID)
		}
		e, err := s.Operate(context.Background(), reign, op, step)
		if err != nil {
			t.Fatal(err)
		}
		eff = append(eff, e)
		if page.Last {
			return eff
		}
	}
}

// failRows ends jobs of rows as failed.
func failRows(t testing.TB, s *Store, reign model.Reign, rows []dispatch.Row) {
	t.Helper()
	for part := range slices.Chunk(rows, 1000) {
		items := make([]model.Finish, len(part))
		for i, r := range part {
			items[i] = finish(r, model.EndFailed)
			items[i].Error = "boom"
		}
		mustFlush(t, s, reign, items...)
	}
}

func wantOp(t testing.TB, s *Store, id string, total, done, changed, passedOver int64, ended bool) *heddlev1.Operation {
	t.Helper()
	wid, err := parseWorkflowID(id)
	if err != nil {
		t.Fatal(err)
	}
	op, err := s.Operation(context.Background(), wid)
	if err != nil {
		t.Fatal(err)
	}
	if op.GetTotal() != total || op.GetDone() != done || op.GetChanged() != changed || op.GetPassedOver() != passedOver || (op.GetFinishedAt() != nil) != ended {
		t.Errorf("operation: %v, want total %d, done %d, changed %d, passed over %d, ended %t", op, total, done, changed, passedOver, ended)
	}
	return op
}

// A retry of the failed jobs of graphs and of lone jobs, by a filter: each is
// taken once, what succeeded is not, and the record tells it.
func TestOperationRetry(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	var nodes []model.NewNode
	nodes = append(nodes, batch("b"))
	for range 700 {
		nodes = append(nodes, in(1, job("mail")))
	}
	nodes = append(nodes, job("after"))
	graph := submitOne(t, s, graphOf(nodes, dag.Edge{Parent: 1, Child: 702}))
	failRows(t, s, reign, graph.Ready[:650])
	for _, r := range graph.Ready[650:] {
		mustFlush(t, s, reign, finish(r, model.EndSucceeded))
	}
	var lones []dispatch.Row
	for range 3 {
		lones = append(lones, submitOne(t, s, lone("mail")).Ready...)
	}
	failRows(t, s, reign, lones)
	other := submitOne(t, s, lone("other")).Ready
	failRows(t, s, reign, other)
	if n := queryInt(t, s, `SELECT state FROM workflows WHERE id = $1`, graph.ID); n != 2 {
		t.Fatalf("the graph has state %d", n)
	}

	sel := filterOf(&heddlev1.JobFilter{Kind: "mail"})
	if n, more, err := s.CountOperation(context.Background(), actRetry, sel); n != 653 || more || err != nil {
		t.Errorf("counted %d, %t, %v", n, more, err)
	}
	op := startOp(t, s, actRetry, sel)
	again, err := s.StartOperation(context.Background(), &heddlev1.OperationServiceStartRequest{Id: op.GetId(), Action: actRetry, Selection: sel, Note: "by test"}, "bob")
	if err != nil || again.GetAuthor() != "ada" {
		t.Errorf("the same once more: %v, %v", again, err)
	}
	if _, err := s.StartOperation(context.Background(), &heddlev1.OperationServiceStartRequest{Id: op.GetId(), Action: actCancel, Selection: sel}, "bob"); !errors.Is(err, model.ErrAlreadyExists) {
		t.Errorf("another one of the same id: %v", err)
	}
	// What fails after the start does not belong to it.
	failRows(t, s, reign, submitOne(t, s, lone("mail")).Ready)

	ready := 0
	for _, eff := range workOff(t, s, reign) {
		ready += len(eff.Ready)
	}
	if ready != 653 {
		t.Errorf("%d rows became ready", ready)
	}
	wantOp(t, s, op.GetId(), 653, 653, 653, 0, true)
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE state = 1`); n != 653 {
		t.Errorf("%d jobs are open", n)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE state = 0`); n != 1 {
		t.Errorf("%d jobs wait", n)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM audit WHERE action = 'retry' AND author = 'ada' AND note = 'by test'`); n != 653 {
		t.Errorf("%d rows of audit", n)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM workflows WHERE id = $1 AND state = 1 AND failed = 0 AND finished_at IS NULL`, graph.ID); n != 1 {
		t.Error("the graph did not come to life again")
	}
}

// An engine that dies half way: the next one goes on behind the last page that
// was written, and does nothing twice.
func TestOperationResumes(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	var nodes []model.NewNode
	for range 1200 {
		nodes = append(nodes, job("k"))
	}
	g := submitOne(t, s, graphOf(nodes))
	failRows(t, s, reign, g.Ready)
	op := startOp(t, s, actRetry, filterOf(&heddlev1.JobFilter{WorkflowId: g.ID.String()}))
	running, page := nextPage(t, s)
	if len(page.Jobs) != operationPage || page.Last {
		t.Fatalf("%d jobs, last %t", len(page.Jobs), page.Last)
	}
	// A part of the first page, then a crash before the rest of it.
	var ids []fsm.JobID
	for _, j := range page.Jobs[:200] {
		ids = append(ids, j.ID)
	}
	if _, err := s.Operate(context.Background(), reign, running, &OperationStep{Jobs: ids}); err != nil {
		t.Fatal(err)
	}
	wantOp(t, s, op.GetId(), 1200, 200, 200, 0, false)
	if _, err := s.Takeover(context.Background(), fsm.WorkflowID{1}, 8); err != nil {
		t.Fatal(err)
	}
	next := model.Reign{Epoch: 8, Timeline: reign.Timeline}
	if _, err := s.Operate(context.Background(), reign, running, &OperationStep{Jobs: ids, Page: page}); !errors.Is(err, ErrFenced) {
		t.Errorf("the reign of before: %v", err)
	}
	workOff(t, s, next)
	wantOp(t, s, op.GetId(), 1200, 1200, 1200, 0, true)
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE state = 1 AND life = 1`); n != 1200 {
		t.Errorf("%d jobs in their second life", n)
	}
}

// What the rules refuse is passed over, and the rest of the graph is done.
func TestOperationPassesOver(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	// Two members of a cancelled batch, two jobs beside it.
	g := submitOne(t, s, graphOf([]model.NewNode{batch("b"), in(1, job("k")), in(1, job("k")), job("k"), job("k")}))
	if _, err := s.Cancel(ctx, reign, g.ID, 1, false, nil); err != nil {
		t.Fatal(err)
	}
	failRows(t, s, reign, g.Ready[2:])
	op := startOp(t, s, actRetry, filterOf(&heddlev1.JobFilter{Kind: "k"}))
	workOff(t, s, reign)
	wantOp(t, s, op.GetId(), 4, 4, 2, 2, true)
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE node >= 4`); n != 2 {
		t.Errorf("%d jobs run again", n)
	}

	// Downstream: the first takes the second along, which is then not there to be
	// retried any more.
	d := submitOne(t, s, graphOf([]model.NewNode{job("d"), job("d")}, dag.Edge{Parent: 1, Child: 2, On: dag.Failed}))
	failRows(t, s, reign, d.Ready)
	failRows(t, s, reign, readyOf(t, s, d.ID))
	sel := filterOf(&heddlev1.JobFilter{WorkflowId: d.ID.String()})
	down, err := s.StartOperation(ctx, &heddlev1.OperationServiceStartRequest{Id: newID().String(), Action: actRetry, Selection: sel, Downstream: true}, "ada")
	if err != nil {
		t.Fatal(err)
	}
	workOff(t, s, reign)
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE workflow_id = $1 AND (node = 1 AND state = 1 OR node = 2 AND state = 0)`, d.ID); n != 2 {
		t.Errorf("%d of both are open", n)
	}
	if id, err := parseWorkflowID(down.GetId()); err != nil {
		t.Error(err)
	} else if o, err := s.Operation(ctx, id); err != nil || o.GetDone() != 2 || o.GetFinishedAt() == nil {
		t.Errorf("%v, %v", o, err)
	}
}

// Jobs named one by one: twice the same, unknown ones, and those in other states
// are passed over.
func TestOperationByName(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	a, b := submitOne(t, s, lone("k")), submitOne(t, s, lone("k"))
	failRows(t, s, reign, a.Ready)
	op := startOp(t, s, actDismiss, &heddlev1.Selection{Ids: []string{
		a.ID.String(), a.ID.String() + "/1", b.ID.String() + "/1", newID().String() + "/7"}})
	workOff(t, s, reign)
	wantOp(t, s, op.GetId(), 4, 4, 1, 3, true)
	if n := queryInt(t, s, `SELECT count(*) FROM finished_jobs WHERE workflow_id = $1 AND outcome = 1`, a.ID); n != 1 {
		t.Error("it is not dismissed")
	}
	for _, sel := range []*heddlev1.Selection{
		nil, {}, {Ids: []string{"x"}}, {Ids: []string{a.ID.String() + "/0"}}, {Ids: make([]string, maxNamed+1)},
		{Ids: []string{a.ID.String()}, Filter: &heddlev1.JobFilter{}},
	} {
		if _, err := s.StartOperation(context.Background(), &heddlev1.OperationServiceStartRequest{Id: newID().String(), Action: actRetry, Selection: sel}, ""); !errors.Is(err, model.ErrInvalid) {
			t.Errorf("selection %v: %v", sel, err)
		}
	}
	if _, err := s.StartOperation(context.Background(), &heddlev1.OperationServiceStartRequest{Id: newID().String(), Selection: filterOf(&heddlev1.JobFilter{})}, ""); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("no action: %v", err)
	}
}

// A filter whose states the action never applies to has nothing to do, and ends
// at once.
func TestOperationOnNothing(t *testing.T) {
	s := openStore(t)
	sel := filterOf(&heddlev1.JobFilter{States: []heddlev1.State{heddlev1.State_STATE_SUCCEEDED}})
	if n, more, err := s.CountOperation(context.Background(), actRetry, sel); n != 0 || more || err != nil {
		t.Errorf("%d, %t, %v", n, more, err)
	}
	op := startOp(t, s, actRetry, sel)
	if op.GetFinishedAt() == nil || op.GetTotal() != 0 {
		t.Errorf("%v", op)
	}
}

// Delete removes lone jobs and whole graphs that have ended, and leaves others.
func TestOperationDelete(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	l, g, open := submitOne(t, s, lone("k")), submitOne(t, s, graphOf([]model.NewNode{job("k"), job("k")})), submitOne(t, s, graphOf([]model.NewNode{job("k"), job("k")}))
	failRows(t, s, reign, l.Ready)
	failRows(t, s, reign, g.Ready)
	failRows(t, s, reign, open.Ready[:1])
	op := startOp(t, s, actDelete, filterOf(&heddlev1.JobFilter{Kind: "k"}))
	eff := workOff(t, s, reign)
	wantOp(t, s, op.GetId(), 4, 4, 3, 1, true)
	if n := queryInt(t, s, `SELECT count(*) FROM finished_jobs`); n != 1 {
		t.Errorf("%d ended jobs are left", n)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM workflows`); n != 1 {
		t.Errorf("%d workflows are left", n)
	}
	if len(eff[0].Touched) != 2 {
		t.Errorf("touched %v", eff[0].Touched)
	}
}

// held are leases as a test says.
type heldLeases map[fsm.JobID]fsm.Lease

func (h heldLeases) Leased(id fsm.WorkflowID) (out []fsm.Lease) {
	for _, l := range h {
		if l.Job.Workflow == id {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b fsm.Lease) int { return int(a.Job.Node - b.Job.Node) })
	return out
}

func (h heldLeases) LeaseOf(job fsm.JobID) (fsm.Lease, string, bool) {
	l, ok := h[job]
	return l, "w", ok
}

func (h heldLeases) LeasedBefore(at fsm.JobID, n int) (out []fsm.Lease) {
	for _, l := range h {
		if c := slices.Compare(l.Job.Workflow[:], at.Workflow[:]); c < 0 || c == 0 && l.Job.Node < at.Node {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b fsm.Lease) int {
		if c := slices.Compare(b.Job.Workflow[:], a.Job.Workflow[:]); c != 0 {
			return c
		}
		return int(b.Job.Node - a.Job.Node)
	})
	return out[:min(n, len(out))]
}

func (h heldLeases) LeaseCount() int { return len(h) }

// A filter by a state takes the jobs that were in it at the start, of those that
// still are.
func TestOperationFreezesItsFilter(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	sure := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// chain: the second is blocked behind the first.
	chain := submitOne(t, s, graphOf([]model.NewNode{job("k"), job("k")}, dag.Edge{Parent: 1, Child: 2}))
	later := lone("k")
	later.Nodes[0].Job.RunAt = time.Now().Add(time.Hour)
	scheduled := submitOne(t, s, later)
	runs := submitOne(t, s, lone("k"))
	retryable := submitOne(t, s, lone("k"))
	f := finish(retryable.Ready[0], model.EndRetry)
	f.Delay, f.How = time.Hour, 1
	mustFlush(t, s, reign, f)
	leases := heldLeases{}
	s.ShowLeases(leases)
	now, err := s.Now(ctx)
	sure(nil, err)
	leases[runs.Ready[0].Job] = fsm.Lease{Job: runs.Ready[0].Job, GrantedAt: now.UnixMicro()}

	ops := map[string][]heddlev1.State{
		"available": {heddlev1.State_STATE_AVAILABLE}, "running": {heddlev1.State_STATE_RUNNING},
		"waiting": {heddlev1.State_STATE_SCHEDULED, heddlev1.State_STATE_RETRYABLE}, "all": nil,
	}
	ids := map[string]string{}
	for name, states := range ops {
		ids[name] = startOp(t, s, actCancel, filterOf(&heddlev1.JobFilter{Kind: "k", States: states})).GetId()
	}

	// Now the first of the chain ends, which frees the second; it starts. The
	// running job fails and waits for its next attempt.
	mustFlush(t, s, reign, finish(chain.Ready[0], model.EndSucceeded))
	f = finish(runs.Ready[0], model.EndRetry)
	f.Delay, f.How = time.Hour, 1
	mustFlush(t, s, reign, f)
	delete(leases, runs.Ready[0].Job)
	fresh := submitOne(t, s, lone("k"))
	second := fsm.JobID{Workflow: chain.ID, Node: 2}

	running, err := s.RunningOperations(ctx, 10)
	sure(nil, err)
	got := map[string][]fsm.JobID{}
	for _, op := range running {
		page, err := s.OperationPage(ctx, op)
		sure(nil, err)
		for _, j := range page.Jobs {
			for name, id := range ids {
				if id == op.ID.String() {
					got[name] = append(got[name], j.ID)
				}
			}
		}
	}
	one := func(out model.Submitted) fsm.JobID { return fsm.JobID{Workflow: out.ID, Node: 1} }
	has := func(name string, job fsm.JobID) bool { return slices.Contains(got[name], job) }
	if has("available", one(fresh)) || has("all", one(fresh)) {
		t.Error("a job was taken that was submitted since")
	}
	if len(got["available"]) != 0 {
		t.Errorf("available then and now: %v", got["available"])
	}
	if len(got["running"]) != 0 {
		t.Errorf("running then and now: %v", got["running"])
	}
	if !has("waiting", one(scheduled)) || !has("waiting", one(retryable)) || len(got["waiting"]) != 2 {
		t.Errorf("waiting then and now: %v", got["waiting"])
	}
	if !has("all", second) || !has("all", one(runs)) || !has("all", one(scheduled)) || !has("all", one(retryable)) {
		t.Errorf("open then and now: %v", got["all"])
	}
}

// Run now makes jobs due at once, under a turn of their own, and begins their
// waits anew.
func TestRunNow(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := access.With(context.Background(), access.Caller{Name: "ada"})
	later := lone("k")
	later.Nodes[0].Job.RunAt = time.Now().Add(time.Hour)
	later.Nodes[0].Job.WaitTimeout, later.Nodes[0].Job.Deadline = time.Minute, 2*time.Hour
	later.Nodes[0].Job.Opts = options(t, &heddlev1.JobOptions{WaitTimeout: durationpb.New(time.Minute), Deadline: durationpb.New(2 * time.Hour)})
	out := submitOne(t, s, later)
	job := fsm.JobID{Workflow: out.ID, Node: 1}
	eff, err := s.RunNow(ctx, reign, job, nil)
	if err != nil || len(eff.Ready) != 1 || len(eff.Gone) != 1 || eff.Gone[0] != (dispatch.JobTurn{Job: job}) || eff.Ready[0].Turn != 1 || len(eff.Touched) != 1 {
		t.Fatalf("%+v, %v", eff, err)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE run_at <= now() AND expires_at = run_at + interval '1 minute' AND deadline_at = run_at + interval '2 hours'`); n != 1 {
		t.Error("its clocks do not count from now")
	}
	if n := queryInt(t, s, `SELECT count(*) FROM audit WHERE workflow_id = $1 AND node = 1 AND action = 'run now' AND author = 'ada'`, out.ID); n != 1 {
		t.Error("no audit")
	}
	if eff, err = s.RunNow(ctx, reign, job, nil); err != nil || len(eff.Ready) != 0 {
		t.Errorf("a job that is due: %+v, %v", eff, err)
	}
	if _, err = s.RunNow(ctx, reign, job, []int32{1}); !errors.Is(err, model.ErrRefused) {
		t.Errorf("a job that runs: %v", err)
	}
	mustFlush(t, s, reign, finish(eff0(t, s, job), model.EndSucceeded))
	if _, err = s.RunNow(ctx, reign, job, nil); !errors.Is(err, model.ErrRefused) {
		t.Errorf("a job that has ended: %v", err)
	}
	if _, err = s.RunNow(ctx, reign, fsm.JobID{Workflow: newID(), Node: 1}, nil); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("no job: %v", err)
	}
	g := submitOne(t, s, graphOf([]model.NewNode{named("x", model.NewNode{Job: &model.Job{Kind: "k", Queue: "q", MaxAttempts: 3}}), batch("b"), in(2, model.NewNode{Job: &model.Job{Kind: "k", Queue: "q", MaxAttempts: 3}})},
		dag.Edge{Parent: 1, Child: 2}))
	if _, err = s.RunNow(ctx, reign, fsm.JobID{Workflow: g.ID, Node: 3}, nil); !errors.Is(err, model.ErrRefused) {
		t.Errorf("a blocked job: %v", err)
	}
	if _, err = s.RunNow(ctx, reign, fsm.JobID{Workflow: g.ID, Node: 2}, nil); !errors.Is(err, model.ErrRefused) && !errors.Is(err, model.ErrNotFound) {
		t.Errorf("a batch: %v", err)
	}

	// Many at once, by an operation.
	for range 3 {
		sub := lone("many")
		sub.Nodes[0].Job.RunAt = time.Now().Add(time.Hour)
		submitOne(t, s, sub)
	}
	op := startOp(t, s, actRunNow, filterOf(&heddlev1.JobFilter{Kind: "many"}))
	if eff := workOff(t, s, reign); len(eff[0].Ready) != 3 || len(eff[0].Gone) != 3 {
		t.Errorf("%+v", eff)
	}
	wantOp(t, s, op.GetId(), 3, 3, 3, 0, true)
}

// eff0 is the ready row of a job.
func eff0(t testing.TB, s *Store, job fsm.JobID) dispatch.Row {
	t.Helper()
	for _, r := range readyOf(t, s, job.Workflow) {
		if r.Job == job {
			return r
		}
	}
	t.Fatalf("job %s is not ready", job)
	return dispatch.Row{}
}

// Operations are listed newest first, and can be stopped.
func TestOperationsList(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	submitOne(t, s, lone("k"))
	var ids []string
	for range 3 {
		ids = append(ids, startOp(t, s, actCancel, filterOf(&heddlev1.JobFilter{Kind: "k"})).GetId())
	}
	page, err := s.Operations(ctx, &heddlev1.OperationServiceListRequest{PageSize: 2})
	if err != nil || len(page.GetOperations()) != 2 || page.GetOperations()[0].GetId() != ids[2] || page.GetNextPageToken() == "" {
		t.Fatalf("%v, %v", page, err)
	}
	page, err = s.Operations(ctx, &heddlev1.OperationServiceListRequest{PageSize: 2, PageToken: page.GetNextPageToken()})
	if err != nil || len(page.GetOperations()) != 1 || page.GetOperations()[0].GetId() != ids[0] || page.GetNextPageToken() != "" {
		t.Fatalf("%v, %v", page, err)
	}
	first, err := parseWorkflowID(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.StopOperation(ctx, first, "bob"); err != nil {
		t.Fatal(err)
	}
	ops, err := s.RunningOperations(ctx, 2)
	if err != nil || len(ops) != 2 || !ops[0].Stop || ops[1].Stop {
		t.Fatalf("%v, %v", ops, err)
	}
	if err := s.EndOperation(ctx, reign, ops[0]); err != nil {
		t.Fatal(err)
	}
	op := wantOp(t, s, ids[0], 1, 0, 0, 0, true)
	if !op.GetStopRequested() || op.GetStoppedBy() != "bob" {
		t.Errorf("%v", op)
	}
	if err := s.StopOperation(ctx, first, "eve"); err != nil {
		t.Errorf("stop of one that has ended: %v", err)
	}
	if err := s.StopOperation(ctx, newID(), "eve"); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("stop of none: %v", err)
	}
	running, err := s.Operations(ctx, &heddlev1.OperationServiceListRequest{Running: true})
	if err != nil || len(running.GetOperations()) != 2 {
		t.Errorf("%v, %v", running, err)
	}
}

// The retention takes old operations, and what the audit has of lone jobs and of
// what belongs to no workflow.
func TestRetainOfOperations(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	whole, young := endedLone(t, s, 5), endedLone(t, s, 1)
	pinned := endedLone(t, s, 6)
	stays := submitOne(t, s, lone("k"))
	age(t, s, stays.ID, 6) // keeps its day
	for _, id := range []fsm.WorkflowID{whole, young, pinned} {
		exec(t, s, `INSERT INTO audit (workflow_id, node, action) VALUES ($1, 1, 'retry')`, id)
	}
	if err := s.Audit(ctx, "drain", "new"); err != nil {
		t.Fatal(err)
	}
	exec(t, s, `INSERT INTO audit (workflow_id, action, note, at) VALUES ($1, 'drain', 'old', now() - interval '5 days')`, fsm.WorkflowID{})
	old, ended := startOp(t, s, actCancel, filterOf(&heddlev1.JobFilter{})), startOp(t, s, actCancel, filterOf(&heddlev1.JobFilter{}))
	startOp(t, s, actCancel, filterOf(&heddlev1.JobFilter{})) // runs
	exec(t, s, `UPDATE operations SET finished_at = now() - interval '5 days' WHERE id = $1::text::uuid`, old.GetId())
	exec(t, s, `UPDATE operations SET finished_at = now() WHERE id = $1::text::uuid`, ended.GetId())
	if _, err := s.Retain(ctx, 3*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]int64{
		`SELECT count(*) FROM operations`:                                  2,
		`SELECT count(*) FROM audit WHERE action = 'retry'`:                1,
		`SELECT count(*) FROM audit WHERE note = 'old'`:                    0,
		`SELECT count(*) FROM audit WHERE note = 'new'`:                    1,
		`SELECT count(*) FROM operations WHERE finished_at IS NULL`:        1,
		`SELECT count(*) FROM finished_jobs WHERE finished_at IS NOT NULL`: 1,
	} {
		if n := queryInt(t, s, sql); n != want {
			t.Errorf("%s: %d, want %d", sql, n, want)
		}
	}
}
