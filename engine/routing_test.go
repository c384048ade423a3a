package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	heddle "github.com/heddle-io/heddle/sdk"
	"github.com/heddle-io/heddle/sdk/sdkpgx"
)

// trio starts three engines and waits for their leader; ids of the others are
// given in followers.
func trio(t *testing.T) (r *ring, leader string, followers []string) {
	t.Helper()
	r = newRing(t, nil, "a", "b", "c")
	r.start("a", "b", "c")
	leader = r.leader()
	for id := range r.engines {
		if id != leader {
			followers = append(followers, id)
		}
	}
	slices.Sort(followers)
	return r, leader, followers
}

func (r *ring) dial(id string) *enginetest.Client { return enginetest.Dial(r.t, r.engines[id].Addr()) }

func (r *ring) url(id string) string { return "http://" + r.engines[id].Addr() }

// Whatever a node is asked, it answers as the cluster: submissions and reads by
// itself, all else by the leader.
func TestClusterTakesCallsEverywhere(t *testing.T) {
	r, leader, followers := trio(t)
	one, other, lead := r.dial(followers[0]), r.dial(followers[1]), r.dial(leader)
	hold := make(chan struct{})
	one.Work(4, map[string]enginetest.Handler{
		"echo": func(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
			return enginetest.Succeed(string(l.GetArgs()))
		},
		"hold": func(ctx context.Context, _ *heddlev1.Lease) *heddlev1.AttemptReport {
			select {
			case <-hold:
				return enginetest.Succeed("1")
			case <-ctx.Done():
				return enginetest.Fail("told to stop")
			}
		},
	})
	for _, submit := range []*enginetest.Client{one, other, lead} {
		for _, watch := range []*enginetest.Client{one, other, lead} {
			id := submit.Put(enginetest.Lone("echo", `"x"`, nil))[0]
			if res := watch.Want(id, "", heddlev1.State_STATE_SUCCEEDED); string(res.GetResult()) != `"x"` {
				t.Errorf("result %s", res.GetResult())
			}
			if j := watch.JobOf(id, 1); j.GetState() != heddlev1.State_STATE_SUCCEEDED {
				t.Errorf("read as %s", j.GetState())
			}
		}
	}

	// What runs is known everywhere, and can be steered from anywhere.
	id := one.Put(enginetest.Lone("hold", "", nil))[0]
	eventually(t, "the job runs, as every node sees it", func() bool {
		for _, c := range []*enginetest.Client{one, other, lead} {
			if c.JobOf(id, 1).GetState() != heddlev1.State_STATE_RUNNING {
				return false
			}
			why, err := c.Jobs.Explain(t.Context(), connect.NewRequest(&heddlev1.JobServiceExplainRequest{Id: id + "/1"}))
			if err != nil || len(why.Msg.GetReasons()) != 1 || why.Msg.GetReasons()[0].GetCode() != "running" {
				return false
			}
			queues, err := c.Queues.List(t.Context(), connect.NewRequest(&heddlev1.QueueServiceListRequest{}))
			if err != nil || queues.Msg.GetQueues()[0].GetRunning() != 1 {
				return false
			}
		}
		return true
	})
	stream, err := other.Watch(t.Context(), connect.NewRequest(&heddlev1.WatchRequest{WorkflowId: id}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if _, err := other.Cancel(t.Context(), connect.NewRequest(&heddlev1.CancelRequest{WorkflowId: id})); err != nil {
		t.Fatal(err)
	}
	watched(t, stream, heddlev1.State_STATE_CANCELLED)
	close(hold)
	for i, c := range []*enginetest.Client{one, other} {
		queue := fmt.Sprint("q", i)
		if _, err := c.Queues.Pause(t.Context(), connect.NewRequest(&heddlev1.QueueServicePauseRequest{Queue: queue})); err != nil {
			t.Errorf("pause by a follower: %v", err)
		}
		if _, err := c.Queues.Resume(t.Context(), connect.NewRequest(&heddlev1.QueueServiceResumeRequest{Queue: queue})); err != nil {
			t.Errorf("resume by a follower: %v", err)
		}
	}
}

// watched reads a stream to its end, which must come with this state.
func watched(t *testing.T, stream *connect.ServerStreamForClient[heddlev1.WatchResponse], want heddlev1.State) {
	t.Helper()
	var last heddlev1.State
	for stream.Receive() {
		last = stream.Msg().GetWorkflow().GetState()
	}
	if err := stream.Err(); err != nil || last != want {
		t.Errorf("watched to the end: %v, %v; want %v", last, err, want)
	}
}

// starts is a worker at the leader that tells when jobs start.
func starts(c *enginetest.Client) <-chan string {
	started := make(chan string, 1000)
	c.Work(8, map[string]enginetest.Handler{"noop": func(_ context.Context, l *heddlev1.Lease) *heddlev1.AttemptReport {
		started <- fmt.Sprintf("%x", l.GetWorkflowId())
		return enginetest.Succeed("")
	}})
	return started
}

// A submission to any node wakes the leader. Were it not told, it would find each
// of these jobs by itself, later than all of them together take.
func TestSubmitToAFollowerStartsAtOnce(t *testing.T) {
	r, leader, followers := trio(t)
	started := starts(r.dial(leader))
	c := r.dial(followers[0])
	c.Put(enginetest.Lone("noop", "", nil)) // the worker is there, and the way is known
	<-started
	var took []time.Duration
	for range 20 {
		began := time.Now()
		c.Put(enginetest.Lone("noop", "", nil))
		<-started
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("from a follower: median %v, at most %v", took[10], took[19])
	if took[10] > 500*time.Millisecond {
		t.Errorf("jobs start %v after they were submitted to a follower", took[10])
	}
}

// I10: what no hint tells of starts within two seconds.
func TestLostHint(t *testing.T) {
	r, leader, followers := trio(t)
	started := starts(r.dial(leader))
	put := func(i int) {
		done := r.engines[followers[i%2]].store.Submit(t.Context(), submissions(t, r.engines[leader].cfg, enginetest.Lone("noop", "", nil)))
		if done[0].Err != nil {
			t.Fatal(done[0].Err)
		}
	}
	r.dial(leader).Put(enginetest.Lone("noop", "", nil))
	<-started
	for i := range 3 {
		began := time.Now()
		put(i)
		<-started
		if d := time.Since(began); d > 5*time.Second { // two, and the load of a test machine
			t.Errorf("started after %v", d)
		}
	}
}

// Without a quorum submissions and reads go on at each node that is left; waiting
// and watching fall back to it, worker calls and commands are told to come again.
func TestWithoutAQuorum(t *testing.T) {
	r, leader, followers := trio(t)
	before := r.dial(leader).Put(enginetest.Lone("later", "", nil))[0]
	r.stop(leader)
	r.stop(followers[0])
	last := r.engines[followers[1]]
	c := r.dial(followers[1])
	eventually(t, "the last node knows that nobody leads", func() bool {
		place, _ := last.leadership.Leader()
		return !place.Leads && place.API == ""
	})
	id := c.Put(enginetest.Lone("later", "", nil))[0]
	for _, id := range []string{before, id} {
		if s := c.JobOf(id, 1).GetState(); s != heddlev1.State_STATE_AVAILABLE {
			t.Errorf("read as %s", s)
		}
		res, err := c.Wait(t.Context(), connect.NewRequest(&heddlev1.WaitRequest{WorkflowId: id, Timeout: durationpb.New(50 * time.Millisecond)}))
		if err != nil || res.Msg.GetEnded() {
			t.Errorf("wait: %v, %v", res, err)
		}
	}
	why, err := c.Jobs.Explain(t.Context(), connect.NewRequest(&heddlev1.JobServiceExplainRequest{Id: id + "/1"}))
	if err != nil || len(why.Msg.GetReasons()) != 1 || why.Msg.GetReasons()[0].GetCode() != "no leader" {
		t.Errorf("explained as %v, %v", why, err)
	}
	if _, err := c.OpenSession(t.Context(), connect.NewRequest(&heddlev1.OpenSessionRequest{Worker: "w", Slots: 1})); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("open session: %v", err)
	}
	// The watch that began without a leader sees the end under the next one.
	stream, err := c.Watch(t.Context(), connect.NewRequest(&heddlev1.WatchRequest{WorkflowId: id}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	r.start(leader)
	c.Work(2, map[string]enginetest.Handler{"later": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport { return enginetest.Succeed("") }})
	watched(t, stream, heddlev1.State_STATE_SUCCEEDED)
}

var tick = heddle.NewKind[heddle.None, heddle.None]("tick")

// A worker that was given the address of any one node goes to the leader, and
// follows it from node to node; one attempt is all that each job takes.
func TestWorkerFollowsTheLeader(t *testing.T) {
	r, leader, followers := trio(t)
	c, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{r.url(followers[0])}, Logger: r.engines[leader].log})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := heddle.NewWorker(c, heddle.WorkerConfig{Slots: 8})
	ran := make(chan int, 10_000)
	tick.Do(w, func(ctx context.Context, _ heddle.None) error {
		ran <- heddle.JobInfo(ctx).Attempt
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	submitter, err := heddle.NewClient(heddle.ClientConfig{Addrs: []string{r.url(leader), r.url(followers[1]), r.url(followers[0])}, Logger: r.engines[leader].log})
	if err != nil {
		t.Fatal(err)
	}
	defer submitter.Close()
	work := func(n int) {
		t.Helper()
		for range n {
			if _, err := submitter.Submit(t.Context(), tick.Job(heddle.None{})); err != nil {
				t.Fatal(err)
			}
		}
		for range n {
			if attempt := <-ran; attempt != 1 {
				t.Errorf("attempt %d", attempt)
			}
		}
	}
	work(20)
	// Each node stops in turn, also the one whose address was given.
	for _, id := range []string{leader, followers[0], followers[1]} {
		r.stop(id)
		work(20)
		r.start(id)
		r.leader()
		work(20)
	}
	if n := len(ran); n != 0 {
		t.Errorf("%d jobs ran twice", n)
	}
}

// submissions as the API converts them.
func submissions(t *testing.T, c Config, in ...*heddlev1.Submission) (out []model.Submission) {
	t.Helper()
	for _, m := range in {
		s, err := c.limits().Submission(m)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// A workflow that its user committed in a transaction of their own is taken in by
// the leader as soon as it is there, and by any node that is asked for it.
func TestInboxOfACluster(t *testing.T) {
	r, leader, followers := trio(t)
	started := starts(r.dial(leader))
	conn, err := pgx.Connect(t.Context(), r.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	noop := heddle.NewKind[heddle.None, heddle.None]("noop")
	put := func() string {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		run, err := sdkpgx.Submit(t.Context(), tx, noop.Job(heddle.None{}))
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		return run.ID()
	}
	put()
	<-started
	began := time.Now()
	put()
	<-started
	if d := time.Since(began); d > inboxPoll/2 {
		t.Errorf("started after %v: the leader was not told", d)
	}
	began = time.Now()
	id := put()
	r.dial(followers[0]).JobOf(id, 1)
	<-started
	if d := time.Since(began); d > inboxPoll/2 {
		t.Errorf("started after %v: a follower took it in and did not tell", d)
	}
}
