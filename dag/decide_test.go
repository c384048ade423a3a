package dag_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
)

func simulate(t *testing.T, text string, limit int32) (*dagtest.Sim, map[string]dag.ID) {
	t.Helper()
	g, ids := parse(t, text)
	sim, err := dagtest.New(&g, limit)
	if err != nil {
		t.Fatal(err)
	}
	return sim, ids
}

// changed writes a decision as the names and letters of its changes.
func changed(d dag.Decision, ids map[string]dag.ID) string {
	names := make(map[dag.ID]string)
	for name, id := range ids {
		names[id] = name
	}
	var text []string
	for _, c := range d.Changes {
		word := names[c.Node.ID] + "=" + dagtest.Letter(c.Node)
		for _, flag := range []struct {
			set  bool
			name string
		}{{c.New, "new"}, {c.Released, "released"}, {c.Ended, "ended"}, {c.Reset, "reset"}, {c.Told, "told"}, {c.Cascade, "cascade"}} {
			if flag.set {
				word += "," + flag.name
			}
		}
		text = append(text, word)
	}
	return strings.Join(text, " ")
}

func TestDecideAsksForAllItNeedsAtOnce(t *testing.T) {
	g, ids := parse(t, "a b c<a,b")
	nodes, _ := g.Initial()
	r := dag.NewRegion()
	events := []dag.Event{
		{Kind: dag.Report, Node: ids["a"], Outcome: dag.Succeeded},
		{Kind: dag.Report, Node: ids["b"], Outcome: dag.Succeeded},
	}
	ask := func(want dag.Missing) {
		t.Helper()
		d, err := r.Decide(events...)
		if err != nil || len(d.Changes) > 0 || !reflect.DeepEqual(d.Missing, want) {
			t.Fatalf("%+v %v", d, err)
		}
	}
	ask(dag.Missing{Nodes: []dag.ID{1, 2}})
	r.Put(nodes[1])
	r.Put(nodes[2])
	ask(dag.Missing{Nodes: []dag.ID{0}, Out: []dag.ID{1, 2}})
	r.Put(nodes[0])
	r.Put(nodes[3])
	r.PutOut(1, g.Edges[:1])
	r.PutOut(2, g.Edges[1:])
	for range 2 { // a decision leaves the region as it is
		d, err := r.Decide(events...)
		if err != nil || changed(d, ids) != "wf=N a=S b=S c=R,released" {
			t.Fatalf("%s %v", changed(d, ids), err)
		}
		if c := d.Changes[3].Node; c.ReleasedBy != ids["b"] || c.Need != 0 {
			t.Errorf("%+v", c)
		}
	}
}

func TestReleasedByIsTheLastParentOrNobody(t *testing.T) {
	sim, ids := simulate(t, "a b B(m<a)<b q<1/a,b", 0)
	for _, name := range []string{"a", "b"} {
		if _, err := sim.Apply(dag.Event{Kind: dag.Report, Node: ids[name], Outcome: dag.Succeeded}); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]dag.ID{"B": ids["b"], "m": 0, "q": ids["a"]} {
		if n := sim.Node(ids[name]); n.ReleasedBy != want || n.State != dag.Released {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

func TestChangesSayWhatHappened(t *testing.T) {
	for _, c := range []struct {
		graph  string
		limit  int32
		events string
		last   dag.Event
		want   string
	}{
		{"a b<a c<a:f", 0, "", dag.Event{Kind: dag.Report, Node: 1, Outcome: dag.Succeeded}, "wf=N a=S b=R,released c=K,ended"},
		{"B(m n) c<B:c", 0, "m>", dag.Event{Kind: dag.Cancel, Node: 1}, "B=N m=N,told n=C,ended"},
		{"a b<a", 0, "a-", dag.Event{Kind: dag.Retry, Node: 1}, "wf=N,reset a=R,reset b=B,reset"},
		{"a b<a", 0, "a-", dag.Event{Kind: dag.Dismiss, Node: 1}, "wf=N,reset a=S,reset b=R,released,reset"},
		{"a b c<a,b", 0, "a- b-", dag.Event{Kind: dag.Retry, Node: 1}, "wf=N,reset a=R,reset"},
		{"a B(m n)<a", 1, "", dag.Event{Kind: dag.Report, Node: 1, Outcome: dag.Succeeded}, "wf=N a=S B=N,released,cascade"},
		{"a B(m n)<a", 1, "", dag.Event{Kind: dag.Report, Node: 1, Outcome: dag.Failed}, "wf=N a=F B=B,cascade"},
		{"B(m n)", 1, "", dag.Event{Kind: dag.Cancel, Node: 1}, "B=N,cascade"},
		{"a^ b<a", 0, "a-", dag.Event{Kind: dag.GiveUp, Node: 1}, "wf=F,ended a=F b=K,ended"},
		{"a^ b<a", 0, "a-", dag.Event{Kind: dag.Cancel, Node: 1}, "wf=F,ended a=F b=K,ended"},
		{"a", 0, "a+", dag.Event{Kind: dag.Cancel, Node: 1}, ""},
	} {
		var got string
		var sim *dagtest.Sim
		play := dagtest.Case{Graph: c.graph, Events: c.events}
		err := play.Run(func(g *dag.Graph) (dagtest.Engine, error) {
			var err error
			sim, err = dagtest.New(g, c.limit)
			return sim, err
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, ids := parse(t, c.graph)
		d, err := sim.Apply(c.last)
		if got = changed(d, ids); err != nil || got != c.want {
			t.Errorf("%s, %s, %+v:\n%s %v\nnot\n%s", c.graph, c.events, c.last, got, err, c.want)
		}
	}
}

func TestRefusalsNameNodes(t *testing.T) {
	for _, c := range []struct {
		graph, events string
		last          dag.Event
		want          string
		kind          error
	}{
		{"a", "a+", dag.Event{Kind: dag.Report, Node: 1, Outcome: dag.Failed}, "job 1 has already ended succeeded", dag.ErrRefused},
		{"a b<a", "", dag.Event{Kind: dag.Report, Node: 2, Outcome: dag.Failed}, "job 2 has not been released", dag.ErrRefused},
		{"a", "", dag.Event{Kind: dag.Report, Node: 1, Outcome: dag.Skipped}, "cannot be reported skipped (job 1)", dag.ErrInvalid},
		{"B(a)", "", dag.Event{Kind: dag.Report, Node: 1, Outcome: dag.Failed}, "batch 1 is no job", dag.ErrInvalid},
		{"a", "a+", dag.Event{Kind: dag.Retry, Node: 1}, "job 1 ended succeeded; only failed and cancelled", dag.ErrRefused},
		{"a", "", dag.Event{Kind: dag.Retry, Node: 1}, "job 1 has not ended", dag.ErrRefused},
		{"A(B(m n))", "m- c:A", dag.Event{Kind: dag.Retry, Node: 3}, "job 3 lies in batch 1, which is cancelled; retry batch 1 instead", dag.ErrRefused},
		{"a B(m)<a", "a-", dag.Event{Kind: dag.Retry, Node: 2}, "batch 2 was skipped; retry what it waited for", dag.ErrRefused},
		{"B(m)", "m+", dag.Event{Kind: dag.Retry, Node: 0}, "nothing in the workflow has failed", dag.ErrRefused},
		{"a b<a:f", "a-", dag.Event{Kind: dag.Retry, Node: 1, Downstream: true}, "job 2 has not ended", dag.ErrRefused},
		{"B(m)", "m-", dag.Event{Kind: dag.Dismiss, Node: 1}, "batch 1 is no job", dag.ErrInvalid},
		{"a", "", dag.Event{Kind: dag.GiveUp, Node: 1}, "job 1 does not hold", dag.ErrRefused},
		{"a", "", dag.Event{Kind: dag.Seal, Node: 1}, "job 1 is no batch", dag.ErrInvalid},
		{"a", "", dag.Event{Kind: dag.Append, Node: 1}, "job 1 is no batch", dag.ErrInvalid},
		{"B(m)", "c:wf", dag.Event{Kind: dag.Append, Node: 1}, "batch 1 is cancelled", dag.ErrRefused},
		{"B(m)", "m+", dag.Event{Kind: dag.Append, Node: 1}, "batch 1 has ended succeeded; append to the workflow instead", dag.ErrRefused},
		{"B(m) x", "", dag.Event{Kind: dag.Append, Node: 1, New: []dag.Node{{ID: 4, Batch: 1}}, Edges: []dag.Edge{{3, 4, 1}}}, "job 3 lies outside batch 1", dag.ErrRefused},
		{"a", "", dag.Event{Kind: dag.Append, New: []dag.Node{{ID: 2}}, Edges: []dag.Edge{{2, 1, 1}}}, "must lead into a new node", dag.ErrInvalid},
		{"a", "", dag.Event{Kind: dag.Append, New: []dag.Node{{ID: 2, Join: 2}}, Edges: []dag.Edge{{1, 2, 1}}}, "node 2 is to start after 2 of 1", dag.ErrInvalid},
		{"a", "", dag.Event{Kind: dag.Append, New: []dag.Node{{ID: 2, Batch: 1}}}, "must lie in batch 0 or in a new batch", dag.ErrInvalid},
		{"a", "", dag.Event{Kind: 99}, "no event has the kind 99", dag.ErrInvalid},
	} {
		var sim *dagtest.Sim
		play := dagtest.Case{Graph: c.graph, Events: c.events}
		if err := play.Run(func(g *dag.Graph) (dagtest.Engine, error) {
			var err error
			sim, err = dagtest.New(g, 0)
			return sim, err
		}, nil); err != nil {
			t.Fatal(err)
		}
		_, err := sim.Apply(c.last)
		if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s, %+v:\n%v\nshould say %s", c.graph, c.events, c.last, err, c.want)
		}
	}
}

// TestGraphOfACancelledBatchIsDropped: the job's own end still counts.
func TestGraphOfACancelledBatchIsDropped(t *testing.T) {
	sim, ids := simulate(t, "B(m) c<B:c", 0)
	if err := sim.Start(ids["m"]); err != nil {
		t.Fatal(err)
	}
	if _, err := sim.Apply(dag.Event{Kind: dag.Cancel, Node: ids["B"]}); err != nil {
		t.Fatal(err)
	}
	d, err := sim.Apply(
		dag.Event{Kind: dag.Append, Node: ids["B"], Inside: true, New: []dag.Node{{ID: 4, Batch: 1}}},
		dag.Event{Kind: dag.Report, Node: ids["m"], Outcome: dag.Succeeded},
	)
	if err != nil || changed(d, ids) != "wf=N B=C,ended m=S c=R,released" || !reflect.DeepEqual(d.Dropped, []int{0}) {
		t.Errorf("%s %v %v", changed(d, ids), d.Dropped, err)
	}
}

// TestReturnedGraphKeepsItsBatchOpen: it exists before the job's end is counted.
func TestReturnedGraphKeepsItsBatchOpen(t *testing.T) {
	sim, ids := simulate(t, "B(m) s<B", 0)
	ids["n"] = 4
	d, err := sim.Apply(
		dag.Event{Kind: dag.Append, Node: ids["B"], Inside: true, New: []dag.Node{{ID: 4, Batch: 1}}, Edges: []dag.Edge{{Parent: ids["m"], Child: 4, On: dag.Succeeded}}},
		dag.Event{Kind: dag.Report, Node: ids["m"], Outcome: dag.Succeeded},
	)
	if err != nil || changed(d, ids) != "wf=N B=N m=S n=R,new,released" {
		t.Errorf("%s %v", changed(d, ids), err)
	}
}

// TestLoneJob: a job that is its whole workflow has no batch to count in.
func TestLoneJob(t *testing.T) {
	r := dag.NewRegion()
	r.Put(dag.Node{ID: 1, Batch: dag.NoBatch, State: dag.Released, Released: true})
	d, err := r.Decide(dag.Event{Kind: dag.Report, Node: 1, Outcome: dag.Failed})
	if err != nil || !d.Missing.Empty() || len(d.Changes) != 1 || d.Changes[0].Node.Outcome != dag.Failed {
		t.Errorf("%+v %v", d, err)
	}
}

// TestManySmallBatchesCascade: a decision stays small also where no batch is
// large but many hang together.
func TestManySmallBatchesCascade(t *testing.T) {
	g := dag.Graph{Nodes: []dag.Def{{IsBatch: true}}}
	for range 10 {
		batch := dag.ID(len(g.Nodes) + 1)
		g.Nodes = append(g.Nodes, dag.Def{IsBatch: true, Batch: 1})
		for range 10 {
			g.Nodes = append(g.Nodes, dag.Def{Batch: batch})
		}
	}
	sim, err := dagtest.New(&g, 10)
	if err != nil {
		t.Fatal(err)
	}
	d, err := sim.Apply(dag.Event{Kind: dag.Cancel, Node: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Changes) > 100+2 || len(sim.Cascades()) == 0 {
		t.Errorf("%d changes, %d cascades", len(d.Changes), len(sim.Cascades()))
	}
	if err := errors.Join(sim.Drain(3), sim.Check()); err != nil {
		t.Error(err)
	}
	if n := sim.Node(dag.Root); n.Outcome != dag.Cancelled {
		t.Errorf("%+v", n)
	}
}
