package heddle

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

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
