package dag_test

import (
	"strconv"
	"testing"

	"github.com/heddle-io/heddle/dag"
)

// BenchmarkReports decides 2,000 reports of one batch, as a flush does.
func BenchmarkReports(b *testing.B) {
	const n = 2000
	g := dag.Graph{Nodes: make([]dag.Def, 1, 10*n)}
	g.Nodes[0] = dag.Def{IsBatch: true}
	for range 10*n - 1 {
		g.Nodes = append(g.Nodes, dag.Def{Batch: 1})
	}
	nodes, _ := g.Initial()
	events := make([]dag.Event, n)
	for i := range events {
		events[i] = dag.Event{Kind: dag.Report, Node: dag.ID(i + 2), Outcome: dag.Succeeded}
	}
	b.ReportAllocs()
	for b.Loop() {
		r := dag.NewRegion()
		r.Grow(n + 2)
		for _, node := range nodes[:n+2] {
			r.Put(node)
		}
		d, err := r.Decide(events...)
		if err != nil || len(d.Changes) != n+1 {
			b.Fatal(err, len(d.Changes))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/report")
}

// BenchmarkChain decides one step of a chain: the end of a job that releases the
// next.
func BenchmarkChain(b *testing.B) {
	g := dag.Graph{Nodes: make([]dag.Def, 3), Edges: []dag.Edge{{Parent: 1, Child: 2, On: 1}, {Parent: 2, Child: 3, On: 1}}}
	nodes, _ := g.Initial()
	event := dag.Event{Kind: dag.Report, Node: 1, Outcome: dag.Succeeded}
	b.ReportAllocs()
	for b.Loop() {
		r := dag.NewRegion()
		r.Put(nodes[0])
		r.Put(nodes[1])
		r.Put(nodes[2])
		r.PutOut(1, g.Edges[:1])
		d, err := r.Decide(event)
		if err != nil || len(d.Changes) != 3 {
			b.Fatal(err, d)
		}
	}
}

// BenchmarkChains decides a flush of 1,000 chains of one graph that each go one
// step on.
func BenchmarkChains(b *testing.B) {
	const n = 1000
	g := dag.Graph{Nodes: make([]dag.Def, 2*n)}
	for i := range n {
		g.Edges = append(g.Edges, dag.Edge{Parent: dag.ID(i + 1), Child: dag.ID(n + i + 1), On: 1})
	}
	benchmarkFlush(b, &g, n)
}

// BenchmarkFanIn decides 2,000 reports with an edge each into the same child.
func BenchmarkFanIn(b *testing.B) {
	const n = 2000
	g := dag.Graph{Nodes: make([]dag.Def, n+1)}
	for i := range n {
		g.Edges = append(g.Edges, dag.Edge{Parent: dag.ID(i + 1), Child: n + 1, On: 1})
	}
	benchmarkFlush(b, &g, n)
}

// benchmarkFlush decides the success of the first n nodes.
func benchmarkFlush(b *testing.B, g *dag.Graph, n int) {
	nodes, _ := g.Initial()
	events := make([]dag.Event, n)
	for i := range events {
		events[i] = dag.Event{Kind: dag.Report, Node: dag.ID(i + 1), Outcome: dag.Succeeded}
	}
	b.ReportAllocs()
	for b.Loop() {
		r := dag.NewRegion()
		r.Grow(len(nodes))
		for _, node := range nodes {
			r.Put(node)
		}
		for i := range n {
			r.PutOut(dag.ID(i+1), g.Edges[i:i+1])
		}
		if _, err := r.Decide(events...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/report")
}

// BenchmarkValidate checks a million named jobs in a thousand batches, each
// after the batch before, and a million edges.
func BenchmarkValidate(b *testing.B) {
	g := million()
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Validate(dag.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInitial gives the nodes of that graph as a submit writes them.
func BenchmarkInitial(b *testing.B) {
	g := million()
	b.ReportAllocs()
	for b.Loop() {
		if nodes, _ := g.Initial(); len(nodes) != len(g.Nodes)+1 {
			b.Fatal(len(nodes))
		}
	}
}

// BenchmarkStream sends it through a Builder.
func BenchmarkStream(b *testing.B) {
	g := million()
	for _, e := range g.Edges {
		g.Nodes[e.Child-1].Parents++
		g.Nodes[e.Parent-1].Children++
	}
	b.ReportAllocs()
	for b.Loop() {
		s := dag.NewBuilder(dag.Limits{}, g.Tolerance, g.Open)
		for _, def := range g.Nodes {
			s.Add(def)
		}
		for _, e := range g.Edges {
			s.Connect(e)
		}
		if err := s.Finish(); err != nil {
			b.Fatal(err)
		}
	}
}

func million() dag.Graph {
	const batches, jobs = 1000, 999
	g := dag.Graph{Nodes: make([]dag.Def, 0, batches*(jobs+1)), Edges: make([]dag.Edge, 0, batches*(jobs+1))}
	for i := range batches {
		batch := dag.ID(len(g.Nodes) + 1)
		g.Nodes = append(g.Nodes, dag.Def{Name: "batch " + strconv.Itoa(i), IsBatch: true})
		if i > 0 {
			g.Edges = append(g.Edges, dag.Edge{Parent: batch - jobs - 1, Child: batch, On: dag.Succeeded})
		}
		for j := range jobs {
			g.Nodes = append(g.Nodes, dag.Def{Name: "job " + strconv.Itoa(j), Kind: "noop", Batch: batch})
			if j > 0 {
				g.Edges = append(g.Edges, dag.Edge{Parent: batch + dag.ID(j), Child: batch + dag.ID(j) + 1, On: dag.Succeeded})
			}
		}
	}
	return g
}
