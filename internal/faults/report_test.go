package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/pgtest"
)

const (
	statusDone  = "REPORT_STATUS_DONE"
	statusStale = "REPORT_STATUS_STALE"
)

// rawWorker is a worker with curl: one session, polls by hand.
type rawWorker struct {
	t       testing.TB
	s       *server
	session string
	polls   int
}

func (s *server) rawWorker(t testing.TB) *rawWorker {
	t.Helper()
	a := s.post(t, "WorkerService/OpenSession", `{"worker": "curl", "slots": 5}`)
	if a.Session == "" {
		t.Fatalf("no session: %+v", a)
	}
	return &rawWorker{t: t, s: s, session: a.Session}
}

// poll waits for one job.
func (w *rawWorker) poll() restLease {
	w.t.Helper()
	w.polls++
	a := w.s.post(w.t, "WorkerService/Poll", fmt.Sprintf(
		`{"session": %q, "poll": "%d", "maxJobs": 1, "queues": [{"queue": "default"}], "kinds": ["raw"], "wait": "20s"}`, w.session, w.polls))
	if len(a.Leases) != 1 {
		w.t.Fatalf("poll: %+v", a)
	}
	return a.Leases[0]
}

// report sends reports of one lease, all in one call, and gives their answers.
func (w *rawWorker) report(l restLease, ends ...string) []string {
	w.t.Helper()
	body := fmt.Sprintf(`{"session": %q, "reports": [`, w.session)
	for i, end := range ends {
		if i > 0 {
			body += ","
		}
		body += fmt.Sprintf(`{"workflowId": %q, "node": %d, "lease": %q, %s}`, l.WorkflowID, l.Node, l.Lease, end)
	}
	a := w.s.post(w.t, "WorkerService/Report", body+"]}")
	if len(a.Results) != len(ends) {
		w.t.Fatalf("report: %+v", a)
	}
	var status []string
	for _, r := range a.Results {
		status = append(status, r.Status)
	}
	return status
}

// beat sends a heartbeat that names the leases held.
func (w *rawWorker) beat(held ...restLease) answer {
	w.t.Helper()
	body := fmt.Sprintf(`{"session": %q, "pollsClosed": "%d", "held": [`, w.session, w.polls)
	for i, l := range held {
		if i > 0 {
			body += ","
		}
		body += fmt.Sprintf(`{"workflowId": %q, "node": %d, "lease": %q}`, l.WorkflowID, l.Node, l.Lease)
	}
	return w.s.post(w.t, "WorkerService/Heartbeat", body+"]}")
}

// alive sends heartbeats that close no poll, as a worker does while it waits,
// until the function it gives is called.
func (w *rawWorker) alive(every time.Duration) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			w.s.post(w.t, "WorkerService/Heartbeat", fmt.Sprintf(`{"session": %q, "pollsClosed": "0"}`, w.session))
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

func (s *server) raw(t testing.TB) string {
	t.Helper()
	id := newID()
	a := s.post(t, "WorkflowService/Submit", fmt.Sprintf(`{"submissions": [{"id": %q, "job": {"kind": "raw", "argsJson": "{}"}}]}`, id))
	if len(a.Results) != 1 || !a.Results[0].Created {
		t.Fatalf("submit: %+v", a)
	}
	return id
}

// want waits until a workflow has ended so.
func (s *server) want(t testing.TB, id, state string) answer {
	t.Helper()
	a := s.post(t, "WorkflowService/Wait", fmt.Sprintf(`{"workflowId": %q, "timeout": "60s"}`, id))
	if !a.Ended || a.State != state {
		t.Fatalf("workflow %s: %+v, want %s", id, a, state)
	}
	return a
}

const (
	succeedsOne = `"ending": "ENDING_SUCCEEDED", "result": "MQ=="` // 1
	succeedsTwo = `"ending": "ENDING_SUCCEEDED", "result": "Mg=="` // 2
	failsAlso   = `"ending": "ENDING_FAILED", "error": "no"`
)

// Two reports of one job, in one call and one after the other: the first one
// counts, and the job is finished once.
func TestTwoReports(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, 10*time.Second)
	w := s.rawWorker(t)
	id := s.raw(t)
	l := w.poll()
	first := w.report(l, succeedsOne, succeedsTwo, failsAlso)
	if first[0] != statusDone {
		t.Errorf("the first report was answered %s", first[0])
	}
	for _, status := range append(first[1:], w.report(l, succeedsTwo)...) {
		if status != statusStale && status != statusDone {
			t.Errorf("a repeated report was answered %s", status)
		}
	}
	a := s.want(t, id, "STATE_SUCCEEDED")
	if a.Result != "MQ==" {
		t.Errorf("the result is %s, want that of the first report", a.Result)
	}
	if j := s.post(t, "JobService/Get", fmt.Sprintf(`{"id": %q}`, id)).Job; j.Attempt != 1 || len(j.Attempts) != 0 {
		t.Errorf("the job ended at attempt %d with attempts %v", j.Attempt, j.Attempts)
	}
}

// The session of a job is lost: its report comes too late. It is told so, the
// result is dropped, and the job runs again.
func TestReportAfterTheLeaseWasLost(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, time.Second)
	silent := s.rawWorker(t)
	id := s.raw(t)
	lost := silent.poll()
	next := s.rawWorker(t)
	defer next.alive(200 * time.Millisecond)()
	l := next.poll() // answered once the silent session is lost
	if l.WorkflowID != lost.WorkflowID || l.Lease == lost.Lease {
		t.Fatalf("leased %+v after %+v", l, lost)
	}
	// The late report goes to the session that is gone, and then, as a forged
	// one, names the old lease in the new session.
	if a := silent.s.post(t, "WorkerService/Report", fmt.Sprintf(
		`{"session": %q, "reports": [{"workflowId": %q, "node": 1, "lease": %q, %s}]}`, silent.session, lost.WorkflowID, lost.Lease, succeedsTwo)); a.status == 200 {
		if len(a.Results) != 1 || a.Results[0].Status != statusStale {
			t.Errorf("the late report was answered %+v", a)
		}
	} else {
		a.refused(t, "the late report", "not_found")
	}
	if got := next.report(lost, succeedsTwo); got[0] != statusStale {
		t.Errorf("a report under the old lease was answered %s", got[0])
	}
	if a := silent.beat(lost); !a.Reopen {
		t.Errorf("a heartbeat of the lost session was answered %+v", a)
	}
	if got := next.report(l, succeedsOne); got[0] != statusDone {
		t.Errorf("the report under the present lease was answered %s", got[0])
	}
	if a := s.want(t, id, "STATE_SUCCEEDED"); a.Result != "MQ==" {
		t.Errorf("the result is %s, want that of the present lease", a.Result)
	}
	j := s.post(t, "JobService/Get", fmt.Sprintf(`{"id": %q}`, id)).Job
	if j.Attempt != 2 || len(j.Attempts) != 1 || j.Attempts[0].How != "lost" {
		t.Errorf("the job ended at attempt %d with attempts %v, want the lost one counted", j.Attempt, j.Attempts)
	}
}

// Grants whose answer never arrived are given back by the next heartbeat,
// uncounted; a heartbeat that names leases nobody gave is told so.
func TestHeartbeatsThatDisagree(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, 10*time.Second)
	w := s.rawWorker(t)
	id := s.raw(t)
	dropped := w.poll()
	w.beat() // the poll is closed, and the job is not held
	l := w.poll()
	if l.WorkflowID != dropped.WorkflowID || l.Lease == dropped.Lease {
		t.Fatalf("leased %+v after %+v was dropped", l, dropped)
	}
	strange := restLease{WorkflowID: bytesOf(newID()), Node: 1, Lease: dropped.Lease}
	if a := w.beat(l, strange); len(a.Lost) != 1 || a.Lost[0].WorkflowID != strange.WorkflowID {
		t.Errorf("a heartbeat with a lease that nobody gave was answered %+v", a)
	}
	if got := w.report(dropped, succeedsTwo); got[0] != statusStale {
		t.Errorf("a report of the grant that was dropped was answered %s", got[0])
	}
	if got := w.report(l, succeedsOne); got[0] != statusDone {
		t.Errorf("the report was answered %s", got[0])
	}
	s.want(t, id, "STATE_SUCCEEDED")
	if j := s.post(t, "JobService/Get", fmt.Sprintf(`{"id": %q}`, id)).Job; j.Attempt != 1 {
		t.Errorf("the grant that never arrived was counted: attempt %d", j.Attempt)
	}
}
