package dagtest

import "github.com/heddle-io/heddle/dag"

// Shape bounds random graphs.
type Shape struct {
	Nodes int // at least 1
	Edges int
	// Plain leaves out what the outcome of a batch or an edge depends on beyond
	// successes: every join is "all", every condition success, no options.
	Plain bool
	// Cyclic lets edges in that make the graph invalid.
	Cyclic bool
	// Waits lets batches be open and nodes hold.
	Waits bool
}

// Random draws a graph. intn(n) draws from 0 to n-1. Kinds are a few letters, so
// that some nodes are alike.
func Random(intn func(int) int, shape Shape) dag.Graph {
	g := dag.Graph{Nodes: make([]dag.Def, 1+intn(shape.Nodes))}
	if !shape.Plain && intn(4) == 0 {
		g.Tolerance = tolerance(intn)
	}
	stack := []dag.ID{dag.Root}
	for i := range g.Nodes {
		stack = stack[:1+intn(len(stack))]
		if intn(3) > 0 && len(stack) == 1 && i > 0 && g.Nodes[i-1].IsBatch {
			stack = append(stack, dag.ID(i)) // else most batches are empty
		}
		def := &g.Nodes[i]
		def.Batch = stack[len(stack)-1]
		def.Kind = string(rune('a' + intn(3)))
		if intn(5) < 2 {
			def.IsBatch = true
			stack = append(stack, dag.ID(i+1))
		}
		if shape.Plain {
			continue
		}
		def.Cleanup = intn(6) == 0
		def.Hold = shape.Waits && intn(6) == 0
		if def.IsBatch {
			def.Open = shape.Waits && intn(6) == 0
			if intn(3) == 0 {
				def.Tolerance = tolerance(intn)
			}
		}
	}
	connect(intn, shape, &g)
	if !shape.Plain {
		joins(intn, &g)
	}
	return g
}

func tolerance(intn func(int) int) dag.Tolerance {
	if intn(2) == 0 {
		return dag.Tolerance{Count: int32(1 + intn(2))}
	}
	return dag.Tolerance{Percent: float64(10 * (1 + intn(6)))}
}

// connect draws edges, leaving out those that the graph would be refused for.
func connect(intn func(int) int, shape Shape, g *dag.Graph) {
	n := len(g.Nodes)
	taken := make(map[[2]dag.ID]bool)
	for range intn(shape.Edges + 1) {
		e := dag.Edge{Parent: dag.ID(1 + intn(n)), Child: dag.ID(1 + intn(n)), On: dag.Succeeded}
		if !shape.Plain {
			e.On = [...]dag.Outcome{
				dag.Succeeded, dag.Succeeded, dag.Succeeded, dag.Failed, dag.Cancelled, dag.Finished, dag.Always,
				dag.Skipped, dag.NotSucceeded, dag.Succeeded | dag.Failed,
			}[intn(10)]
		}
		pair := [2]dag.ID{e.Parent, e.Child}
		if taken[pair] {
			continue
		}
		g.Edges = append(g.Edges, e)
		if !shape.Cyclic && g.Validate(dag.Limits{}) != nil {
			g.Edges = g.Edges[:len(g.Edges)-1]
			continue
		}
		taken[pair] = true
	}
}

func joins(intn func(int) int, g *dag.Graph) {
	parents := make([]int, len(g.Nodes)+1)
	for _, e := range g.Edges {
		parents[e.Child]++
	}
	for i := range g.Nodes {
		if n := parents[i+1]; n > 0 && intn(3) == 0 {
			g.Nodes[i].Join = int32(1 + intn(n))
		}
	}
}
