package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	heddle "github.com/heddle-io/heddle/sdk"
)

// task is what a job of these tests does.
type task struct {
	// Fail is how many attempts fail first.
	Fail int `json:"fail,omitempty"`
	// Dead tasks fail for good.
	Dead bool `json:"dead,omitempty"`
	// Busy is how long it works, in milliseconds.
	Busy int `json:"busy,omitempty"`
	// Hold is the number of attempts that wait for the release.
	Hold int `json:"hold,omitempty"`
	// Stuck tasks do not listen to their context while they are held.
	Stuck bool `json:"stuck,omitempty"`
	// Poison kills the worker's process.
	Poison bool `json:"poison,omitempty"`
	// Big is the size of its result in bytes.
	Big int `json:"big,omitempty"`
}

var (
	taskKind = heddle.NewKind[task, string]("task", heddle.JobOptions{
		Retry: &heddle.Retry{Attempts: 5, Backoff: heddle.Fixed, Initial: 10 * time.Millisecond, Jitter: -1},
	})
	// oddKind has a handler, and nobody submits it.
	oddKind = heddle.NewKind[heddle.None, heddle.None]("odd")
)

// workerConfig of a worker process.
type workerConfig struct {
	Name    string
	Addr    string
	Journal string
	Slots   int
	Queues  []string
	// StopTimeout and StopGrace as in the SDK.
	StopTimeout, StopGrace time.Duration
}

// workerMain is the worker process.
func workerMain() int {
	var c workerConfig
	partConfig(&c)
	j, err := openJournal(c.Journal, c.Name)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	released := make(chan struct{})
	var release sync.Once
	go listen(func(line string) {
		if line == "release" {
			release.Do(func() { close(released) })
		}
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client, err := heddle.NewClient(heddle.ClientConfig{
		Addrs: []string{c.Addr}, Interceptors: []connect.Interceptor{witness{j}},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	w := heddle.NewWorker(client, heddle.WorkerConfig{
		Name: c.Name, Slots: c.Slots, Queues: c.Queues, StopTimeout: c.StopTimeout, StopGrace: c.StopGrace,
	})
	taskKind.Handle(w, func(ctx context.Context, k task) (string, error) {
		info := heddle.JobInfo(ctx)
		e := event{Workflow: info.WorkflowID, Node: int32(info.Node), Attempt: info.Attempt}
		e.What = "start"
		j.write(e)
		result, err := k.run(ctx, info.Attempt, released)
		e.What, e.How = "end", "ok"
		if err != nil {
			e.How = err.Error()
		}
		j.write(e)
		return result, err
	})
	oddKind.Do(w, func(context.Context, heddle.None) error { return nil })
	if err := w.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 4
	}
	return 0
}

func (k task) run(ctx context.Context, attempt int, released <-chan struct{}) (string, error) {
	if k.Poison {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	if attempt <= k.Hold {
		done := ctx.Done()
		if k.Stuck {
			done = nil
		}
		select {
		case <-released:
		case <-done:
			return "", context.Cause(ctx)
		}
	}
	if k.Busy > 0 {
		t := time.NewTimer(time.Duration(k.Busy) * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	switch {
	case k.Dead:
		return "", heddle.NoRetry(errors.New("dead"))
	case attempt <= k.Fail:
		return "", fmt.Errorf("attempt %d fails", attempt)
	case k.Big > 0:
		return strings.Repeat("x", k.Big), nil
	}
	return "done", nil
}

// witness writes down what the worker hears from the engine.
type witness struct{ j *journal }

var _ connect.Interceptor = witness{}

// ackDone is the status of a report that was acknowledged.
var ackDone = heddlev1.ReportStatus_REPORT_STATUS_DONE.String()

// WrapUnary implements connect.Interceptor.
func (w witness) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		if err != nil {
			return res, err
		}
		switch answer := res.Any().(type) {
		case *heddlev1.PollResponse:
			grants := make([]event, len(answer.GetLeases()))
			for i, l := range answer.GetLeases() {
				grants[i] = event{What: "grant", Workflow: idText(l.GetWorkflowId()), Node: l.GetNode(), Lease: l.GetLease(), Attempt: int(l.GetAttempt())}
			}
			w.j.write(grants...)
		case *heddlev1.ReportResponse:
			reports := req.Any().(*heddlev1.ReportRequest).GetReports()
			acks := make([]event, len(reports))
			for i, r := range reports {
				acks[i] = event{
					What: "ack", Workflow: idText(r.GetWorkflowId()), Node: r.GetNode(), Lease: r.GetLease(),
					Ending: r.GetEnding().String(), Status: answer.GetResults()[i].GetStatus().String(),
				}
			}
			w.j.write(acks...)
		}
		return res, nil
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (witness) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (witness) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func idText(b []byte) string {
	id, err := uuid.FromBytes(b)
	if err != nil {
		return fmt.Sprintf("%x", b)
	}
	return id.String()
}

// hire starts a worker process.
func hire(t testing.TB, s *server, v *events, name string, slots int, change func(*workerConfig)) *process {
	t.Helper()
	c := workerConfig{Name: name, Addr: s.url(), Journal: v.path(name), Slots: slots, StopTimeout: 100 * time.Millisecond, StopGrace: 10 * time.Second}
	if change != nil {
		change(&c)
	}
	return play(t, partWorker, name, c)
}
