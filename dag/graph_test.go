package dag_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
)

func parse(t *testing.T, text string) (dag.Graph, map[string]dag.ID) {
	t.Helper()
	g, ids, err := dagtest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return g, ids
}

func TestValidateNamesMistakes(t *testing.T) {
	def := func(name string, batch dag.ID) dag.Def { return dag.Def{Name: name, Batch: batch} }
	for _, c := range []struct {
		name string
		g    dag.Graph
		want string
	}{
		{"twins", dag.Graph{Nodes: []dag.Def{def("a", 0), def("a", 0)}}, `nodes 1 and 2 of the workflow are both named "a"`},
		{"twins in a batch", dag.Graph{Nodes: []dag.Def{{Name: "B", IsBatch: true}, def("a", 1), def("a", 1)}}, `nodes 2 and 3 of batch B (node 1) are both named "a"`},
		{"slash", dag.Graph{Nodes: []dag.Def{def("a/b", 0)}}, `holds a slash: "a/b"`},
		{"long name", dag.Graph{Nodes: []dag.Def{def(strings.Repeat("x", 201), 0)}}, "has 201 bytes; 200 are allowed"},
		{"later batch", dag.Graph{Nodes: []dag.Def{def("a", 2), {IsBatch: true}}}, "job a (node 1) names 2 as its batch; a batch comes before"},
		{"no batch", dag.Graph{Nodes: []dag.Def{def("a", 0), def("b", 1)}}, "job b (node 2) names job a (node 1) as its batch, which is a job"},
		{"order", dag.Graph{Nodes: []dag.Def{{IsBatch: true}, {IsBatch: true}, def("b", 1)}}, "job b (node 3) is not in depth-first order: the members of node 1"},
		{"two edges", dag.Graph{Nodes: []dag.Def{def("a", 0), def("b", 0)}, Edges: []dag.Edge{{1, 2, 1}, {1, 2, 2}}}, "two edges from job a (node 1) to job b (node 2); give one edge with both"},
		{"root parent", dag.Graph{Nodes: []dag.Def{def("a", 0)}, Edges: []dag.Edge{{0, 1, 1}}}, "the workflow itself cannot be a parent (of job a (node 1))"},
		{"root child", dag.Graph{Nodes: []dag.Def{def("a", 0)}, Edges: []dag.Edge{{1, 0, 1}}}, "the workflow itself cannot wait"},
		{"unknown parent", dag.Graph{Nodes: []dag.Def{def("a", 0)}, Edges: []dag.Edge{{7, 1, 1}}}, "there is no node 7 (edge from 7 to 1)"},
		{"condition", dag.Graph{Nodes: []dag.Def{def("a", 0), def("b", 0)}, Edges: []dag.Edge{{1, 2, 16}}}, "has the condition 16"},
		{"no condition", dag.Graph{Nodes: []dag.Def{def("a", 0), def("b", 0)}, Edges: []dag.Edge{{1, 2, 0}}}, "has the condition 0"},
		{"join", dag.Graph{Nodes: []dag.Def{def("a", 0), {Name: "b", Join: 2}}, Edges: []dag.Edge{{1, 2, 1}}}, "job b (node 2) is to start after 2 of 1 parents"},
		{"join of none", dag.Graph{Nodes: []dag.Def{{Name: "b", Join: 1}}}, "job b (node 1) is to start after 1 of 0 parents"},
		{"negative join", dag.Graph{Nodes: []dag.Def{{Name: "b", Join: -1}}}, "after -1 of 0 parents"},
		{"percent", dag.Graph{Nodes: []dag.Def{{IsBatch: true, Tolerance: dag.Tolerance{Percent: 101}}}}, "tolerance of node 1 is 101 percent"},
		{"not a percentage", dag.Graph{Tolerance: dag.Tolerance{Percent: math.NaN()}}, "tolerance of the workflow is NaN percent"},
		{"count", dag.Graph{Tolerance: dag.Tolerance{Count: -1}}, "tolerance of the workflow is negative"},
		{"both", dag.Graph{Tolerance: dag.Tolerance{Count: 1, Percent: 1}}, "a count and a percentage"},
		{"open job", dag.Graph{Nodes: []dag.Def{{Open: true}}}, "node 1 is a job and cannot be open"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.g.Validate(dag.Limits{})
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, dag.ErrInvalid) {
				t.Errorf("%v\nshould say %s", err, c.want)
			}
		})
	}
}

func TestValidateLimits(t *testing.T) {
	g, _ := parse(t, "a b<a C(D(e))")
	if err := g.Validate(dag.Limits{Nodes: 5, Edges: 1, Depth: 2}); err != nil {
		t.Error(err)
	}
	for want, limits := range map[string]dag.Limits{
		"more than 4 nodes": {Nodes: 4}, "nested more than 1 deep": {Depth: 1},
	} {
		if err := g.Validate(limits); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; should say %s", err, want)
		}
	}
	g, _ = parse(t, "a b<a c<a")
	if err := g.Validate(dag.Limits{Edges: 1}); err == nil || !strings.Contains(err.Error(), "more than 1 edges") {
		t.Error(err)
	}
}

func TestValidateCollectsMistakes(t *testing.T) {
	g := dag.Graph{}
	for range 50 {
		g.Nodes = append(g.Nodes, dag.Def{Name: "/"})
	}
	err := g.Validate(dag.Limits{})
	if lines := strings.Count(err.Error(), "\n") + 1; lines != 21 {
		t.Errorf("%d lines:\n%v", lines, err)
	}
	if !strings.Contains(err.Error(), "and 79 more mistakes") {
		t.Error(err)
	}
}

func TestCycleNamesItsEvents(t *testing.T) {
	for text, want := range map[string]string{
		"B(m<x) x<B":          "x starts -> x ends -> B/m starts -> B/m ends -> B ends -> x starts",
		"B(m)<m":              "B/m starts -> B/m ends -> B starts -> B/m starts",
		"a<b b<a":             "a starts -> a ends -> b starts -> b ends -> a starts",
		"B(m<B)":              "B/m starts -> B/m ends -> B ends -> B/m starts",
		"z a<a":               "a starts -> a ends -> a starts",
		"B(m)<n C(n)<m z<b b": "",
	} {
		g, _ := parse(t, text)
		err := g.Validate(dag.Limits{})
		var cycle *dag.CycleError
		if !errors.As(err, &cycle) || !errors.Is(err, dag.ErrInvalid) {
			t.Fatalf("%s: %v", text, err)
		}
		if !sameCycle(cycle, want) && want != "" {
			t.Errorf("%s: %v", text, cycle)
		}
		if err := isCycle(&g, cycle); err != nil {
			t.Error(err)
		}
	}
}

// sameCycle compares a cycle with a sentence that may begin anywhere in it.
func sameCycle(cycle *dag.CycleError, want string) bool {
	for range cycle.Steps {
		if strings.HasSuffix(cycle.Error(), ": "+want) {
			return true
		}
		cycle.Steps = append(cycle.Steps[1:], cycle.Steps[0])
	}
	return false
}

func TestCycleOfManyStepsStaysReadable(t *testing.T) {
	const n = 1000
	g := dag.Graph{Nodes: make([]dag.Def, n)}
	for i := range n {
		g.Edges = append(g.Edges, dag.Edge{Parent: dag.ID(i + 1), Child: dag.ID((i+1)%n + 1), On: dag.Succeeded})
	}
	err := g.Validate(dag.Limits{})
	if len(err.Error()) > 1000 || !strings.Contains(err.Error(), "(1976 more)") {
		t.Error(err)
	}
}

func TestInitial(t *testing.T) {
	g, ids := parse(t, "a b<a B%2(m n<a E() F(o)<m) q<1/a,b G()<a")
	nodes, empty := g.Initial()
	if !reflect.DeepEqual(empty, []dag.ID{ids["E"]}) {
		t.Errorf("empty batches: %v", empty)
	}
	at := func(name string) dag.Node { return nodes[ids[name]] }
	for name, want := range map[string]dag.State{
		"wf": dag.Released, "a": dag.Released, "b": dag.Blocked, "B": dag.Released, "m": dag.Released,
		"n": dag.Blocked, "E": dag.Released, "F": dag.Blocked, "o": dag.Blocked, "q": dag.Blocked,
	} {
		if n := at(name); n.State != want || n.Released != (want == dag.Released) {
			t.Errorf("%s is %v, released %v", name, n.State, n.Released)
		}
	}
	if n := at("q"); n.Need != 1 || n.Slack != 1 || n.Join != 1 || n.HasChildren {
		t.Errorf("q: %+v", n)
	}
	if n := at("b"); n.Need != 1 || n.Slack != 0 || !n.HasChildren {
		t.Errorf("b: %+v", n)
	}
	if n := at("o"); n.Need != 0 || n.Slack != 0 {
		t.Errorf("o: %+v", n)
	}
	for name, want := range map[string][3]int32{"wf": {5, 1, 10}, "B": {4, 4, 8}, "E": {0, 7, 6}, "F": {1, 8, 8}, "G": {0, 11, 10}} {
		if n := at(name); [3]int32{n.Total, int32(n.Lo), int32(n.Hi)} != want {
			t.Errorf("%s: total %d, range %d..%d, not %v", name, n.Total, n.Lo, n.Hi, want)
		}
	}
}

func TestStreamIsCheckedAgainstItsAnnouncement(t *testing.T) {
	b := dag.NewBuilder(dag.Limits{}, dag.Tolerance{}, false)
	a := b.Add(dag.Def{Name: "a", Children: 2})
	c := b.Add(dag.Def{Name: "c", Parents: 1})
	d := b.Add(dag.Def{Name: "d", Parents: 2})
	if !a.HasChildren || a.State != dag.Released || c.State != dag.Blocked || d.Need != 2 {
		t.Errorf("%+v %+v %+v", a, c, d)
	}
	b.Connect(dag.Edge{Parent: 1, Child: 2, On: dag.Succeeded})
	err := b.Finish()
	for _, want := range []string{"job a (node 1) was announced with 2 children and has 1", "job d (node 3) was announced with 2 parents and has 0"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nshould say %s", err, want)
		}
	}
}

func TestDepthFirst(t *testing.T) {
	g := dag.Graph{
		Nodes: []dag.Def{
			{Name: "m", Batch: 3}, {Name: "x"}, {Name: "B", IsBatch: true}, {Name: "n", Batch: 3}, {Name: "C", IsBatch: true, Batch: 3}, {Name: "o", Batch: 5},
		},
		Edges: []dag.Edge{{Parent: 1, Child: 6, On: dag.Failed}},
	}
	ordered, number, err := dag.DepthFirst(g)
	if err != nil {
		t.Fatal(err)
	}
	if err := ordered.Validate(dag.Limits{}); err != nil {
		t.Error(err)
	}
	var names []string
	for _, def := range ordered.Nodes {
		names = append(names, fmt.Sprint(def.Name, def.Batch))
	}
	if got := strings.Join(names, " "); got != "x0 B0 m2 n2 C2 o5" {
		t.Error(got)
	}
	if want := []dag.ID{0, 3, 1, 2, 4, 5, 6}; !reflect.DeepEqual(number, want) {
		t.Error(number)
	}
	if want := []dag.Edge{{Parent: 3, Child: 6, On: dag.Failed}}; !reflect.DeepEqual(ordered.Edges, want) {
		t.Error(ordered.Edges)
	}
	for _, bad := range []dag.Graph{
		{Nodes: []dag.Def{{IsBatch: true, Batch: 2}, {IsBatch: true, Batch: 1}}},
		{Nodes: []dag.Def{{Batch: 2}, {}}},
		{Nodes: []dag.Def{{Batch: 9}}},
		{Nodes: []dag.Def{{}}, Edges: []dag.Edge{{Parent: 1, Child: 9}}},
	} {
		if _, _, err := dag.DepthFirst(bad); !errors.Is(err, dag.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestGrow(t *testing.T) {
	g, names, err := dagtest.ParseAppended("B(m n<m);o<B,old", 4, map[string]dag.ID{"old": 2})
	if err != nil {
		t.Fatal(err)
	}
	nodes, edges, err := g.Grow(dag.Into{Batch: 4, First: 10}, dag.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	number := func(name string) dag.ID { return 9 - names[name] }
	if n := nodes[0]; n.ID != 10 || n.Batch != 4 || n.Total != 2 || n.Lo != 11 || n.Hi != 12 || n.State != dag.Blocked {
		t.Errorf("B: %+v", n)
	}
	if n := nodes[2]; n.ID != number("n") || n.Batch != 10 || n.Need != 1 || n.HasChildren {
		t.Errorf("n: %+v", n)
	}
	want := []dag.Edge{{Parent: 11, Child: 12, On: 1}, {Parent: 10, Child: 13, On: 1}, {Parent: 2, Child: 13, On: 1}}
	if !reflect.DeepEqual(edges, want) {
		t.Errorf("edges %v", edges)
	}
}

func TestGrowNamesMistakes(t *testing.T) {
	into := dag.Into{Batch: 4, First: 10, Taken: func(name string) bool { return name == "old" }}
	for want, g := range map[string]dag.Graph{
		"has a member named \"old\" already": {Nodes: []dag.Def{{Name: "old", Batch: 4}}},
		"it may lie in batch 4 or in a new":  {Nodes: []dag.Def{{Batch: 3}}},
		"lead into new nodes only":           {Nodes: []dag.Def{{Batch: 4}}, Edges: []dag.Edge{{Parent: -1, Child: 2, On: 1}}},
		"there is no node 10":                {Nodes: []dag.Def{{Batch: 4}}, Edges: []dag.Edge{{Parent: 10, Child: -1, On: 1}}},
		"itself cannot be a parent":          {Nodes: []dag.Def{{Batch: 4}}, Edges: []dag.Edge{{Parent: 0, Child: -1, On: 1}}},
		"the condition 0":                    {Nodes: []dag.Def{{Batch: 4}}, Edges: []dag.Edge{{Parent: 2, Child: -1}}},
		"two edges from node 2":              {Nodes: []dag.Def{{Batch: 4}}, Edges: []dag.Edge{{Parent: 2, Child: -1, On: 1}, {Parent: 2, Child: -1, On: 2}}},
		"after 3 of 1 parents":               {Nodes: []dag.Def{{Batch: 4, Join: 3}}, Edges: []dag.Edge{{Parent: 2, Child: -1, On: 1}}},
		"wait for each other in a cycle":     {Nodes: []dag.Def{{Batch: 4}, {Batch: 4}}, Edges: []dag.Edge{{-1, -2, 1}, {-2, -1, 1}}},
	} {
		if _, _, err := g.Grow(into, dag.Limits{}); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, dag.ErrInvalid) {
			t.Errorf("%v\nshould say %s", err, want)
		}
	}
	big := dag.Graph{Nodes: make([]dag.Def, 3)}
	if _, _, err := big.Grow(dag.Into{First: 9}, dag.Limits{Nodes: 10}); err == nil {
		t.Error("a workflow grows beyond the limit")
	}
}

// FuzzGraph builds graphs of any bytes: none breaks the checks, and one that
// passes runs to its end.
func FuzzGraph(f *testing.F) {
	f.Add([]byte{3, 0, 1, 1, 0, 0, 0, 1, 2, 1})
	f.Add([]byte{5, 128, 0, 1, 129, 1, 0, 2, 2, 1, 1, 2, 3, 5, 1, 1, 4, 2, 2})
	f.Add([]byte("\xff\x80\x80\x80\x01\x02\x03\x04\x05\x06\x07"))
	f.Add([]byte{200, 1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		g := graphOf(data)
		err := g.Validate(dag.Limits{Nodes: 64, Edges: 64, Depth: 4})
		if ordered, number, err := dag.DepthFirst(g); err == nil {
			if len(ordered.Nodes) != len(g.Nodes) || len(number) != len(g.Nodes)+1 {
				t.Fatalf("%d nodes became %d", len(g.Nodes), len(ordered.Nodes))
			}
			for i := range ordered.Nodes {
				if b := ordered.Nodes[i].Batch; int(b) > i {
					t.Fatalf("node %d comes before its batch %d", i+1, b)
				}
			}
		}
		if err != nil {
			if !errors.Is(err, dag.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		sim, err := dagtest.New(&g, 2)
		if err != nil {
			t.Fatal(err)
		}
		turn := 0
		take := func(n int) int { turn++; return turn % n }
		if err := play(take, sim, func(id dag.ID) dag.Outcome { return []dag.Outcome{1, 2, 4}[id%3] }); err != nil {
			t.Fatal(err)
		}
		for _, n := range sim.Nodes() {
			if n.Open || n.Hold {
				return // waits for somebody
			}
		}
		if err := ended(sim, &g); err != nil {
			t.Fatal(err)
		}
	})
}

// graphOf reads nodes of three bytes and then edges of three.
func graphOf(data []byte) dag.Graph {
	var g dag.Graph
	if len(data) == 0 {
		return g
	}
	nodes := int(data[0]) % 70
	data = data[1:]
	for ; nodes > 0 && len(data) >= 3; nodes, data = nodes-1, data[3:] {
		options, name := data[0], data[2]
		def := dag.Def{
			Batch: dag.ID(int8(data[1])), IsBatch: options&128 != 0, Hold: options&1 != 0, Cleanup: options&2 != 0,
			Open: options&4 != 0, Join: int32(options >> 3 & 3),
		}
		if name > 200 {
			def.Tolerance.Percent = float64(name)
		}
		if name%4 == 0 {
			def.Name = string(rune(name))
		}
		g.Nodes = append(g.Nodes, def)
	}
	for ; len(data) >= 3; data = data[3:] {
		g.Edges = append(g.Edges, dag.Edge{Parent: dag.ID(int8(data[0])), Child: dag.ID(int8(data[1])), On: dag.Outcome(data[2] % 18)})
	}
	return g
}
