package heddle

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// statuses answers all reports of a call alike.
func statuses(m *heddlev1.ReportRequest, s heddlev1.ReportStatus, message string) (*heddlev1.ReportResponse, error) {
	res := &heddlev1.ReportResponse{Epoch: 1}
	for range m.GetReports() {
		res.Results = append(res.Results, &heddlev1.ReportResult{Status: s, Message: message})
	}
	return res, nil
}

func TestReportsGatherWhileOneIsUnderWay(t *testing.T) {
	var first, second chan struct{}
	var calls atomic.Int32
	bubble(t, WorkerConfig{Slots: 1000}, func(r *rig) {
		first, second = make(chan struct{}), make(chan struct{})
		noop.Do(r.w, func(context.Context, None) error { return nil })
		r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			switch calls.Add(1) {
			case 1:
				<-first
			case 2:
				<-second
			}
			return r.p.accept(m)
		}
	}, func(r *rig) {
		r.p.add(1, "test.noop")
		synctest.Wait()
		r.p.add(reportGather-1, "test.noop") // too few for a second call
		synctest.Wait()
		time.Sleep(time.Second)
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls under way", n)
		}
		r.p.add(1, "test.noop")
		synctest.Wait()
		time.Sleep(time.Second)
		if n := calls.Load(); n != 2 {
			t.Errorf("%d calls under way", n)
		}
		r.p.add(3000, "test.noop") // no third call
		time.Sleep(time.Second)
		if n := calls.Load(); n != 2 {
			t.Errorf("%d calls under way", n)
		}
		close(first)
		close(second)
		r.reported(3000 + reportGather + 1)
		for _, n := range r.p.groups {
			if n > reportCount {
				t.Errorf("%d reports in one call", n)
			}
		}
	})
}

func TestReportsAreKeptUntilAcknowledged(t *testing.T) {
	var tries atomic.Int32
	bubble(t, WorkerConfig{Slots: 10}, func(r *rig) {
		greet.Handle(r.w, func(_ context.Context, s string) (string, error) {
			time.Sleep(time.Second)
			return s, nil
		})
		r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			switch n := tries.Add(1); {
			case n <= 3:
				return nil, unavailable()
			case n == 4:
				return statuses(m, heddlev1.ReportStatus_REPORT_STATUS_RETRY, "")
			}
			return r.p.accept(m)
		}
	}, func(r *rig) {
		r.p.add(1, "test.greet", func(l *heddlev1.Lease) { l.Args = []byte(`"x"`) })
		start := time.Now()
		rep := r.reported(1)[0]
		if string(rep.GetResult()) != `"x"` || rep.GetRanUs() != 1e6 {
			t.Errorf("report: %v", rep)
		}
		if ago := time.Duration(rep.GetEndedUsAgo()) * time.Microsecond; ago != (time.Since(start)-time.Second).Truncate(time.Microsecond) || ago < 375*time.Millisecond {
			t.Errorf("ended %v ago after %v", ago, time.Since(start))
		}
		if len(r.p.reports) != 1 || tries.Load() != 5 {
			t.Errorf("%d reports in %d tries", len(r.p.reports), tries.Load())
		}
	})
}

func TestStaleReportsAreDropped(t *testing.T) {
	var calls atomic.Int32
	bubble(t, WorkerConfig{}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error { return nil })
		r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			calls.Add(1)
			return statuses(m, heddlev1.ReportStatus_REPORT_STATUS_STALE, "")
		}
	}, func(r *rig) {
		r.p.add(1, "test.noop")
		time.Sleep(time.Minute)
		if calls.Load() != 1 {
			t.Errorf("%d calls", calls.Load())
		}
		if b := r.beatAfter(r.beats()); len(b.GetHeld()) != 0 {
			t.Errorf("still held: %v", b.GetHeld())
		}
	})
}

func TestRefusedReportBecomesAFailure(t *testing.T) {
	for name, refuse := range map[string]func(m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error){
		"by status": func(m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			res, err := statuses(m, heddlev1.ReportStatus_REPORT_STATUS_INVALID, "result of 2 MiB: at most 1 MiB")
			for i, rep := range m.GetReports() {
				if string(rep.GetResult()) != `"big"` {
					res.Results[i] = &heddlev1.ReportResult{Status: heddlev1.ReportStatus_REPORT_STATUS_RETRY}
				}
			}
			return res, err
		},
		"by error": func(*heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			return nil, connect.NewError(connect.CodeResourceExhausted, errors.New("result of 2 MiB: at most 1 MiB"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, WorkerConfig{}, func(r *rig) {
				greet.Handle(r.w, func(_ context.Context, s string) (string, error) { return s, nil })
				r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
					for _, rep := range m.GetReports() {
						if string(rep.GetResult()) == `"big"` {
							return refuse(m)
						}
					}
					return r.p.accept(m)
				}
			}, func(r *rig) {
				for _, args := range []string{`"a"`, `"big"`, `"b"`} {
					r.p.add(1, "test.greet", func(l *heddlev1.Lease) { l.Args = []byte(args) })
				}
				failed := 0
				for _, rep := range r.reported(3) {
					if rep.GetEnding() == heddlev1.Ending_ENDING_FAILED {
						failed++
						if rep.GetError() != "result of 2 MiB: at most 1 MiB" || len(rep.GetResult()) != 0 {
							t.Errorf("report: %v", rep)
						}
					}
				}
				if failed != 1 {
					t.Errorf("%d failed", failed)
				}
			})
		})
	}
}

func TestReportRefusedTwiceIsGivenUp(t *testing.T) {
	var calls atomic.Int32
	bubble(t, WorkerConfig{}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error { return nil })
		r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			calls.Add(1)
			return statuses(m, heddlev1.ReportStatus_REPORT_STATUS_INVALID, "no")
		}
	}, func(r *rig) {
		r.p.add(1, "test.noop")
		time.Sleep(time.Minute)
		if calls.Load() != 2 {
			t.Errorf("%d calls", calls.Load())
		}
		if b := r.beatAfter(r.beats()); len(b.GetHeld()) != 0 {
			t.Errorf("still held: %v", b.GetHeld())
		}
	})
}

func TestNoMoreJobsWhileReportsPileUp(t *testing.T) {
	var open chan struct{}
	var ran atomic.Int32
	bubble(t, WorkerConfig{Slots: 100}, func(r *rig) {
		open = make(chan struct{})
		noop.Do(r.w, func(context.Context, None) error { ran.Add(1); return nil })
		r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			<-open
			return r.p.accept(m)
		}
	}, func(r *rig) {
		r.p.add(2*backlogCount, "test.noop")
		time.Sleep(time.Second)
		if n := ran.Load(); n < backlogCount || n > backlogCount+200 {
			t.Errorf("%d ran before anything was acknowledged", n)
		}
		close(open)
		r.reported(2 * backlogCount)
	})
}

func TestWorkGoesOnAfterTheConnectionBroke(t *testing.T) {
	bubble(t, WorkerConfig{Slots: 4}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error { time.Sleep(time.Second); return nil })
	}, func(r *rig) {
		r.p.add(4, "test.noop")
		synctest.Wait()
		r.nets[0].cut()
		r.reported(4)
		r.p.add(4, "test.noop")
		r.reported(8)
		if r.p.sessions != 1 {
			t.Errorf("%d sessions", r.p.sessions)
		}
	})
}

func TestStopPhases(t *testing.T) {
	var began chan struct{}
	start := func(r *rig, h func(ctx context.Context) error) {
		began = make(chan struct{}, 10)
		noop.Do(r.w, func(ctx context.Context, _ None) error {
			began <- struct{}{}
			return h(ctx)
		})
	}
	t.Run("handlers end by themselves", func(t *testing.T) {
		bubble(t, WorkerConfig{StopTimeout: time.Minute}, func(r *rig) {
			start(r, func(ctx context.Context) error {
				time.Sleep(30 * time.Second)
				return ctx.Err()
			})
		}, func(r *rig) {
			r.p.add(1, "test.noop")
			<-began
			r.stop()
			r.p.add(1, "test.noop") // must not be taken any more
			at := time.Now()
			if err := r.finished(); err != nil {
				t.Error(err)
			}
			if d := time.Since(at); d != 30*time.Second {
				t.Errorf("took %v", d)
			}
			if len(r.p.reports) != 1 || r.p.reports[0].GetEnding() != heddlev1.Ending_ENDING_SUCCEEDED || len(r.p.closed) != 1 {
				t.Errorf("reports %v, closed %v", r.p.reports, r.p.closed)
			}
			// Heartbeats went on while it stopped.
			if n := len(r.p.beats); n < 8 {
				t.Errorf("%d heartbeats", n)
			}
		})
	})
	t.Run("handlers that obey", func(t *testing.T) {
		bubble(t, WorkerConfig{StopTimeout: time.Minute, StopGrace: time.Minute}, func(r *rig) {
			start(r, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				return context.Cause(ctx)
			})
		}, func(r *rig) {
			r.p.add(1, "test.noop")
			<-began
			at := time.Now()
			if err := r.finished(); err != nil {
				t.Error(err)
			}
			if d := time.Since(at); d != 61*time.Second {
				t.Errorf("took %v", d)
			}
			if len(r.p.reports) != 1 || r.p.reports[0].GetEnding() != heddlev1.Ending_ENDING_RELEASED {
				t.Errorf("reports %v", r.p.reports)
			}
		})
	})
	t.Run("handlers that do not", func(t *testing.T) {
		bubble(t, WorkerConfig{StopTimeout: time.Minute, StopGrace: time.Minute}, func(r *rig) {
			start(r, func(context.Context) error {
				time.Sleep(time.Hour)
				return nil
			})
		}, func(r *rig) {
			r.p.add(1, "test.noop")
			<-began
			at := time.Now()
			err := r.finished()
			if !errors.Is(err, ErrShutdown) || !strings.Contains(err.Error(), "1 handlers did not return") {
				t.Errorf("Run: %v", err)
			}
			if d := time.Since(at); d != 2*time.Minute {
				t.Errorf("took %v", d)
			}
			time.Sleep(time.Hour) // what it returns now is not wanted
			if len(r.p.reports) != 1 || r.p.reports[0].GetEnding() != heddlev1.Ending_ENDING_RELEASED {
				t.Errorf("reports %v", r.p.reports)
			}
		})
	})
	t.Run("engine away", func(t *testing.T) {
		bubble(t, WorkerConfig{}, func(r *rig) {
			start(r, func(context.Context) error { time.Sleep(time.Second); return nil })
		}, func(r *rig) {
			r.p.add(1, "test.noop")
			<-began
			_ = r.nets[0].Close()
			r.nets[0].cut()
			at := time.Now()
			if err := r.finished(); err != nil {
				t.Error(err)
			}
			if d := time.Since(at); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	})
	t.Run("before there is a session", func(t *testing.T) {
		bubble(t, WorkerConfig{}, func(r *rig) {
			start(r, func(context.Context) error { return nil })
			_ = r.nets[0].Close()
		}, func(r *rig) {
			time.Sleep(time.Minute)
			if err := r.finished(); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestHandlerSurroundings(t *testing.T) {
	var out bytes.Buffer
	var info Info
	var order []string
	var who any
	wrap := func(name string) func(HandlerFunc) HandlerFunc {
		return func(next HandlerFunc) HandlerFunc {
			return func(ctx context.Context, args []byte) ([]byte, error) {
				order = append(order, name+" "+JobInfo(ctx).Kind)
				return next(ctx, args)
			}
		}
	}
	cfg := WorkerConfig{Logger: slog.New(slog.NewTextHandler(&out, nil)), Middleware: []func(HandlerFunc) HandlerFunc{wrap("outer"), wrap("inner")}}
	var id string
	bubble(t, cfg, func(r *rig) {
		noop.Do(r.w, func(ctx context.Context, _ None) error {
			info, who = JobInfo(ctx), ctx.Value(tenantKey{})
			Logger(ctx).Info("hello from a handler")
			return nil
		})
	}, func(r *rig) {
		r.p.add(1, "test.noop", func(l *heddlev1.Lease) {
			l.Name, l.Node, l.Attempt, l.Priority, l.Batch, l.Lone = "n", 7, 3, 2, 4, false
			l.Options = &heddlev1.JobOptions{Headers: map[string]string{"tenant": "acme"}, Tags: []string{"t"}}
		})
		rep := r.reported(1)[0]
		var a = job{}
		a.Lease = &heddlev1.Lease{WorkflowId: rep.GetWorkflowId()}
		id = a.WorkflowID()
	})
	if info.ID() != id+"/7" || info.Name != "n" || info.Attempt != 3 || info.MaxAttempts != 10 || info.Queue != "default" || info.Kind != "test.noop" ||
		info.Batch != 4 || info.Lone || info.Headers["tenant"] != "acme" || info.Tags[0] != "t" {
		t.Errorf("info: %+v", info)
	}
	if who != "acme" {
		t.Errorf("tenant: %v", who)
	}
	if strings.Join(order, ",") != "outer test.noop,inner test.noop" {
		t.Errorf("order: %v", order)
	}
	if line := out.String(); !strings.Contains(line, `msg="hello from a handler" workflow=`+id+` node=7 kind=test.noop attempt=3 name=n`) {
		t.Errorf("log: %s", line)
	}
	if i := JobInfo(t.Context()); i.WorkflowID != "" {
		t.Errorf("outside a handler: %+v", i)
	}
}

func TestThenTravelsWithTheSuccess(t *testing.T) {
	bubble(t, WorkerConfig{}, func(r *rig) {
		greet.Do(r.w, func(ctx context.Context, s string) error {
			then := Then(ctx)
			a := then.Add(noop.Job(None{}, JobOptions{Name: "a"}))
			Then(ctx).Add(noop.Job(None{}, JobOptions{Name: "b"})).After(a)
			switch s {
			case "fails":
				return errors.New("no")
			case "mistake":
				then.Add(noop.Job(None{}, JobOptions{Name: "a"}))
			case "existing":
				then.Add(noop.Job(None{})).After(Existing("x"))
			}
			return nil
		})
		noop.Do(r.w, func(ctx context.Context, _ None) error { Then(ctx); return nil })
	}, func(r *rig) {
		run := func(n int, args string) *heddlev1.AttemptReport {
			r.p.add(1, "test.greet", func(l *heddlev1.Lease) { l.Args = []byte(args) })
			return r.reported(n)[n-1]
		}
		g := run(1, `"fine"`).GetThen()
		if len(g.GetNodes()) != 2 || len(g.GetEdges()) != 1 || g.GetEdges()[0].GetParent() != -1 || g.GetEdges()[0].GetChild() != -2 {
			t.Errorf("graph: %v", g)
		}
		if rep := run(2, `"fails"`); rep.GetThen() != nil {
			t.Errorf("graph of a failed attempt: %v", rep)
		}
		if rep := run(3, `"mistake"`); rep.GetThen() != nil || rep.GetEnding() != heddlev1.Ending_ENDING_FAILED || !strings.Contains(rep.GetError(), `two nodes are named "a"`) {
			t.Errorf("graph with a mistake: %v", rep)
		}
		if rep := run(4, `"existing"`); rep.GetEnding() != heddlev1.Ending_ENDING_FAILED {
			t.Errorf("graph that names an existing node: %v", rep)
		}
		r.p.add(1, "test.noop")
		if rep := r.reported(5)[4]; rep.GetThen() != nil || rep.GetEnding() != heddlev1.Ending_ENDING_SUCCEEDED {
			t.Errorf("empty graph: %v", rep)
		}
	})
	defer func() {
		if recover() == nil {
			t.Error("Then outside a handler")
		}
	}()
	Then(t.Context())
}

func TestAddNowRunsUnderTheLease(t *testing.T) {
	var fault, mistake error
	bubble(t, WorkerConfig{}, func(r *rig) {
		noop.Do(r.w, func(ctx context.Context, _ None) error {
			fault = AddNow(ctx, "k", func(g *Group) { g.Add(noop.Job(None{})) })
			mistake = AddNow(ctx, "", func(*Group) {})
			return AddNow(ctx, "nothing", func(*Group) {})
		})
	}, func(r *rig) {
		r.p.add(1, "test.noop")
		rep := r.reported(1)[0]
		if fault != nil || !errors.Is(mistake, ErrInvalid) || len(r.p.appends) != 1 {
			r.t.Fatalf("%v, %v, %v", fault, mistake, r.p.appends)
		}
		m := r.p.appends[0]
		if m.GetKey() != "k" || m.GetBatch() != "" || m.GetLease().GetLease() != rep.GetLease() || m.GetLease().GetSession() != 1 || m.GetLease().GetNode() != 1 {
			t.Errorf("append: %v", m)
		}
	})
	if err := AddNow(t.Context(), "k", func(*Group) {}); !errors.Is(err, ErrNotInHandler) {
		t.Errorf("outside a handler: %v", err)
	}
}

func TestResultsInHandlers(t *testing.T) {
	result := func(name string, o heddlev1.Outcome, value string) *heddlev1.Result {
		return &heddlev1.Result{Node: 3, Name: name, Outcome: o, Result: []byte(value)}
	}
	var text string
	var errs []error
	var members []Member[string]
	bubble(t, WorkerConfig{}, func(r *rig) {
		one := func(x *heddlev1.Result) *heddlev1.ResultsResponse {
			return &heddlev1.ResultsResponse{Results: []*heddlev1.Result{x}}
		}
		r.p.results["good"] = one(result("good", heddlev1.Outcome_OUTCOME_SUCCEEDED, `"yes"`))
		r.p.results["failed"] = one(result("failed", heddlev1.Outcome_OUTCOME_FAILED, ""))
		r.p.results["running"] = one(result("running", 0, ""))
		r.p.results["odd"] = one(result("odd", heddlev1.Outcome_OUTCOME_SUCCEEDED, `7`))
		r.p.results["batch"] = &heddlev1.ResultsResponse{Batch: true, Results: []*heddlev1.Result{
			result("a", heddlev1.Outcome_OUTCOME_SUCCEEDED, `"1"`), result("b", heddlev1.Outcome_OUTCOME_SKIPPED, ""),
			result("c", heddlev1.Outcome_OUTCOME_SUCCEEDED, `"3"`),
		}}
		noop.Do(r.w, func(ctx context.Context, _ None) error {
			text, _ = greet.Result(ctx, "good")
			for _, path := range []string{"failed", "running", "batch", "nowhere", "odd"} {
				_, err := greet.Result(ctx, path)
				errs = append(errs, err)
			}
			for m, err := range greet.Results(ctx, "batch") {
				if err != nil {
					return err
				}
				if members = append(members, m); len(members) == 2 {
					break
				}
			}
			for _, err := range greet.Results(ctx, "nowhere") {
				errs = append(errs, err)
			}
			return nil
		})
	}, func(r *rig) {
		r.p.add(1, "test.noop", func(l *heddlev1.Lease) { l.Node = 9 })
		if rep := r.reported(1)[0]; rep.GetEnding() != heddlev1.Ending_ENDING_SUCCEEDED {
			t.Errorf("report %v", rep)
		}
		if q := r.p.asked[0]; q.GetFromNode() != 9 || q.GetPath() != "good" || q.GetWorkflowId() == "" {
			t.Errorf("asked: %v", q)
		}
	})
	if text != "yes" {
		t.Errorf("result %q", text)
	}
	for i, want := range []error{ErrNoResult, ErrNoResult, ErrInvalid, ErrNotFound, nil, ErrNotFound} {
		if errs[i] == nil || want != nil && !errors.Is(errs[i], want) {
			t.Errorf("error %d: %v, want %v", i, errs[i], want)
		}
	}
	if len(members) != 2 || members[0].Value != "1" || members[0].Outcome != Succeeded || members[1].Outcome != Skipped || members[1].Value != "" {
		t.Errorf("members: %v", members)
	}
	if _, err := greet.Result(t.Context(), "x"); !errors.Is(err, ErrNotInHandler) {
		t.Errorf("outside a handler: %v", err)
	}
}
