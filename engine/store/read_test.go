package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// end moves a job to the history with a result, and counts it in its batch, as
// a flush does.
func end(t testing.TB, s *Store, id fsm.WorkflowID, node int32, outcome dag.Outcome, result string) {
	t.Helper()
	exec(t, s, moveToHistory, id, node)
	exec(t, s, `UPDATE finished_jobs SET outcome = $3, result = $4, worker = 'w1', started_at = now() - interval '1 s' WHERE workflow_id = $1 AND node = $2`,
		id, node, int16(outcome), []byte(result))
	column := map[dag.Outcome]string{dag.Succeeded: "succeeded", dag.Failed: "failed", dag.Cancelled: "cancelled", dag.Skipped: "skipped"}[outcome]
	exec(t, s, `UPDATE batches b SET `+column+` = b.`+column+` + 1 FROM finished_jobs f WHERE f.workflow_id = $1 AND f.node = $2 AND b.workflow_id = $1 AND b.node = f.batch`, id, node)
	exec(t, s, `UPDATE workflows w SET `+column+` = w.`+column+` + 1 FROM finished_jobs f WHERE f.workflow_id = $1 AND f.node = $2 AND w.id = $1 AND f.batch = 0`, id, node)
}

// campaign is a graph with a named job, two nested batches and continuations:
// 1 letter, 2 emails(3 first(4 mail, 5 mail), 6 mail), 7 report.
func campaign(t testing.TB, s *Store) fsm.WorkflowID {
	t.Helper()
	sub := graphOf([]model.NewNode{
		named("letter", job("render")), batch("emails"), in(2, batch("first")), in(3, named("a", job("mail"))), in(3, job("mail")), in(2, job("mail")),
		named("report", job("report")),
	}, dag.Edge{Parent: 1, Child: 2, On: 1}, dag.Edge{Parent: 2, Child: 7, On: 7})
	submitOne(t, s, sub)
	return sub.ID
}

func TestWorkflowCounts(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	id := campaign(t, s)
	end(t, s, id, 1, dag.Succeeded, `"hi"`)
	end(t, s, id, 4, dag.Failed, "")
	end(t, s, id, 5, dag.Succeeded, "")
	exec(t, s, `UPDATE batches SET state = 2, outcome = 2 WHERE workflow_id = $1 AND node = 3`, id)
	exec(t, s, `UPDATE batches SET state = 1, failed = failed + 1 WHERE workflow_id = $1 AND node = 2`, id)
	exec(t, s, `UPDATE jobs SET state = 1, run_at = now() + interval '1 h', attempt = 1 WHERE workflow_id = $1 AND node = 6`, id)
	w, err := s.Workflow(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if w.State != heddlev1.State_STATE_RUNNING || w.Nodes != 7 || w.Name != "graph" {
		t.Errorf("workflow %v", w)
	}
	if want := (&heddlev1.Counts{Total: 5, Succeeded: 2, Failed: 1, Retryable: 1, Blocked: 1}); !proto.Equal(w.Jobs, want) {
		t.Errorf("jobs %v, want %v", w.Jobs, want)
	}
	if want := (&heddlev1.Counts{Total: 3, Succeeded: 1, Running: 1, Blocked: 1}); !proto.Equal(w.Members, want) {
		t.Errorf("members %v, want %v", w.Members, want)
	}
	if len(w.Batches) != 2 || w.Batches[1].Path != "emails/first" || w.Batches[1].State != heddlev1.State_STATE_FAILED {
		t.Fatalf("batches %v", w.Batches)
	}
	if want := (&heddlev1.Counts{Total: 2, Failed: 1, Retryable: 1}); !proto.Equal(w.Batches[0].Members, want) {
		t.Errorf("members of emails %v, want %v", w.Batches[0].Members, want)
	}
	alone := lone("mail")
	submitOne(t, s, alone)
	if w, err = s.Workflow(ctx, alone.ID); err != nil || w.State != heddlev1.State_STATE_RUNNING || w.Jobs.Available != 1 || w.Nodes != 1 {
		t.Errorf("lone job: %v, %v", w, err)
	}
	end(t, s, alone.ID, 1, dag.Failed, "")
	if w, err = s.Workflow(ctx, alone.ID); err != nil || w.State != heddlev1.State_STATE_FAILED || w.Jobs.Failed != 1 || w.FinishedAt == nil {
		t.Errorf("ended lone job: %v, %v", w, err)
	}
	if _, err := s.Workflow(ctx, newID()); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

// People who look into the database see the states in words.
func TestViewForPeople(t *testing.T) {
	s := openStore(t)
	id := campaign(t, s)
	exec(t, s, `UPDATE jobs SET state = 1, run_at = now() - interval '1 s' WHERE workflow_id = $1 AND node IN (4, 5, 6)`, id)
	exec(t, s, `UPDATE jobs SET run_at = now() + interval '1 h' WHERE workflow_id = $1 AND node IN (4, 5)`, id)
	exec(t, s, `UPDATE jobs SET attempt = 1 WHERE workflow_id = $1 AND node = 4`, id)
	end(t, s, id, 1, dag.Cancelled, "")
	var got string
	const states = `SELECT string_agg(node || ' ' || kind || ' ' || state, ', ' ORDER BY node) FROM heddle_jobs WHERE workflow_id = $1`
	if err := s.main.QueryRow(context.Background(), states, id).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if want := "1 render cancelled, 4 mail retryable, 5 mail scheduled, 6 mail available, 7 report blocked"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWorkflowsPages(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	var want []string
	for i := range 25 {
		sub := graphOf([]model.NewNode{job("a")})
		sub.ID = idAt(time.Now().Add(time.Duration(i) * time.Second))
		sub.Name = fmt.Sprint("w", i%2)
		submitOne(t, s, sub)
		if i%2 == 0 {
			want = append([]string{sub.ID.String()}, want...)
		}
	}
	var got []string
	req := &heddlev1.ListRequest{PageSize: 4, Name: "w0", States: []heddlev1.State{heddlev1.State_STATE_RUNNING}}
	for {
		page, err := s.Workflows(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range page.Workflows {
			got = append(got, w.Id)
		}
		if req.PageToken = page.NextPageToken; req.PageToken == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if page, err := s.Workflows(ctx, &heddlev1.ListRequest{States: []heddlev1.State{heddlev1.State_STATE_FAILED}}); err != nil || len(page.Workflows) != 0 {
		t.Errorf("failed ones: %v, %v", page, err)
	}
	for _, bad := range []*heddlev1.ListRequest{{PageSize: 501}, {PageSize: -1}, {PageToken: "?"}} {
		if _, err := s.Workflows(ctx, bad); !errors.Is(err, model.ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestNodesPages(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	id := campaign(t, s)
	end(t, s, id, 1, dag.Succeeded, "")
	end(t, s, id, 4, dag.Failed, "")
	list := func(batch dag.ID, size int32, states ...heddlev1.State) (nodes []int32, edges int) {
		req := &heddlev1.NodesRequest{PageSize: size, States: states}
		for {
			page, err := s.Nodes(ctx, id, batch, req)
			if err != nil {
				t.Fatal(err)
			}
			var some []int32
			for _, j := range page.Jobs {
				some = append(some, j.Node)
			}
			for _, b := range page.Batches {
				some = append(some, b.Node)
			}
			slices.Sort(some)
			nodes = append(nodes, some...)
			edges += len(page.Edges)
			if req.PageToken = page.NextPageToken; req.PageToken == "" {
				return nodes, edges
			}
		}
	}
	for _, c := range []struct {
		batch  dag.ID
		states []heddlev1.State
		want   []int32
	}{
		{AllNodes, nil, []int32{1, 2, 3, 4, 5, 6, 7}},
		{dag.Root, nil, []int32{1, 2, 7}},
		{2, nil, []int32{3, 6}},
		{AllNodes, []heddlev1.State{heddlev1.State_STATE_SUCCEEDED, heddlev1.State_STATE_FAILED}, []int32{1, 4}},
		{AllNodes, []heddlev1.State{heddlev1.State_STATE_BLOCKED}, []int32{2, 3, 5, 6, 7}},
	} {
		for _, size := range []int32{1, 2, 100} {
			if got, _ := list(c.batch, size, c.states...); !slices.Equal(got, c.want) {
				t.Errorf("batch %d, states %v, pages of %d: %v, want %v", c.batch, c.states, size, got, c.want)
			}
		}
	}
	if _, edges := list(AllNodes, 3); edges != 2 {
		t.Errorf("%d edges", edges)
	}
	if _, err := s.Nodes(ctx, newID(), AllNodes, &heddlev1.NodesRequest{}); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown workflow: %v", err)
	}
}

func TestJob(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	opts, err := proto.Marshal(&heddlev1.JobOptions{Timeout: durationpb.New(time.Minute), Tags: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	sub := lone("mail")
	sub.Nodes[0].Job.Args = []byte(strings.Repeat("a", 2000))
	sub.Nodes[0].Job.Opts = opts
	sub.Nodes[0].Job.Key = "tenant"
	submitOne(t, s, sub)
	id := fsm.JobID{Workflow: sub.ID, Node: 1}
	exec(t, s, `INSERT INTO attempts (workflow_id, node, turn, attempt, how, worker, error, finished_at) VALUES ($1, 1, 0, 1, 2, 'w9', 'gone', now())`, sub.ID)
	got, err := s.Job(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if got.Kind != "mail" || got.Queue != "default" || got.Key != "tenant" || len(got.Args) != 2000 || got.State != heddlev1.State_STATE_AVAILABLE ||
		got.Options.GetTags()[0] != "x" || got.Id != sub.ID.String()+"/1" || got.MaxAttempts != 10 {
		t.Errorf("job %v", got)
	}
	if len(got.Attempts) != 1 || got.Attempts[0].How != "lost" || got.Attempts[0].Worker != "w9" || got.Attempts[0].StartedAt != nil {
		t.Errorf("attempts %v", got.Attempts)
	}
	end(t, s, sub.ID, 1, dag.Succeeded, `"done"`)
	if got, err = s.Job(ctx, id); err != nil || string(got.Result) != `"done"` || len(got.Args) != 2000 || got.State != heddlev1.State_STATE_SUCCEEDED || got.Worker != "w1" {
		t.Errorf("ended job %v, %v", got, err)
	}
	if _, err := s.Job(ctx, fsm.JobID{Workflow: sub.ID, Node: 2}); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

// Who asks for a batch as a job is told what it is.
func TestJobOfABatch(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	sub := graphOf([]model.NewNode{batch("all"), in(1, job("noop"))})
	submitOne(t, s, sub)
	id := fsm.JobID{Workflow: sub.ID, Node: 1}
	want := "job " + id.String() + ": not found: node 1 is a batch"
	if _, err := s.Job(ctx, id); !errors.Is(err, model.ErrNotFound) || err.Error() != want {
		t.Errorf("job: %v", err)
	}
	if _, err := s.Explain(ctx, id); !errors.Is(err, model.ErrNotFound) || err.Error() != want {
		t.Errorf("explain: %v", err)
	}
	if _, err := s.Job(ctx, fsm.JobID{Workflow: sub.ID, Node: 3}); !errors.Is(err, model.ErrNotFound) || strings.Contains(err.Error(), "batch") {
		t.Errorf("no node: %v", err)
	}
}

func TestJobsPages(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	var all, mails []string
	for i := range 40 {
		sub := lone([]string{"mail", "fax"}[i%2])
		sub.ID = idAt(time.Now().Add(time.Duration(i) * time.Second))
		submitOne(t, s, sub)
		if i%3 == 0 {
			end(t, s, sub.ID, 1, dag.Succeeded, "")
		}
		text := sub.ID.String() + "/1"
		all = append([]string{text}, all...)
		if i%2 == 0 {
			mails = append([]string{text}, mails...)
		}
	}
	id := campaign(t, s)
	list := func(req *heddlev1.JobServiceListRequest) (ids []string) {
		for {
			page, err := s.Jobs(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range page.Jobs {
				ids = append(ids, j.Id)
			}
			if req.PageToken = page.NextPageToken; req.PageToken == "" {
				return ids
			}
		}
	}
	for _, size := range []int32{1, 7, 500} {
		if got := list(&heddlev1.JobServiceListRequest{PageSize: size}); len(got) != 45 || !slices.Equal(got[:39], all[:39]) {
			t.Errorf("pages of %d: %d jobs %v", size, len(got), got)
		}
		if got := list(&heddlev1.JobServiceListRequest{PageSize: size, Kind: "fax"}); len(got) != 20 {
			t.Errorf("faxes, pages of %d: %d", size, len(got))
		}
		if got := list(&heddlev1.JobServiceListRequest{PageSize: size, States: []heddlev1.State{heddlev1.State_STATE_SUCCEEDED}}); len(got) != 14 {
			t.Errorf("succeeded, pages of %d: %d", size, len(got))
		}
		if got := list(&heddlev1.JobServiceListRequest{PageSize: size, WorkflowId: id.String()}); len(got) != 5 {
			t.Errorf("of one workflow, pages of %d: %v", size, got)
		}
	}
	if got := list(&heddlev1.JobServiceListRequest{Queue: "nobody's"}); got != nil {
		t.Errorf("unknown queue: %v", got)
	}
	if _, err := s.Jobs(ctx, &heddlev1.JobServiceListRequest{WorkflowId: "x"}); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("bad workflow id: %v", err)
	}
}

// TestSearchKeepsItsBudget gives a search a list without a match.
func TestSearchKeepsItsBudget(t *testing.T) {
	at, steps := 10_000_000, 0
	position := func(n int) key { return key{node: int32(n)} }
	q := search[int, key]{
		bound: func(_ context.Context, from key) (key, bool, error) {
			steps++
			return position(int(from.node) - searchStep), true, nil
		},
		between:  func(context.Context, key, key, int) ([]int, error) { return nil, nil },
		position: func(*int) key { return key{} },
	}
	found, next, err := q.back(context.Background(), position(at), 10)
	if err != nil || len(found) != 0 {
		t.Fatal(found, err)
	}
	if steps != searchRows/searchStep || next == nil || int(next.node) != at-searchRows {
		t.Errorf("%d steps, went to %v", steps, next)
	}
}

func TestResolve(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	id := campaign(t, s)
	end(t, s, id, 1, dag.Succeeded, "")
	for _, c := range []struct {
		from  dag.ID
		path  string
		node  dag.ID
		batch bool
		ok    bool
	}{
		{0, "", 0, true, true},
		{0, "letter", 1, false, true},
		{0, "emails", 2, true, true},
		{0, "emails/first/a", 4, false, true},
		{0, "first", 0, false, false},
		{5, "a", 4, false, true},
		{5, "first", 3, true, true},
		{5, "letter", 1, false, true},
		{6, "first/a", 4, false, true},
		{7, "letter", 1, false, true},
		{7, "letter/x", 0, false, false},
		{7, "emails/x", 0, false, false},
		{99, "letter", 0, false, false},
	} {
		node, isBatch, err := s.Resolve(ctx, id, c.from, c.path)
		if c.ok && (err != nil || node != c.node || isBatch != c.batch) || !c.ok && !errors.Is(err, model.ErrNotFound) {
			t.Errorf("%q from %d: %d, %v, %v", c.path, c.from, node, isBatch, err)
		}
	}
}

func TestResults(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	nodes := []model.NewNode{batch("all")}
	const n = 2500
	for range n {
		nodes = append(nodes, in(1, job("mail")))
	}
	sub := graphOf(nodes)
	submitOne(t, s, sub)
	exec(t, s, `WITH d AS (DELETE FROM jobs WHERE workflow_id = $1 AND node % 100 <> 7 RETURNING *)
INSERT INTO finished_jobs (workflow_id, run_at, finished_at, node, route, turn, batch, flags, outcome, priority, attempt, max_attempts, key, result)
SELECT workflow_id, run_at, now(), node, route, 1, batch, 256, 1, priority, 1, max_attempts, key, convert_to(node::text, 'UTF8') FROM d`, sub.ID)
	large := strings.Repeat("x", 5000)
	exec(t, s, `UPDATE finished_jobs SET flags = flags | 128, result = NULL WHERE workflow_id = $1 AND node = 10`, sub.ID)
	exec(t, s, `INSERT INTO payloads (workflow_id, node, slot, body) VALUES ($1, 10, 1, $2)`, sub.ID, []byte(large))
	var got []*heddlev1.Result
	isBatch, err := s.Results(ctx, sub.ID, 0, "all", func(page []*heddlev1.Result) error {
		if len(page) > resultsPage {
			t.Errorf("page of %d", len(page))
		}
		got = append(got, page...)
		return nil
	})
	if err != nil || !isBatch || len(got) != n-25 {
		t.Fatalf("%d results, %v, %v", len(got), isBatch, err)
	}
	last := int32(0)
	for _, r := range got {
		want := fmt.Sprint(r.Node)
		if r.Node == 10 {
			want = large
		}
		if r.Node <= last || string(r.Result) != want || r.Outcome != heddlev1.Outcome_OUTCOME_SUCCEEDED {
			t.Fatalf("result %v after %d", r, last)
		}
		last = r.Node
	}
	stop := errors.New("enough")
	if _, err := s.Results(ctx, sub.ID, 0, "all", func([]*heddlev1.Result) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped: %v", err)
	}
	id := campaign(t, s)
	end(t, s, id, 1, dag.Succeeded, `"hi"`)
	got = nil
	isBatch, err = s.Results(ctx, id, 5, "letter", func(page []*heddlev1.Result) error { got = append(got, page...); return nil })
	if err != nil || isBatch || len(got) != 1 || string(got[0].Result) != `"hi"` || got[0].Name != "letter" {
		t.Errorf("one job: %v, %v, %v", got, isBatch, err)
	}
}

func TestEndedAndNodeState(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	alone, running := lone("mail"), lone("mail")
	submitOne(t, s, alone)
	submitOne(t, s, running)
	end(t, s, alone.ID, 1, dag.Cancelled, "")
	gate := submitOne(t, s, graphOf(nil)).ID
	id := campaign(t, s)
	end(t, s, id, 1, dag.Succeeded, `"hi"`)
	ended, err := s.Ended(ctx, []fsm.WorkflowID{alone.ID, running.ID, gate, id, newID()})
	if err != nil || len(ended) != 2 || ended[alone.ID] != dag.Cancelled || ended[gate] != dag.Succeeded {
		t.Errorf("ended %v, %v", ended, err)
	}
	for _, c := range []struct {
		id     fsm.WorkflowID
		node   dag.ID
		state  heddlev1.State
		result string
		ended  bool
	}{
		{alone.ID, 0, heddlev1.State_STATE_CANCELLED, "", true},
		{running.ID, 0, heddlev1.State_STATE_AVAILABLE, "", false},
		{gate, 0, heddlev1.State_STATE_SUCCEEDED, "", true},
		{id, 0, heddlev1.State_STATE_RUNNING, "", false},
		{id, 1, heddlev1.State_STATE_SUCCEEDED, `"hi"`, true},
		{id, 2, heddlev1.State_STATE_BLOCKED, "", false},
	} {
		state, result, _, ended, err := s.NodeState(ctx, c.id, c.node)
		if err != nil || state != c.state || string(result) != c.result || ended != c.ended {
			t.Errorf("node %d: %v, %q, %v, %v, want %v", c.node, state, result, ended, err, c)
		}
	}
	if _, _, _, _, err := s.NodeState(ctx, id, 99); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown node: %v", err)
	}
	if _, _, _, _, err := s.NodeState(ctx, newID(), 0); !errors.Is(err, model.ErrNotFound) || !strings.HasPrefix(err.Error(), "workflow ") {
		t.Errorf("unknown workflow: %v", err)
	}
}

func TestExplain(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	id := campaign(t, s)
	codes := func(node int32) string {
		t.Helper()
		resp, err := s.Explain(ctx, fsm.JobID{Workflow: id, Node: node})
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, r := range resp.Reasons {
			words = append(words, fmt.Sprint(r.Code, r.Nodes))
		}
		return strings.Join(words, " ")
	}
	check := func(node int32, want string) {
		t.Helper()
		if got := codes(node); got != want {
			t.Errorf("node %d: %s, want %s", node, got, want)
		}
	}
	check(1, "")
	check(4, "batch[3 2] parents[1]")
	check(7, "parents[2]")
	if err := s.SetQueuePaused(ctx, "default", true); err != nil {
		t.Fatal(err)
	}
	exec(t, s, `UPDATE workflows SET flags = flags | 1 WHERE id = $1`, id)
	check(1, "workflow paused[] queue paused[]")
	if err := s.SetQueuePaused(ctx, "default", false); err != nil {
		t.Fatal(err)
	}
	exec(t, s, `UPDATE jobs SET run_at = now() + interval '1 h' WHERE workflow_id = $1 AND node = 1`, id)
	check(1, "time[] workflow paused[]")
	end(t, s, id, 1, dag.Failed, "")
	check(1, "ended[]")
	exec(t, s, `UPDATE finished_jobs SET flags = flags | 4 WHERE workflow_id = $1 AND node = 1`, id)
	check(4, "batch[3 2] parents[1] workflow paused[]")
}

func TestQueues(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	for i := range 5 {
		sub := lone("mail")
		sub.Nodes[0].Job.Queue = "bulk"
		if i == 0 {
			sub.Nodes[0].Job.Delay = time.Hour
		}
		submitOne(t, s, sub)
	}
	if err := s.SetQueuePaused(ctx, "quiet", true); err != nil {
		t.Fatal(err)
	}
	// 90 jobs of the queue ended in the minute before, 30 long ago.
	for minutes, jobs := range map[int]int{1: 90, 10: 30} {
		if _, err := s.main.Exec(ctx, `INSERT INTO stats_minutely (minute, route, succeeded, failed)
			SELECT date_trunc('minute', now()) - make_interval(mins => $1), id, $2 - 10, 10 FROM routes WHERE queue = 'bulk'`, minutes, jobs); err != nil {
			t.Fatal(err)
		}
	}
	queues, err := s.Queues(ctx)
	if err != nil || len(queues) != 2 {
		t.Fatalf("%v, %v", queues, err)
	}
	if r := queues[0].Rate; r > 90./60 || r < 90./120 {
		t.Errorf("%v jobs ended per second, want 90 in the last one to two minutes", r)
	}
	if q := queues[0]; q.Name != "bulk" || q.Available != 4 || q.More || q.Paused || q.Oldest == nil {
		t.Errorf("bulk: %v", q)
	}
	if q := queues[1]; q.Name != "quiet" || q.Available != 0 || !q.Paused {
		t.Errorf("quiet: %v", q)
	}
	if err := s.SetQueuePaused(ctx, "", true); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("no name: %v", err)
	}
}

func TestGraphCards(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	id := campaign(t, s)
	end(t, s, id, 1, dag.Succeeded, "")
	g, err := s.Graph(ctx, id, 0)
	if err != nil {
		t.Fatal(err)
	}
	var sum heddlev1.Counts
	byLabel := map[string]*heddlev1.Card{}
	for i, c := range g.Cards {
		if int(c.Group) != i || c.Width <= 0 || c.Height <= 0 {
			t.Errorf("card %d: %v", i, c)
		}
		byLabel[c.Label] = c
		if !c.IsBatch {
			sum.Total += c.Counts.Total
			sum.Succeeded += c.Counts.Succeeded
		}
	}
	if sum.Total != 5 || sum.Succeeded != 1 {
		t.Errorf("cards count %v", &sum)
	}
	if c := byLabel["letter"]; c.GetNode() != 1 || c.GetState() != heddlev1.State_STATE_SUCCEEDED {
		t.Errorf("letter %v", c)
	}
	if c := byLabel["emails"]; !c.GetIsBatch() || c.GetState() != heddlev1.State_STATE_BLOCKED || c.GetCounts().GetTotal() != 2 {
		t.Errorf("emails %v", c)
	}
	if len(g.Edges) != 2 || g.Merged != "" || int(g.Groups) != len(g.Cards) {
		t.Errorf("%d edges, merged %q, %d groups of %d cards", len(g.Edges), g.Merged, g.Groups, len(g.Cards))
	}
	small, err := s.Graph(ctx, id, 2)
	if err != nil || len(small.Cards) > 2 || small.Merged != "rank" || small.Groups != g.Groups {
		t.Errorf("merged: %v, %v", small, err)
	}
	total := int64(0)
	for _, c := range small.GetCards() {
		total += c.Counts.Total
	}
	if total != 7 {
		t.Errorf("merged cards count %d nodes", total)
	}
	exec(t, s, `INSERT INTO jobs (workflow_id, run_at, node, route, state, priority, max_attempts, batch) VALUES ($1, now(), 8, 1, 1, 2, 10, 0)`, id)
	exec(t, s, `UPDATE workflows SET next_node = $2, total = total + 1 WHERE id = $1`, id, layoutNodes+2) // too large for another layout
	if g, err = s.Graph(ctx, id, 0); err != nil || g.Cards[len(g.Cards)-1].Label != "appended" || g.Cards[len(g.Cards)-1].Counts.Available != 1 {
		t.Errorf("appended: %v, %v", g, err)
	}
	alone := lone("mail")
	submitOne(t, s, alone)
	if g, err = s.Graph(ctx, alone.ID, 0); err != nil || len(g.Cards) != 1 || g.Cards[0].State != heddlev1.State_STATE_AVAILABLE || g.Cards[0].Counts.Total != 1 {
		t.Errorf("lone job: %v, %v", g, err)
	}
	if _, err := s.Graph(ctx, id, 3000); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("3000 cards: %v", err)
	}
}
