package heddle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// desk is a peer that answers the calls of a Run, and records them as text.
type desk struct {
	*peer
	calls  []string
	fail   []error // of the next calls, in order
	states []heddlev1.State
}

// note records a call and gives the error it is to have.
func (d *desk) note(name string, m proto.Message) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, name+" "+strings.ReplaceAll(fmt.Sprint(m), "  ", " "))
	if len(d.fail) == 0 {
		return nil
	}
	err := d.fail[0]
	d.fail = d.fail[1:]
	return err
}

// will sets what the next calls answer.
func (d *desk) will(states []heddlev1.State, fail ...error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.states, d.fail = states, fail
}

// state gives the next state of the workflow; the last one stays.
func (d *desk) state() heddlev1.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.states[0]
	if len(d.states) > 1 {
		d.states = d.states[1:]
	}
	return s
}

func (d *desk) workflow(id string) *heddlev1.Workflow {
	return &heddlev1.Workflow{
		Id: id, Name: "wf", State: d.state(), Nodes: 3, CreatedAt: timestamppb.New(time.Unix(1, 0)),
		Jobs:    &heddlev1.Counts{Total: 2, Succeeded: 1, Failed: 1},
		Batches: []*heddlev1.Batch{{Node: 1, Name: "b", Path: "b", State: heddlev1.State_STATE_FAILED, Members: &heddlev1.Counts{Total: 2}}},
	}
}

func (d *desk) Get(_ context.Context, r *connect.Request[heddlev1.GetRequest]) (*connect.Response[heddlev1.GetResponse], error) {
	err := d.note("get", r.Msg)
	return respond(&heddlev1.GetResponse{Workflow: d.workflow(r.Msg.GetWorkflowId())}, err)
}

func (d *desk) Wait(ctx context.Context, r *connect.Request[heddlev1.WaitRequest]) (*connect.Response[heddlev1.WaitResponse], error) {
	if err := d.note("wait", r.Msg); err != nil {
		return nil, err
	}
	s := d.state()
	return respond(&heddlev1.WaitResponse{State: s, Ended: stateOf(s).Outcome() != 0, Result: []byte(`"it"`), Error: "why"}, nil)
}

func (d *desk) Watch(ctx context.Context, r *connect.Request[heddlev1.WatchRequest], s *connect.ServerStream[heddlev1.WatchResponse]) error {
	for {
		if err := d.note("watch", r.Msg); err != nil {
			return err
		}
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return err
		}
		w := d.workflow(r.Msg.GetWorkflowId())
		if err := s.Send(&heddlev1.WatchResponse{Workflow: w}); err != nil || stateOf(w.GetState()).Outcome() != 0 {
			return err
		}
	}
}

func (d *desk) Cancel(_ context.Context, r *connect.Request[heddlev1.CancelRequest]) (*connect.Response[heddlev1.CancelResponse], error) {
	return respond(&heddlev1.CancelResponse{}, d.note("cancel", r.Msg))
}

func (d *desk) Retry(_ context.Context, r *connect.Request[heddlev1.RetryRequest]) (*connect.Response[heddlev1.RetryResponse], error) {
	return respond(&heddlev1.RetryResponse{Jobs: 2}, d.note("retry", r.Msg))
}

func (d *desk) Dismiss(_ context.Context, r *connect.Request[heddlev1.DismissRequest]) (*connect.Response[heddlev1.DismissResponse], error) {
	return respond(&heddlev1.DismissResponse{}, d.note("dismiss", r.Msg))
}

func (d *desk) GiveUp(_ context.Context, r *connect.Request[heddlev1.GiveUpRequest]) (*connect.Response[heddlev1.GiveUpResponse], error) {
	return respond(&heddlev1.GiveUpResponse{}, d.note("give up", r.Msg))
}

func (d *desk) Seal(_ context.Context, r *connect.Request[heddlev1.SealRequest]) (*connect.Response[heddlev1.SealResponse], error) {
	return respond(&heddlev1.SealResponse{}, d.note("seal", r.Msg))
}

func (d *desk) Pause(_ context.Context, r *connect.Request[heddlev1.PauseRequest]) (*connect.Response[heddlev1.PauseResponse], error) {
	return respond(&heddlev1.PauseResponse{}, d.note("pause", r.Msg))
}

func (d *desk) Resume(_ context.Context, r *connect.Request[heddlev1.ResumeRequest]) (*connect.Response[heddlev1.ResumeResponse], error) {
	return respond(&heddlev1.ResumeResponse{}, d.note("resume", r.Msg))
}

func (d *desk) Delete(_ context.Context, r *connect.Request[heddlev1.DeleteRequest]) (*connect.Response[heddlev1.DeleteResponse], error) {
	return respond(&heddlev1.DeleteResponse{}, d.note("delete", r.Msg))
}

// atDesk runs a test with a Run of workflow "w" at a desk.
func atDesk(t *testing.T, test func(t *testing.T, d *desk, run *Run)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &desk{peer: newPeer(), states: []heddlev1.State{heddlev1.State_STATE_SUCCEEDED}}
		c, _, done := serveAll(t, ClientConfig{}, d)
		defer done()
		test(t, d, c.Run("w"))
	})
}

func TestRunCalls(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk, run *Run) {
		ctx := t.Context()
		jobs := 0
		for i, do := range []func() error{
			func() error { return run.Cancel(ctx) },
			func() error { return run.Cancel(ctx, "a", "b/c") },
			func() error { return run.ForceCancel(ctx, "a") },
			func() (err error) { jobs, err = run.Retry(ctx, RetryOptions{Path: "a", Downstream: true}); return },
			func() error { return run.Dismiss(ctx, "a", "done by hand", "note") },
			func() error { return run.Dismiss(ctx, "a", nil, "") },
			func() error { return run.GiveUp(ctx, "a") },
			func() error { return run.Seal(ctx) },
			func() error { return run.Pause(ctx) },
			func() error { return run.Resume(ctx) },
			func() error { return run.Delete(ctx) },
		} {
			if err := do(); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
		want := []string{
			`cancel workflow_id:"w"`, `cancel workflow_id:"w" path:"a"`, `cancel workflow_id:"w" path:"b/c"`, `cancel workflow_id:"w" path:"a" force:true`,
			`retry workflow_id:"w" path:"a" downstream:true`, `dismiss workflow_id:"w" path:"a" result:"\"done by hand\"" note:"note"`,
			`dismiss workflow_id:"w" path:"a"`, `give up workflow_id:"w" path:"a"`, `seal workflow_id:"w"`,
			`pause workflow_id:"w"`, `resume workflow_id:"w"`, `delete workflow_id:"w"`,
		}
		if got := strings.Join(d.calls, "\n"); got != strings.Join(want, "\n") || jobs != 2 {
			t.Errorf("%d jobs; calls:\n%s", jobs, got)
		}
	})
}

func TestOnlySafeCallsAreRepeated(t *testing.T) {
	lost := func() error { return connect.NewError(connect.CodeUnavailable, errors.New("not the leader")) }
	atDesk(t, func(t *testing.T, d *desk, run *Run) {
		// An engine that answers has done nothing: everything may be repeated.
		d.fail = []error{lost(), lost()}
		if _, err := run.Retry(t.Context(), RetryOptions{}); err != nil || len(d.calls) != 3 {
			t.Errorf("%v after %d calls", err, len(d.calls))
		}
		d.calls, d.fail = nil, []error{connect.NewError(connect.CodeFailedPrecondition, errors.New("retry batch b"))}
		if err := run.Cancel(t.Context()); !errors.Is(err, ErrRefused) || len(d.calls) != 1 || !strings.Contains(err.Error(), "retry batch b") {
			t.Errorf("%v after %d calls", err, len(d.calls))
		}
	})
	for err, want := range map[error]bool{
		connect.NewError(connect.CodeUnavailable, errors.New("connection lost")): false, // by the transport: who knows
		connect.NewError(connect.CodeInternal, errors.New("broken")):             false,
	} {
		if got := again(err, onceOnly); got != want {
			t.Errorf("%v: repeated %v", err, got)
		}
	}
}

func TestOverloadWaitsAsAsked(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk, run *Run) {
		busy := connect.NewError(connect.CodeResourceExhausted, errors.New("busy"))
		busy.Meta().Set("Retry-After", "7")
		d.fail = []error{busy}
		start := time.Now()
		if err := run.Pause(t.Context()); err != nil || time.Since(start) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		d.fail = []error{connect.NewError(connect.CodeResourceExhausted, errors.New("message too large"))}
		if err := run.Pause(t.Context()); !errors.Is(err, ErrOverloaded) {
			t.Errorf("without a delay: %v", err)
		}
	})
}

func TestWaitGoesOnUntilTheEnd(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk, run *Run) {
		d.states = []heddlev1.State{heddlev1.State_STATE_RUNNING, heddlev1.State_STATE_RUNNING, heddlev1.State_STATE_FAILED}
		d.fail = []error{unavailable(), nil, unavailable()}
		o, err := run.Wait(t.Context())
		if err != nil || o != Failed || len(d.calls) != 5 {
			t.Errorf("%v, %v after %d calls", o, err, len(d.calls))
		}
		d.fail = []error{connect.NewError(connect.CodeNotFound, errors.New("w"))}
		if _, err := run.Wait(t.Context()); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
	})
}

func TestWatchGoesOnUntilTheEnd(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk, run *Run) {
		running := heddlev1.State_STATE_RUNNING
		// The stream breaks after its first message.
		d.will([]heddlev1.State{running, running, heddlev1.State_STATE_SUCCEEDED}, nil, unavailable(), nil, nil)
		var seen []State
		for s, err := range run.Watch(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, s.State)
		}
		if fmt.Sprint(seen) != "[running running succeeded]" {
			t.Errorf("seen %v", seen)
		}
		d.will([]heddlev1.State{running})
		for range run.Watch(t.Context()) {
			break
		}
		time.Sleep(time.Second) // the engine's side of it ends
		d.will([]heddlev1.State{running}, connect.NewError(connect.CodeNotFound, errors.New("w")))
		for s, err := range run.Watch(t.Context()) {
			if s != nil || !errors.Is(err, ErrNotFound) {
				t.Errorf("%v, %v", s, err)
			}
		}
	})
}

func TestStatus(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk, run *Run) {
		s, err := run.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.ID != "w" || s.Outcome() != Succeeded || s.Jobs.Ended() != 2 || !s.CreatedAt.Equal(time.Unix(1, 0)) || !s.FinishedAt.IsZero() {
			t.Errorf("status: %+v", s)
		}
		if b := s.Batch("b"); b == nil || b.State != StateFailed || s.Batch("x") != nil {
			t.Errorf("batch: %+v", b)
		}
	})
}

func TestCall(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk, run *Run) {
		if got, err := greet.Call(t.Context(), run.c, "x"); err != nil || got != "it" {
			t.Errorf("%q, %v", got, err)
		}
		d.states = []heddlev1.State{heddlev1.State_STATE_FAILED}
		_, err := greet.Call(t.Context(), run.c, "x")
		var end *OutcomeError
		if !errors.As(err, &end) || end.Outcome != Failed || end.Message != "why" || !strings.HasSuffix(err.Error(), "failed: why") {
			t.Errorf("%v", err)
		}
	})
}

func TestAppendFromOutside(t *testing.T) {
	atDesk(t, func(t *testing.T, d *desk, run *Run) {
		err := run.Append(t.Context(), "b", func(g *Group) {
			g.Add(noop.Job(None{})).After(Existing("b/x", Failed))
		})
		if err != nil || len(d.appends) != 1 {
			t.Fatalf("%v, %v", err, d.appends)
		}
		if m := d.appends[0]; m.GetBatch() != "b" || !strings.HasPrefix(m.GetKey(), "append/") || m.GetLease() != nil || m.GetGraph().GetNodes()[0].GetAfter()[0].GetPath() != "b/x" {
			t.Errorf("append: %v", m)
		}
		if err := run.Append(t.Context(), "b", func(g *Group) { g.Add(Job{}) }); !errors.Is(err, ErrInvalid) {
			t.Errorf("mistake: %v", err)
		}
		if err := run.Append(t.Context(), "b", func(*Group) {}); err != nil || len(d.appends) != 1 {
			t.Errorf("nothing: %v", err)
		}
	})
}

func TestRunWithoutAClient(t *testing.T) {
	run := NewRun(nil, "w")
	if run.ID() != "w" {
		t.Errorf("id %q", run.ID())
	}
	if err := run.Cancel(t.Context()); !errors.Is(err, ErrNoClient) {
		t.Errorf("%v", err)
	}
	for _, err := range run.Watch(t.Context()) {
		if !errors.Is(err, ErrNoClient) {
			t.Errorf("%v", err)
		}
	}
}
