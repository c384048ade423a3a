package engine

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	. "github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
	"github.com/heddle-io/heddle/internal/pgtest"
)

// steer is a client of the OperationService.
type steer struct {
	heddlev1connect.OperationServiceClient
	t testing.TB
}

func steers(t testing.TB, e *Engine) steer {
	return steer{heddlev1connect.NewOperationServiceClient(http.DefaultClient, "http://"+e.Addr()), t}
}

func (s steer) start(action heddlev1.Action, sel *heddlev1.Selection) string {
	s.t.Helper()
	id := NewID()
	if _, err := s.Start(s.t.Context(), connect.NewRequest(&heddlev1.OperationServiceStartRequest{Id: id, Action: action, Selection: sel})); err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s steer) get(id string) *heddlev1.Operation {
	s.t.Helper()
	res, err := s.Get(s.t.Context(), connect.NewRequest(&heddlev1.OperationServiceGetRequest{Id: id}))
	if err != nil {
		s.t.Fatal(err)
	}
	return res.Msg.GetOperation()
}

// ended waits for the end of an operation.
func (s steer) ended(id string) *heddlev1.Operation {
	s.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	for {
		op := s.get(id)
		if op.GetFinishedAt() != nil {
			return op
		}
		select {
		case <-tick.C:
		case <-late:
			s.t.Fatalf("the operation does not end: %v", op)
		}
	}
}

// failing submits a graph of n jobs that fail at their first attempt and succeed
// in their second life, and waits for its failure.
func failing(t testing.TB, c *Client, n int) string {
	t.Helper()
	nodes := make([]*heddlev1.NodeSpec, n)
	for i := range nodes {
		nodes[i] = Job("", "k")
		nodes[i].GetJob().Options = &heddlev1.JobOptions{Retry: &heddlev1.RetryPolicy{Attempts: 1}}
	}
	id := c.Put(Graph(nodes...))[0]
	c.Want(id, "", heddlev1.State_STATE_FAILED)
	return id
}

// failOnce fails first attempts.
func failOnce(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
	if l.GetAttempt() == 1 {
		return Fail("boom")
	}
	return Succeed("1")
}

// Ten thousand failed jobs of one workflow come to life again by one call, and
// the workflow with them.
func TestRetryTenThousand(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	const jobs = 10_000
	dsn := pgtest.DSN(t)
	e := startEngine(t, testConfig(t, dsn))
	c, s := Dial(t, e.Addr()), steers(t, e)
	c.Work(64, map[string]Handler{"k": failOnce})
	id := failing(t, c, jobs)

	begin := time.Now()
	op := s.ended(s.start(heddlev1.Action_ACTION_RETRY, &heddlev1.Selection{Filter: &heddlev1.JobFilter{WorkflowId: id}}))
	took := time.Since(begin)
	if op.GetTotal() != jobs || op.GetDone() != jobs || op.GetChanged() != jobs || op.GetFailed() != 0 || op.GetAuthor() != "anonymous" {
		t.Errorf("%v", op)
	}
	t.Logf("%d jobs in %v", jobs, took)
	if took > 30*time.Second { // seconds, on a machine that does nothing else
		t.Errorf("it took %v", took)
	}
	c.Want(id, "", heddlev1.State_STATE_SUCCEEDED)
	if all := authors(t, dsn); len(all) != jobs || all[0] != "retry by anonymous" {
		t.Errorf("%d rows of audit, the first %q", len(all), all[:1])
	}
}

// An engine that stops in the middle of an operation goes on with it when it
// comes back.
func TestOperationGoesOnAfterARestart(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	const jobs = 6000
	dsn := pgtest.DSN(t)
	config := testConfig(t, dsn)
	e := startEngine(t, config)
	c, s := Dial(t, e.Addr()), steers(t, e)
	w := c.Work(64, map[string]Handler{"k": failOnce})
	id := failing(t, c, jobs)
	w.Die()
	op := s.start(heddlev1.Action_ACTION_RETRY, &heddlev1.Selection{Filter: &heddlev1.JobFilter{WorkflowId: id}})
	eventually(t, "the operation has begun", func() bool { return s.get(op).GetDone() > 0 })
	e = restart(t, e, config)
	s = steers(t, e)
	if o := s.ended(op); o.GetDone() != jobs || o.GetChanged() != jobs || o.GetPassedOver() != 0 {
		t.Errorf("%v", o)
	}
	later := Dial(t, e.Addr())
	later.Work(64, map[string]Handler{"k": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport { return Succeed("1") }})
	later.Want(id, "", heddlev1.State_STATE_SUCCEEDED)
}

// A stop ends an operation after its present part; what it has done stays.
func TestOperationStops(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	const jobs, page = 1200, 500
	dsn := pgtest.DSN(t)
	e := startEngine(t, testConfig(t, dsn))
	c, s := Dial(t, e.Addr()), steers(t, e)
	var nodes []*heddlev1.NodeSpec
	for range jobs {
		nodes = append(nodes, Job("", "k"))
	}
	id := c.Put(Graph(nodes...))[0]
	h := connectHands(t, dsn)
	h.exec(`BEGIN`)
	h.exec(`SELECT 1 FROM heddle.workflows FOR UPDATE`)
	op := s.start(heddlev1.Action_ACTION_CANCEL, &heddlev1.Selection{Filter: &heddlev1.JobFilter{WorkflowId: id}})
	h.awaitWaiters("row", 1)
	if _, err := s.Stop(t.Context(), connect.NewRequest(&heddlev1.OperationServiceStopRequest{Id: op})); err != nil {
		t.Fatal(err)
	}
	h.exec(`ROLLBACK`)
	o := s.ended(op)
	// The part that waited is done; on a machine so slow that it gave up, none.
	if !o.GetStopRequested() || o.GetStoppedBy() != "anonymous" || o.GetTotal() != jobs || o.GetDone() != page && o.GetDone() != 0 || o.GetChanged() != o.GetDone() {
		t.Errorf("%v", o)
	}
	res, err := c.Get(t.Context(), connect.NewRequest(&heddlev1.GetRequest{WorkflowId: id}))
	if err != nil || res.Msg.GetWorkflow().GetJobs().GetCancelled() != o.GetChanged() {
		t.Errorf("%v, %v", res, err)
	}
}

// A job whose data are at fault is counted, and told by its first words; all
// others are done.
func TestOperationGoesAroundDamage(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	const jobs = 40
	dsn := pgtest.DSN(t)
	e := startEngine(t, testConfig(t, dsn))
	c, s := Dial(t, e.Addr()), steers(t, e)
	c.Work(8, map[string]Handler{"k": failOnce})
	id := failing(t, c, jobs)
	h := connectHands(t, dsn)
	h.exec(`CREATE FUNCTION heddle.damaged() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF OLD.node IN (7, 23) THEN RAISE EXCEPTION 'row % is damaged', OLD.node USING ERRCODE = 'XX001'; END IF; RETURN OLD; END $$`)
	h.exec(`CREATE TRIGGER damaged BEFORE DELETE ON heddle.finished_jobs FOR EACH ROW EXECUTE FUNCTION heddle.damaged()`)
	op := s.ended(s.start(heddlev1.Action_ACTION_RETRY, &heddlev1.Selection{Filter: &heddlev1.JobFilter{WorkflowId: id}}))
	if op.GetDone() != jobs || op.GetChanged() != jobs-2 || op.GetFailed() != 2 || !strings.Contains(op.GetError(), "/23") || !strings.Contains(op.GetError(), "row 23 is damaged") {
		t.Errorf("%v", op)
	}
}

// Jobs that run are told; lone jobs are taken by their own, many in a
// transaction.
func TestOperationCancelsWhatRuns(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	e, c := newEngine(t, nil)
	s := steers(t, e)
	c.Work(4, map[string]Handler{"hold": func(ctx context.Context, _ *heddlev1.Lease) *heddlev1.AttemptReport {
		<-ctx.Done()
		return Fail("told")
	}})
	running := c.Put(Lone("hold", "1", nil))[0]
	eventually(t, "it runs", func() bool { return c.JobOf(running, 1).GetState() == heddlev1.State_STATE_RUNNING })
	var subs []*heddlev1.Submission
	for range 600 {
		subs = append(subs, Lone("idle", "1", nil))
	}
	idle := c.Put(subs...)
	op := s.ended(s.start(heddlev1.Action_ACTION_CANCEL, &heddlev1.Selection{Filter: &heddlev1.JobFilter{}}))
	if op.GetTotal() != 601 || op.GetChanged() != 601 {
		t.Errorf("%v", op)
	}
	c.Want(running, "", heddlev1.State_STATE_CANCELLED)
	c.Want(idle[0], "", heddlev1.State_STATE_CANCELLED)
	c.Want(idle[599], "", heddlev1.State_STATE_CANCELLED)
}

// A scheduled job starts at once, on demand.
func TestRunNowStartsAtOnce(t *testing.T) {
	_, c := newEngine(t, nil)
	c.Work(1, map[string]Handler{"k": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport { return Succeed("1") }})
	one := Lone("k", "1", nil)
	one.GetJob().RunAt = timestamppb.New(time.Now().Add(time.Hour))
	soon := Lone("k", "1", nil) // near enough to stand in the window of the dispatcher
	soon.GetJob().RunAt = timestamppb.New(time.Now().Add(20 * time.Second))
	ids := c.Put(one, soon)
	for _, id := range ids {
		if _, err := c.Jobs.RunNow(t.Context(), connect.NewRequest(&heddlev1.JobServiceRunNowRequest{Id: id})); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		c.Want(id, "", heddlev1.State_STATE_SUCCEEDED)
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("it started after %v", took)
		}
	}
	_, err := c.Jobs.RunNow(t.Context(), connect.NewRequest(&heddlev1.JobServiceRunNowRequest{Id: ids[0]}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(fmt.Sprint(err), "it has ended") {
		t.Errorf("a job that has ended: %v", err)
	}
}

// A drain reaches the worker, and is noted.
func TestDrain(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dsn := pgtest.DSN(t)
	e := startEngine(t, testConfig(t, dsn))
	c := Dial(t, e.Addr())
	opened, err := c.OpenSession(t.Context(), connect.NewRequest(&heddlev1.OpenSessionRequest{Worker: "w", Slots: 1, Process: "p"}))
	if err != nil {
		t.Fatal(err)
	}
	session := opened.Msg.GetSession()
	beat := func() *heddlev1.HeartbeatResponse {
		t.Helper()
		res, err := c.Heartbeat(t.Context(), connect.NewRequest(&heddlev1.HeartbeatRequest{Session: session}))
		if err != nil {
			t.Fatal(err)
		}
		return res.Msg
	}
	if beat().GetDrain() {
		t.Fatal("drains at once")
	}
	if _, err := c.Sessions.Drain(t.Context(), connect.NewRequest(&heddlev1.SessionServiceDrainRequest{Session: session})); err != nil {
		t.Fatal(err)
	}
	if !beat().GetDrain() {
		t.Error("the worker is not told")
	}
	if all := authors(t, dsn); !slices.Equal(all, []string{"drain by anonymous"}) {
		t.Errorf("audit: %v", all)
	}
	if _, err := c.Sessions.Drain(t.Context(), connect.NewRequest(&heddlev1.SessionServiceDrainRequest{Session: 1})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("no session: %v", err)
	}
}
