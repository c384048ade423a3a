package dag_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
)

// TestGrowth appends graphs between other events, from outside and by jobs: the
// counters hold, and the grown graph still comes to an end.
func TestGrowth(t *testing.T) { check(t, grows) }

func grows(intn intn) error {
	g := dagtest.Random(intn, quiet)
	sim, err := dagtest.New(&g, int32(intn(3)))
	if err != nil {
		return err
	}
	var log []string
	for range 4 + intn(16) {
		if intn(3) == 0 {
			err := growOnce(intn, sim, &log)
			if err != nil {
				return fmt.Errorf("%w\n%v\n%+v", err, log, g)
			}
		} else {
			event, start := randomEvent(intn, sim)
			log = append(log, fmt.Sprintf("%+v %d", event, start))
			if start != 0 {
				err = sim.Start(start)
			} else {
				_, err = sim.Apply(event)
			}
			if err != nil && !errors.Is(err, dag.ErrRefused) && !errors.Is(err, dag.ErrInvalid) {
				return fmt.Errorf("%w\n%v\n%+v", err, log, g)
			}
		}
		if err := sim.Check(); err != nil {
			return fmt.Errorf("%w\n%v\n%+v", err, log, g)
		}
	}
	if err := play(intn, sim, func(dag.ID) dag.Outcome { return anyEnd(intn) }); err != nil {
		return fmt.Errorf("%w\n%v\n%+v", err, log, g)
	}
	return ended(sim, &g)
}

// growOnce appends a small graph with edges from older nodes. The rules refuse
// what lies outside the batch; nothing else may be refused but a batch that
// takes no more.
func growOnce(intn intn, sim *dagtest.Sim, log *[]string) error {
	batch := dag.ID(intn(len(sim.Nodes())))
	if intn(2) == 0 {
		batch = dag.Root
	}
	more := dagtest.Random(intn, dagtest.Shape{Nodes: 4, Edges: 4})
	taken := map[[2]dag.ID]bool{}
	for i := range more.Nodes {
		def := &more.Nodes[i]
		if def.Batch == dag.Root {
			def.Batch = batch
		} else {
			def.Batch = -def.Batch
		}
	}
	for i := range more.Edges {
		e := &more.Edges[i]
		e.Parent, e.Child = -e.Parent, -e.Child
	}
	outside := false
	for range intn(4) {
		e := dag.Edge{Parent: dag.ID(1 + intn(len(sim.Nodes())-1)), Child: -dag.ID(1 + intn(len(more.Nodes))), On: dag.Finished}
		if pair := [2]dag.ID{e.Parent, e.Child}; !taken[pair] {
			taken[pair] = true
			more.Edges = append(more.Edges, e)
			outside = outside || !lies(sim, e.Parent, batch)
		}
	}
	inside := intn(2) == 0
	before := sim.Node(batch)
	cancelled := before.Cancelled || shutIn(sim, batch)
	count := len(sim.Nodes())
	*log = append(*log, fmt.Sprintf("append to %d: %+v", batch, more))
	_, err := sim.Append(batch, &more, inside)
	switch {
	case !before.IsBatch:
		return expectError(err, dag.ErrInvalid, "a job took members")
	case cancelled && inside:
		if err != nil || len(sim.Nodes()) != count {
			return fmt.Errorf("a graph for a cancelled batch is not dropped: %w", err)
		}
	case cancelled:
		return expectError(err, dag.ErrRefused, "a cancelled batch took members")
	case batch != dag.Root && before.State == dag.Ended:
		return expectError(err, dag.ErrRefused, "an ended batch took members")
	case outside:
		return expectError(err, dag.ErrRefused, "a node waits for one outside its batch")
	case errors.Is(err, dag.ErrRefused) && batch != dag.Root && before.State == dag.Blocked:
		// on its way to be skipped
	case err != nil:
		return err
	case len(sim.Nodes()) != count+len(more.Nodes):
		return fmt.Errorf("%d nodes came of %d", len(sim.Nodes())-count, len(more.Nodes))
	}
	return nil
}

func expectError(err, want error, otherwise string) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("%s: %v", otherwise, err)
	}
	return nil
}

func lies(sim *dagtest.Sim, id, batch dag.ID) bool {
	for at := sim.Node(id).Batch; at != dag.NoBatch; at = sim.Node(at).Batch {
		if at == batch {
			return true
		}
	}
	return false
}

func shutIn(sim *dagtest.Sim, id dag.ID) bool {
	for at := sim.Node(id).Batch; at != dag.NoBatch; at = sim.Node(at).Batch {
		if sim.Node(at).Cancelled {
			return true
		}
	}
	return false
}

// TestTogether: reports decided together change the same as one by one.
func TestTogether(t *testing.T) { check(t, togetherIsInTurn) }

func togetherIsInTurn(intn intn) error {
	g := dagtest.Random(intn, full)
	one, err := dagtest.New(&g, 0)
	if err != nil {
		return err
	}
	all, err := dagtest.New(&g, 0)
	if err != nil {
		return err
	}
	for range 6 {
		var events []dag.Event
		for _, id := range one.Ready() {
			if intn(3) > 0 {
				events = append(events, dag.Event{Kind: dag.Report, Node: id, Outcome: anyEnd(intn)})
			}
		}
		if intn(3) == 0 {
			events = append(events, dag.Event{Kind: dag.Cancel, Node: dag.ID(intn(len(one.Nodes())))})
		}
		if intn(3) == 0 {
			for _, n := range one.Nodes() {
				if !n.IsBatch && n.State == dag.Ended && n.Outcome == dag.Failed && !shutIn(one, n.ID) {
					events = append([]dag.Event{{Kind: dag.Retry, Node: n.ID}}, events...)
					break
				}
			}
		}
		for _, e := range events {
			if _, err := one.Apply(e); err != nil {
				return err
			}
		}
		if _, err := all.Apply(events...); err != nil {
			return err
		}
		if err := all.Check(); err != nil {
			return fmt.Errorf("%w\n%+v\n%+v", err, events, g)
		}
		for i, n := range one.Nodes() {
			if m := all.Node(dag.ID(i)); n.State != m.State || n.Outcome != m.Outcome || n.Released != m.Released {
				return fmt.Errorf("node %d one by one: %+v\ntogether: %+v\n%+v\n%+v", i, n, m, events, g)
			}
		}
	}
	return nil
}
