package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// assorted fills a store with jobs of all kinds and states, lone ones and such in
// graphs, some of them leased, and gives them as Job shows them.
func assorted(t testing.TB, s *Store, rng *rand.Rand) []*heddlev1.Job {
	t.Helper()
	ctx := context.Background()
	tagged := options(t, &heddlev1.JobOptions{Tags: []string{"urgent", "x"}})
	var ids []fsm.JobID
	begin := time.Now().Add(-time.Hour)
	for i := range 90 {
		sub := lone([]string{"mail", "fax", "print"}[rng.IntN(3)])
		if rng.IntN(3) == 0 {
			sub = graphOf([]model.NewNode{job("mail"), named("a", job("fax")), batch("b"), in(3, job("print")), in(3, named("a", job("mail")))}, dag.Edge{Parent: 1, Child: 2, On: 1})
		}
		sub.ID = idAt(begin.Add(time.Duration(i/2) * time.Second))
		for k := range sub.Nodes {
			if j := sub.Nodes[k].Job; j != nil {
				if rng.IntN(4) == 0 {
					j.Opts = tagged
				}
				j.Queue = []string{"default", "bulk"}[rng.IntN(2)]
				ids = append(ids, fsm.JobID{Workflow: sub.ID, Node: int32(k + 1)})
			}
		}
		submitOne(t, s, sub)
	}
	leases := heldLeases{}
	for _, id := range ids {
		switch rng.IntN(6) {
		case 0, 1, 2:
			outcome := []dag.Outcome{dag.Succeeded, dag.Failed, dag.Cancelled, dag.Skipped}[rng.IntN(4)]
			end(t, s, id.Workflow, id.Node, outcome, "")
			at := begin.Add(time.Duration(rng.IntN(5)) * time.Minute) // many ends at the same time
			exec(t, s, `UPDATE finished_jobs SET finished_at = $3 WHERE workflow_id = $1 AND node = $2`, id.Workflow, id.Node, at)
			if outcome == dag.Failed {
				exec(t, s, `UPDATE finished_jobs SET error = $3 WHERE workflow_id = $1 AND node = $2`, id.Workflow, id.Node,
					[]string{"No route to 10.0.0.1:80", "no route to 10.0.0.2:80", "100%_done\nnever", `user "x" unknown`}[rng.IntN(4)])
			}
		case 3:
			exec(t, s, `UPDATE jobs SET state = 1, attempt = $3, run_at = now() + interval '1 hour' WHERE workflow_id = $1 AND node = $2`, id.Workflow, id.Node, rng.IntN(2))
		case 4:
			exec(t, s, `UPDATE jobs SET state = 1, run_at = now() - interval '1 minute' WHERE workflow_id = $1 AND node = $2`, id.Workflow, id.Node)
			leases[id] = fsm.Lease{Job: id, ID: 1, GrantedAt: time.Now().UnixMicro()}
		}
	}
	s.ShowLeases(leases)
	jobs := make([]*heddlev1.Job, len(ids))
	for i, id := range ids {
		j, err := s.Job(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		jobs[i] = j
	}
	return jobs
}

// fits is what a filter says, job by job.
func fits(j *heddlev1.Job, states []heddlev1.State, f *heddlev1.JobFilter) bool {
	created := j.GetCreatedAt().AsTime()
	words := strings.Fields(strings.ToLower(f.GetError()))
	return (len(states) == 0 || slices.Contains(states, j.GetState())) &&
		(len(f.GetStates()) == 0 || slices.Contains(f.GetStates(), j.GetState())) &&
		(f.GetKind() == "" || j.GetKind() == f.GetKind()) && (f.GetQueue() == "" || j.GetQueue() == f.GetQueue()) &&
		(f.GetWorkflowId() == "" || j.GetWorkflowId() == f.GetWorkflowId()) &&
		(f.Batch == nil || j.GetBatch() == f.GetBatch()) && (f.GetName() == "" || j.GetName() == f.GetName()) &&
		!slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(strings.ToLower(j.GetError()), w) }) &&
		(f.GetErrorGroup() == "" || j.GetError() != "" && errorGroup(j.GetError()) == f.GetErrorGroup()) &&
		(f.GetTag() == "" || slices.Contains(j.GetOptions().GetTags(), f.GetTag())) &&
		(f.GetFrom() == nil || !created.Before(f.GetFrom().AsTime())) && (f.GetTo() == nil || created.Before(f.GetTo().AsTime()))
}

// pages reads a list to its end, in pages of a size.
func pages(t testing.TB, s *Store, req *heddlev1.JobServiceListRequest) (jobs []*heddlev1.Job) {
	t.Helper()
	req = proto.CloneOf(req)
	for range 10_000 {
		page, err := s.Jobs(context.Background(), req)
		if err != nil {
			t.Fatalf("%v: %v", req, err)
		}
		if len(page.GetJobs()) > int(req.GetPageSize()) {
			t.Fatalf("%v: %d jobs on a page", req, len(page.GetJobs()))
		}
		jobs = append(jobs, page.GetJobs()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return jobs
		}
	}
	t.Fatalf("%v: no end", req)
	return nil
}

func jobIDs(jobs []*heddlev1.Job) []string {
	ids := make([]string, len(jobs))
	for i, j := range jobs {
		ids[i] = j.GetId()
	}
	return ids
}

// Every filter finds what a look at each job finds, in its order, in pages of any
// size.
func TestJobFilters(t *testing.T) {
	s := openStore(t)
	rng := rand.New(rand.NewPCG(1, 2))
	all := assorted(t, s, rng)
	byAge := func(a, b *heddlev1.Job) int {
		return cmp.Or(cmp.Compare(b.GetWorkflowId(), a.GetWorkflowId()), cmp.Compare(b.GetNode(), a.GetNode()))
	}
	byEnd := func(a, b *heddlev1.Job) int {
		return cmp.Or(b.GetFinishedAt().AsTime().Compare(a.GetFinishedAt().AsTime()), byAge(a, b))
	}
	pick := func(chance int) bool { return rng.IntN(chance) == 0 }
	for round := range 120 {
		f := &heddlev1.JobFilter{}
		var states []heddlev1.State
		for range rng.IntN(4) {
			f.States = append(f.States, heddlev1.State(1+rng.IntN(9)))
		}
		if pick(3) {
			states = append(states, heddlev1.State(1+rng.IntN(9)), heddlev1.State(1+rng.IntN(9)))
		}
		if pick(5) {
			f.Kind = []string{"mail", "fax", "none"}[rng.IntN(3)]
		}
		if pick(5) {
			f.Queue = []string{"default", "bulk"}[rng.IntN(2)]
		}
		some := all[rng.IntN(len(all))]
		if pick(6) {
			f.WorkflowId = some.GetWorkflowId()
			if pick(2) {
				f.Batch = proto.Int32(int32(3 * rng.IntN(2)))
			}
		}
		if pick(6) {
			f.Error = []string{"ROUTE no", "unknown", "%_", "10.0.0.2"}[rng.IntN(4)]
		}
		if pick(8) {
			f.ErrorGroup = []string{"no route to …", "user … unknown", "No route to …"}[rng.IntN(3)]
		}
		if pick(6) {
			f.Tag = []string{"urgent", "urg"}[rng.IntN(2)]
		}
		if pick(6) {
			f.Name = "a"
		}
		if pick(6) {
			f.From = some.GetCreatedAt()
		}
		if pick(6) {
			f.To = timestamppb.New(some.GetCreatedAt().AsTime().Add(10 * time.Second))
		}
		var want []*heddlev1.Job
		onlyOthers := true
		for state := heddlev1.State_STATE_BLOCKED; state <= heddlev1.State_STATE_SKIPPED; state++ {
			asked := (len(states) == 0 || slices.Contains(states, state)) && (len(f.States) == 0 || slices.Contains(f.States, state))
			onlyOthers = onlyOthers && (!asked || state >= heddlev1.State_STATE_FAILED)
		}
		for _, j := range all {
			if fits(j, states, f) {
				want = append(want, j)
			}
		}
		slices.SortFunc(want, byAge)
		if onlyOthers && f.GetWorkflowId() == "" {
			slices.SortFunc(want, byEnd)
		}
		req := &heddlev1.JobServiceListRequest{States: states, Filter: f, PageSize: int32(1 + rng.IntN(30))}
		if got := pages(t, s, req); !slices.Equal(jobIDs(got), jobIDs(want)) {
			t.Errorf("round %d, %v:\ngot  %v\nwant %v", round, req, jobIDs(got), jobIDs(want))
		}
		for _, by := range []string{"kind", "queue", "error"} {
			checkGroups(t, s, f, by, want, len(states) > 0)
		}
	}
	for _, bad := range []*heddlev1.JobServiceListRequest{
		{Filter: &heddlev1.JobFilter{Batch: proto.Int32(3)}}, {PageToken: "AAAA"},
		{Filter: &heddlev1.JobFilter{States: []heddlev1.State{heddlev1.State_STATE_FAILED}}, PageToken: pageToken(lastKey)},
		{Filter: &heddlev1.JobFilter{WorkflowId: "1"}},
	} {
		if _, err := s.Jobs(context.Background(), bad); !errors.Is(err, model.ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// checkGroups compares the groups of a filter with the jobs it finds.
func checkGroups(t *testing.T, s *Store, f *heddlev1.JobFilter, by string, found []*heddlev1.Job, narrower bool) {
	t.Helper()
	if narrower {
		return // what was found is less than the filter finds
	}
	want := map[string]int64{}
	for _, j := range found {
		switch {
		case by == "kind":
			want[j.GetKind()+"|"]++
		case by == "queue":
			want[j.GetQueue()+"|"]++
		case j.GetError() != "":
			want[errorGroup(j.GetError())+"|"+j.GetKind()]++
		}
	}
	resp, err := s.JobGroups(context.Background(), &heddlev1.JobServiceGroupsRequest{Filter: f, By: by})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for i, g := range resp.GetGroups() {
		got[g.GetKey()+"|"+g.GetKind()] = g.GetJobs()
		if i > 0 && g.GetJobs() > resp.GetGroups()[i-1].GetJobs() {
			t.Errorf("groups by %s are not in order: %v", by, resp)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v by %s: got %v, want %v", f, by, got, want)
	}
}

// A retryable job is listed with the error of its latest attempt.
func TestListedRetryableJobs(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	row := submitOne(t, s, lone("mail")).Ready[0]
	for _, text := range []string{"first", "second"} {
		f := finish(row, model.EndRetry)
		f.How, f.Error, f.Delay = 1, text, time.Hour
		row = mustFlush(t, s, reign, f).Ready[0]
	}
	submitOne(t, s, lone("mail"))
	jobs := pages(t, s, &heddlev1.JobServiceListRequest{PageSize: 10})
	if len(jobs) != 2 || jobs[1].GetState() != heddlev1.State_STATE_RETRYABLE || jobs[1].GetError() != "second" || jobs[0].GetError() != "" {
		t.Errorf("listed %v", jobs)
	}
}

// Between two pages jobs end, start and come: what was there all the time is
// listed once, in spite of that.
func TestJobPagesWhileJobsMove(t *testing.T) {
	s := openStore(t)
	rng := rand.New(rand.NewPCG(3, 4))
	all := assorted(t, s, rng)
	seen := map[string]int{}
	req := &heddlev1.JobServiceListRequest{PageSize: 7}
	for i := 0; ; i++ {
		page, err := s.Jobs(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.GetJobs() {
			seen[j.GetId()]++
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
		sub := lone("new")
		submitOne(t, s, sub)
		for _, j := range all[i%5*10 : i%5*10+10] {
			if j.GetState() == heddlev1.State_STATE_AVAILABLE && rng.IntN(2) == 0 {
				id, err := parseWorkflowID(j.GetWorkflowId())
				if err != nil {
					t.Fatal(err)
				}
				exec(t, s, moveToHistory, id, j.GetNode())
			}
		}
	}
	for _, j := range all {
		if seen[j.GetId()] != 1 {
			t.Errorf("job %s was listed %d times", j.GetId(), seen[j.GetId()])
		}
	}
}

func TestFailures(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	all := assorted(t, s, rand.New(rand.NewPCG(5, 6)))
	want := map[string]int64{}
	for _, j := range all {
		if j.GetState() == heddlev1.State_STATE_FAILED && j.GetKind() == "mail" {
			want[errorGroup(j.GetError())]++
		}
	}
	resp, err := s.Failures(ctx, &heddlev1.StatsServiceFailuresRequest{Kind: "mail"})
	if err != nil || resp.SearchedBackTo != nil {
		t.Fatal(resp, err)
	}
	got := map[string]int64{}
	for _, g := range resp.GetGroups() {
		got[g.GetError()] = g.GetJobs().GetN()
		if g.GetKind() != "mail" || g.GetJobs().GetMore() || g.GetFirst().AsTime().After(g.GetLast().AsTime()) || g.GetExample() == "" {
			t.Errorf("group %v", g)
		}
		found := pages(t, s, &heddlev1.JobServiceListRequest{PageSize: 50, Filter: &heddlev1.JobFilter{Kind: "mail", ErrorGroup: g.GetError()}})
		if int64(len(found)) != g.GetJobs().GetN() {
			t.Errorf("%d jobs are found of %v", len(found), g)
		}
	}
	if len(want) == 0 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if resp, err := s.Failures(ctx, &heddlev1.StatsServiceFailuresRequest{Kind: "nobody's"}); err != nil || len(resp.GetGroups()) != 0 {
		t.Errorf("unknown kind: %v, %v", resp, err)
	}
	if _, err := s.Failures(ctx, &heddlev1.StatsServiceFailuresRequest{Limit: 501}); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("501 groups: %v", err)
	}
}

func TestTotals(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	all := assorted(t, s, rand.New(rand.NewPCG(7, 8)))
	want := map[heddlev1.State]int64{}
	for _, j := range all {
		want[j.GetState()]++
	}
	exec(t, s, `UPDATE batches SET state = 1`)
	exec(t, s, `UPDATE workflows SET state = 2 WHERE id IN (SELECT id FROM workflows ORDER BY id LIMIT 3)`)
	exec(t, s, `UPDATE finished_jobs SET finished_at = now() - interval '25 hours' WHERE outcome = 8`)
	if err := s.SetQueuePaused(ctx, "quiet", true); err != nil {
		t.Fatal(err)
	}
	got, err := s.Totals(ctx)
	if err != nil {
		t.Fatal(err)
	}
	running := queryInt(t, s, `SELECT count(*) FROM workflows WHERE state = 1`)
	// Blocked jobs of workflows that have ended are looked for no more.
	blocked := queryInt(t, s, `SELECT count(*) FROM jobs j JOIN workflows w ON w.id = j.workflow_id WHERE j.state = 0 AND w.state = 1`)
	for what, c := range map[string]struct {
		got  *heddlev1.Count
		want int64
	}{
		"blocked": {got.GetBlocked(), blocked}, "scheduled": {got.GetScheduled(), want[heddlev1.State_STATE_SCHEDULED]},
		"available": {got.GetAvailable(), want[heddlev1.State_STATE_AVAILABLE]}, "running": {got.GetRunning(), want[heddlev1.State_STATE_RUNNING]},
		"retryable": {got.GetRetryable(), want[heddlev1.State_STATE_RETRYABLE]}, "failed": {got.GetFailed(), want[heddlev1.State_STATE_FAILED]},
		"cancelled": {got.GetCancelled(), want[heddlev1.State_STATE_CANCELLED]}, "skipped": {got.GetSkipped(), 0},
		"unresolved": {got.GetUnresolved(), want[heddlev1.State_STATE_FAILED]}, "workflows": {got.GetWorkflows(), running}, "batches": {got.GetBatches(), running},
	} {
		if c.got.GetN() != c.want || c.got.GetMore() {
			t.Errorf("%s: got %v, want %d", what, c.got, c.want)
		}
	}
	if got.GetQueues() != 3 || got.GetPausedQueues() != 1 {
		t.Errorf("%d queues, %d paused", got.GetQueues(), got.GetPausedQueues())
	}
}

func TestHistory(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	a, err := s.route(ctx, "bulk", "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.route(ctx, "default", "b")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Minute)
	for range 2 { // sums add up
		err = s.AddMinutes(ctx, []MinuteSum{
			{Minute: now.Add(-5 * time.Minute), Route: a, Succeeded: 3, Retried: 1, RunUs: 4000, WaitUs: 400},
			{Minute: now.Add(-5 * time.Minute), Route: b, Failed: 2, RunUs: 200},
			{Minute: now.Add(-90 * time.Minute), Route: b, Cancelled: 1},
			{Minute: now.Add(-500 * 24 * time.Hour), Route: b, Cancelled: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	points, err := s.LastMinutes(ctx, 60)
	if err != nil || len(points) != 60 {
		t.Fatal(points, err)
	}
	var sum heddlev1.Minute
	for _, p := range points {
		sum.Succeeded += p.GetSucceeded()
		sum.Failed += p.GetFailed()
		sum.Cancelled += p.GetCancelled()
		if p.GetSucceeded() > 0 && (p.GetRunUs() != 8400/12 || p.GetWaitUs() != 800/12) {
			t.Errorf("means %v", p)
		}
	}
	if sum.Succeeded != 6 || sum.Failed != 4 || sum.Cancelled != 0 {
		t.Errorf("last hour %v", &sum)
	}
	if day, err := s.LastDay(ctx); err != nil || day.GetSucceeded() != 6 || day.GetCancelled() != 2 {
		t.Errorf("last day %v, %v", day, err)
	}
	h, err := s.History(ctx, &heddlev1.StatsServiceHistoryRequest{Points: 24, Queue: "bulk"})
	if err != nil || len(h.GetPoints()) != 24 || h.GetWidthMinutes() != 60 {
		t.Fatal(h, err)
	}
	var succeeded, failed int64
	for _, p := range h.GetPoints() {
		succeeded += p.GetSucceeded()
		failed += p.GetFailed()
	}
	if succeeded != 6 || failed != 0 {
		t.Errorf("of one queue: %d succeeded, %d failed", succeeded, failed)
	}
	for _, bad := range []*heddlev1.StatsServiceHistoryRequest{
		{Points: 2001}, {From: timestamppb.New(now), To: timestamppb.New(now.Add(-time.Hour))}, {From: timestamppb.New(now.Add(-400 * 24 * time.Hour))},
	} {
		if _, err := s.History(ctx, bad); !errors.Is(err, model.ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if err := s.RetainMinutes(ctx); err != nil {
		t.Fatal(err)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM stats_minutely`); n != 3 {
		t.Errorf("%d rows are kept", n)
	}
}
