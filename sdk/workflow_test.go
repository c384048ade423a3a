package heddle

import (
	"context"
	"errors"
	"iter"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

var (
	noop  = NewKind[None, None]("test.noop")
	greet = NewKind[string, string]("test.greet", JobOptions{Queue: "bulk", Tags: []string{"kind"}, Retry: &Retry{Attempts: 3, Backoff: Fixed, Initial: time.Second}})
)

// submission encodes a work and reads it back.
func submissionOf(t *testing.T, w Work) *heddlev1.Submission {
	t.Helper()
	id, body, err := Encode(t.Context(), nil, w)
	if err != nil {
		t.Fatal(err)
	}
	s := &heddlev1.Submission{}
	if err := proto.Unmarshal(body, s); err != nil {
		t.Fatal(err)
	}
	if s.GetId() != id {
		t.Fatalf("id %q in the message, %q told", s.GetId(), id)
	}
	return s
}

func jobs(n int, k Kind[None, None]) iter.Seq[Job] {
	return func(yield func(Job) bool) {
		for range n {
			if !yield(k.Job(None{})) {
				return
			}
		}
	}
}

func TestNodesAreNumberedDepthFirst(t *testing.T) {
	wf := NewWorkflow("deep", WorkflowOptions{Tolerance: Count(2), Priority: 3, Headers: map[string]string{"a": "b"}})
	first := wf.Add(noop.Job(None{}, JobOptions{Name: "first"}))
	outer := wf.Batch("outer", BatchOptions{Tolerance: Percent(5), Open: true}).After(first)
	inner := outer.Batch("inner").HoldOnFailure()
	last := wf.Add(noop.Job(None{}, JobOptions{Name: "last"})).AfterAny(inner, outer.On(Finished)).Cleanup()
	inner.AddAll(jobs(2, noop))
	member := outer.Add(noop.Job(None{}, JobOptions{Name: "member"}))
	_, _ = last, member

	s := submissionOf(t, wf)
	type node struct {
		name      string
		container int32
		batch     bool
	}
	want := []node{
		{"first", 0, false}, {"outer", 0, true}, {"inner", 2, true}, {"", 3, false}, {"", 3, false},
		{"member", 2, false}, {"last", 0, false},
	}
	nodes := s.GetGraph().GetNodes()
	if len(nodes) != len(want) {
		t.Fatalf("%d nodes, want %d", len(nodes), len(want))
	}
	for i, n := range nodes {
		if got := (node{n.GetName(), n.GetContainer(), n.GetBatch() != nil}); got != want[i] {
			t.Errorf("node %d: %+v, want %+v", i+1, got, want[i])
		}
	}
	if n := nodes[6]; n.GetJoin() != 1 || n.GetParents() != 2 || !n.GetCleanup() {
		t.Errorf("last: join %d of %d parents, cleanup %v", n.GetJoin(), n.GetParents(), n.GetCleanup())
	}
	if !nodes[2].GetHold() || nodes[2].GetChildren() != 1 || !nodes[1].GetBatch().GetOpen() || nodes[1].GetBatch().GetTolerancePercent() != 5 {
		t.Errorf("batches: %v, %v", nodes[1], nodes[2])
	}
	edges := map[[2]int32]uint32{}
	for _, e := range s.GetGraph().GetEdges() {
		edges[[2]int32{e.GetParent(), e.GetChild()}] = e.GetOn()
	}
	if len(edges) != 3 || edges[[2]int32{1, 2}] != 1 || edges[[2]int32{3, 7}] != 1 || edges[[2]int32{2, 7}] != 7 {
		t.Errorf("edges: %v", edges)
	}
	if s.GetRoot().GetToleranceCount() != 2 || s.GetRoot().GetPriority() != 3 || s.GetHeaders()["a"] != "b" || s.GetName() != "deep" {
		t.Errorf("root: %v", s)
	}
}

func TestOptionsMergeLeftToRight(t *testing.T) {
	j := greet.Job("x",
		JobOptions{Priority: 1, Headers: map[string]string{"a": "1", "b": "1"}, Retry: &Retry{Attempts: 5}},
		JobOptions{Queue: "slow", Headers: map[string]string{"b": "2"}, Tags: []string{"job"}, Timeout: time.Minute})
	s := submissionOf(t, j).GetJob()
	o := s.GetOptions()
	if s.GetQueue() != "slow" || s.GetPriority() != 1 || o.GetHeaders()["a"] != "1" || o.GetHeaders()["b"] != "2" ||
		strings.Join(o.GetTags(), ",") != "kind,job" || o.GetTimeout().AsDuration() != time.Minute {
		t.Errorf("merged: %v", s)
	}
	r := o.GetRetry()
	if r.GetAttempts() != 5 || r.GetBackoff() != heddlev1.Backoff_BACKOFF_FIXED || r.GetInitial().AsDuration() != time.Second || r.Jitter != nil {
		t.Errorf("retry: %v", r)
	}
	again := submissionOf(t, greet.Job("y")).GetJob()
	if again.GetQueue() != "bulk" || len(again.GetOptions().GetTags()) != 1 || again.GetOptions().GetRetry().GetAttempts() != 3 {
		t.Errorf("the kind's defaults were changed: %v", again)
	}
	list := submissionOf(t, greet.Job("z", JobOptions{Retry: &Retry{Delays: []time.Duration{time.Second}, Jitter: -1}})).GetJob().GetOptions().GetRetry()
	if list.GetBackoff() != heddlev1.Backoff_BACKOFF_LIST || list.Jitter == nil || list.GetJitter() != 0 {
		t.Errorf("list: %v", list)
	}
}

func TestNoneIsNotSent(t *testing.T) {
	if args := submissionOf(t, noop.Job(None{})).GetJob().GetArgs(); len(args) != 0 {
		t.Errorf("None as arguments: %q", args)
	}
	if args := submissionOf(t, greet.Job("x")).GetJob().GetArgs(); string(args) != `"x"` {
		t.Errorf("arguments: %q", args)
	}
}

func TestMistakesAreCollected(t *testing.T) {
	other := NewWorkflow("other").Add(noop.Job(None{}))
	number := NewKind[float64, None]("test.number")
	for name, c := range map[string]struct {
		build func(wf *Workflow)
		want  []string
	}{
		"two names":        {func(wf *Workflow) { wf.Batch("a"); wf.Add(noop.Job(None{}, JobOptions{Name: "a"})) }, []string{`workflow: two nodes are named "a"`}},
		"slash":            {func(wf *Workflow) { wf.Batch("a/b") }, []string{`must not contain "/"`}},
		"name too long":    {func(wf *Workflow) { wf.Batch(strings.Repeat("x", 201)) }, []string{"name of 201 bytes: at most 200"}},
		"not UTF-8":        {func(wf *Workflow) { wf.Add(noop.Job(None{}, JobOptions{Key: "\xff"})) }, []string{`key "\xff"`}},
		"priority":         {func(wf *Workflow) { wf.Add(noop.Job(None{}, JobOptions{Priority: 5})) }, []string{"priority 5: must be 1 to 4"}},
		"negative timeout": {func(wf *Workflow) { wf.Add(noop.Job(None{}, JobOptions{Timeout: -1})) }, []string{"timeout -1ns: must not be negative"}},
		"retry":            {func(wf *Workflow) { wf.Add(noop.Job(None{}, JobOptions{Retry: &Retry{Attempts: 1001}})) }, []string{"attempts", "1001"}},
		"backoff":          {func(wf *Workflow) { wf.Add(noop.Job(None{}, JobOptions{Retry: &Retry{Backoff: 9}})) }, []string{"unknown backoff 9"}},
		"arguments":        {func(wf *Workflow) { wf.Add(number.Job(math.NaN())) }, []string{`arguments of kind "test.number"`, "NaN"}},
		"no kind":          {func(wf *Workflow) { wf.Add(Job{}) }, []string{"job without a kind"}},
		"empty kind":       {func(wf *Workflow) { wf.Add(NewKind[None, None]("").Job(None{})) }, []string{"kind: empty"}},
		"foreign parent":   {func(wf *Workflow) { wf.Add(noop.Job(None{})).After(other) }, []string{"belongs to another graph"}},
		"existing parent":  {func(wf *Workflow) { wf.Add(noop.Job(None{})).After(Existing("x")) }, []string{`parent "x": only an appended node`}},
		"nil parent":       {func(wf *Workflow) { wf.Add(noop.Job(None{})).After(nil) }, []string{"nil parent"}},
		"empty set":        {func(wf *Workflow) { a := wf.Batch("a"); wf.Add(noop.Job(None{})).After(a.On(0)) }, []string{"set of outcomes 0"}},
		"two joins":        {func(wf *Workflow) { a, b := wf.Batch("a"), wf.Batch("b"); wf.Batch("c").After(a).AfterAny(b) }, []string{"c: one join per node"}},
		"join too large":   {func(wf *Workflow) { wf.Batch("c").AfterAtLeast(2, wf.Batch("a")) }, []string{"AfterAtLeast(2) of 1 parents"}},
		"join of none":     {func(wf *Workflow) { wf.Batch("c").AfterAny() }, []string{"need parents"}},
		"twice":            {func(wf *Workflow) { a := wf.Batch("a"); wf.Batch("c").After(a, a.On(Failed)) }, []string{"one edge"}},
		"tolerance":        {func(wf *Workflow) { wf.Batch("c", BatchOptions{Tolerance: Percent(101)}) }, []string{"tolerance of 101 percent"}},
		"nil sequence":     {func(wf *Workflow) { wf.Batch("c").AddAll(nil) }, []string{"c: nil sequence"}},
		"sequence": {func(wf *Workflow) {
			wf.Batch("c").AddAll(func(yield func(Job) bool) { _ = yield(noop.Job(None{})) && yield(Job{}) })
		}, []string{"c: job 2 of a sequence", "without a kind"}},
		"names of a sequence": {func(wf *Workflow) {
			wf.Batch("c").AddAll(func(yield func(Job) bool) {
				j := noop.Job(None{}, JobOptions{Name: "n"})
				for range 2 {
					if !yield(j) {
						return
					}
				}
			})
		}, []string{`c: two nodes are named "n"`}},
		"all at once": {func(wf *Workflow) {
			wf.Batch("a/b")
			wf.Add(noop.Job(None{}, JobOptions{Name: "n", Priority: -1, Delay: -1}))
		}, []string{"a/b", "n: priority -1", "delay -1ns"}},
	} {
		t.Run(name, func(t *testing.T) {
			wf := NewWorkflow("wf")
			c.build(wf)
			_, _, err := Encode(t.Context(), nil, wf)
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("not ErrInvalid: %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
}

func TestMistakesOfLoneJobsAndWorkflows(t *testing.T) {
	var none *Workflow
	for name, w := range map[string]Work{
		"no kind": Job{}, "named": noop.Job(None{}, JobOptions{Name: "x"}), "nil workflow": none, "nil": nil, "empty workflow value": &Workflow{},
		"id":           NewWorkflow("x", WorkflowOptions{ID: "7"}),
		"id version":   NewWorkflow("x", WorkflowOptions{ID: "b0e2d6f2-6c2c-4b8e-9c67-0d5c2f3b1a11"}),
		"name":         NewWorkflow(strings.Repeat("x", 201)),
		"header":       NewWorkflow("x", WorkflowOptions{Headers: map[string]string{"": "x"}}),
		"queue length": noop.Job(None{}, JobOptions{Queue: strings.Repeat("q", 201)}),
	} {
		if _, _, err := Encode(t.Context(), nil, w); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCycleIsNamed(t *testing.T) {
	wf := NewWorkflow("wf")
	b := wf.Batch("b")
	m := b.Add(noop.Job(None{}, JobOptions{Name: "m"})).After(b)
	_ = m
	_, _, err := Encode(t.Context(), nil, wf)
	var cycle *CycleError
	if !errors.As(err, &cycle) || !strings.Contains(err.Error(), "m") {
		t.Fatalf("no cycle: %v", err)
	}
}

func TestEmptyWorkflow(t *testing.T) {
	if s := submissionOf(t, NewWorkflow("empty")); s.GetGraph() == nil || len(s.GetGraph().GetNodes()) != 0 {
		t.Errorf("empty workflow: %v", s)
	}
}

func TestAppendedNodesAreNegative(t *testing.T) {
	graph, err := build(func(g *Group) {
		b := g.Batch("b")
		m := b.Add(noop.Job(None{}))
		b.Add(noop.Job(None{})).After(m, Existing("old/one", Failed, Cancelled))
	})
	if err != nil {
		t.Fatal(err)
	}
	n := graph.GetNodes()
	if n[0].GetContainer() != 0 || n[1].GetContainer() != -1 || n[2].GetContainer() != -1 {
		t.Errorf("containers: %v", n)
	}
	if e := graph.GetEdges(); len(e) != 1 || e[0].GetParent() != -2 || e[0].GetChild() != -3 {
		t.Errorf("edges: %v", e)
	}
	after := n[2].GetAfter()
	if len(after) != 1 || after[0].GetPath() != "old/one" || len(after[0].GetOn()) != 2 {
		t.Errorf("after: %v", after)
	}
}

type tenantKey struct{}

// tenant carries a name across processes.
type tenant struct{}

func (tenant) Inject(ctx context.Context, h map[string]string) {
	if v, ok := ctx.Value(tenantKey{}).(string); ok {
		h["tenant"] = v
	}
}

func (tenant) Extract(ctx context.Context, h map[string]string) context.Context {
	return context.WithValue(ctx, tenantKey{}, h["tenant"])
}
