package dag_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
)

func draw(t *rapid.T) func(int) int {
	return func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") }
}

// intn gives the source of one property from a test or from a seed.
type intn = func(int) int

func check(t *testing.T, property func(intn) error) {
	t.Helper()
	rapid.Check(t, func(t *rapid.T) {
		if err := property(draw(t)); err != nil {
			t.Fatal(err)
		}
	})
}

var (
	full  = dagtest.Shape{Nodes: 12, Edges: 16, Waits: true}
	quiet = dagtest.Shape{Nodes: 12, Edges: 16}
)

// TestModel plays random events on the rules and on the model: both accept the
// same ones and come to the same states; the counters hold (P3) and no node is
// released twice in a life (P2).
func TestModel(t *testing.T) { check(t, followsModel) }

func followsModel(intn intn) error {
	g := dagtest.Random(intn, full)
	sim, err := dagtest.New(&g, 0)
	if err != nil {
		return err
	}
	m := newModel(&g)
	var log []string
	for range 4 + intn(24) {
		event, start := randomEvent(intn, sim)
		log = append(log, fmt.Sprintf("%+v", event))
		if start != 0 {
			if err := sim.Start(start); err != nil {
				return err
			}
			m.nodes[start].running = true
			continue
		}
		_, err := sim.Apply(event)
		if accepted := m.apply(event); accepted != (err == nil) {
			return fmt.Errorf("the model says %v, the rules %w\n%v\n%+v", accepted, err, log, g)
		}
		if err := errors.Join(sim.Check(), sameAsModel(sim, m)); err != nil {
			return fmt.Errorf("%w\n%v\n%+v", err, log, g)
		}
	}
	return nil
}

func sameAsModel(sim *dagtest.Sim, m *model) error {
	for i := range m.nodes {
		id := dag.ID(i)
		n := sim.Node(id)
		if want := m.state(id); n.State != want.State || n.Outcome != want.Outcome {
			return fmt.Errorf("node %d is %v %v, the model says %v %v", id, n.State, n.Outcome, want.State, want.Outcome)
		}
		if n.Released != m.nodes[id].released {
			return fmt.Errorf("node %d: released is %v, the model says %v", id, n.Released, m.nodes[id].released)
		}
	}
	return nil
}

// randomEvent draws an event, mostly the end of a job that could end.
func randomEvent(intn intn, sim *dagtest.Sim) (event dag.Event, start dag.ID) {
	node := dag.ID(intn(len(sim.Nodes())))
	ready, running := sim.Ready(), sim.Running()
	switch intn(16) {
	case 0, 1, 2:
		if len(ready) > 0 {
			return dag.Event{}, ready[intn(len(ready))]
		}
	case 3:
		return dag.Event{Kind: dag.Cancel, Node: node, Force: intn(3) == 0}, 0
	case 4:
		return dag.Event{Kind: dag.Retry, Node: node, Downstream: intn(2) == 0}, 0
	case 5:
		return dag.Event{Kind: dag.Dismiss, Node: node}, 0
	case 6:
		return dag.Event{Kind: dag.GiveUp, Node: node}, 0
	case 7:
		return dag.Event{Kind: dag.Seal, Node: node}, 0
	}
	could := append(running, ready...)
	if len(could) == 0 {
		for _, n := range sim.Nodes() { // take up what is left to do
			if n.State == dag.Ended && n.Outcome&(dag.Failed|dag.Cancelled) != 0 && intn(3) == 0 {
				return dag.Event{Kind: dag.Retry, Node: n.ID, Downstream: intn(2) == 0}, 0
			}
		}
		return dag.Event{Kind: dag.Seal, Node: node}, 0
	}
	return dag.Event{Kind: dag.Report, Node: could[intn(len(could))], Outcome: anyEnd(intn)}, 0
}

func anyEnd(intn intn) dag.Outcome {
	return [...]dag.Outcome{dag.Succeeded, dag.Succeeded, dag.Succeeded, dag.Failed, dag.Failed, dag.Cancelled}[intn(6)]
}

// TestCascades plays the same events on rules that hand everything down at once
// and on rules that cascade almost everything, in steps that fall between the
// events: once the cascades are through, both are the same.
func TestCascades(t *testing.T) { check(t, cascadesAgree) }

func cascadesAgree(intn intn) error {
	g := dagtest.Random(intn, full)
	whole, err := dagtest.New(&g, 0)
	if err != nil {
		return err
	}
	slow, err := dagtest.New(&g, int32(1+intn(2)))
	if err != nil {
		return err
	}
	var log []string
	for range 4 + intn(24) {
		if pending := slow.Cascades(); len(pending) > 0 && intn(2) == 0 {
			i := intn(len(pending))
			log = append(log, fmt.Sprintf("step %d", pending[i]))
			if err := slow.Step(i, 1+intn(2)); err != nil {
				return err
			}
			continue
		}
		event, start := randomEvent(intn, slow)
		if event.Kind == dag.Retry || event.Kind == dag.Dismiss || event.Kind == dag.Cancel {
			// What has not yet ended can be cancelled, and what has not yet
			// started can be retried: these depend on how far a cascade is.
			// That has a property of its own.
			if err := drain(slow, &log); err != nil {
				return err
			}
		}
		if id := max(start, event.Node); (start != 0 || event.Kind == dag.Report) && whole.Node(id).State != dag.Released {
			continue // a cancel that is still on its way down to this job
		}
		if start != 0 {
			log = append(log, fmt.Sprintf("start %d", start))
			if err := errors.Join(slow.Start(start), whole.Start(start)); err != nil {
				return fmt.Errorf("%w\n%v\n%+v", err, log, g)
			}
			continue
		}
		log = append(log, fmt.Sprintf("%+v", event))
		_, err := slow.Apply(event)
		_, want := whole.Apply(event)
		if (err == nil) != (want == nil) {
			return fmt.Errorf("in steps: %w; whole: %w\n%v\n%+v", err, want, log, g)
		}
		if err := errors.Join(slow.Check(), whole.Check()); err != nil {
			return fmt.Errorf("%w\n%v\n%+v", err, log, g)
		}
	}
	if err := drain(slow, &log); err != nil {
		return err
	}
	for i := range g.Nodes {
		a, b := slow.Node(dag.ID(i+1)), whole.Node(dag.ID(i+1))
		if a.State != b.State || a.Outcome != b.Outcome || a.Outcome != dag.Cancelled && a.Released != b.Released || a.State != dag.Ended && a.Cancelled != b.Cancelled {
			return fmt.Errorf("node %d in steps: %+v\nwhole: %+v\n%v\n%+v", i+1, a, b, log, g)
		}
	}
	return nil
}

func drain(sim *dagtest.Sim, log *[]string) error {
	*log = append(*log, "drain")
	return errors.Join(sim.Drain(1), sim.Check())
}

// TestRetryDuringCascades lets retries fall between the steps of cascades. What
// they do may differ from a retry at another time; but the counters hold, and
// once all is through nothing is left waiting that could go on (P1).
func TestRetryDuringCascades(t *testing.T) { check(t, retriesAmongCascades) }

func retriesAmongCascades(intn intn) error {
	g := dagtest.Random(intn, quiet)
	sim, err := dagtest.New(&g, 1)
	if err != nil {
		return err
	}
	var log []string
	for range 4 + intn(30) {
		if n := len(sim.Cascades()); n > 0 && intn(2) == 0 {
			if err := sim.Step(intn(n), 1); err != nil {
				return err
			}
			continue
		}
		event, start := randomEvent(intn, sim)
		if start != 0 {
			err = sim.Start(start)
		} else {
			_, err = sim.Apply(event)
		}
		log = append(log, fmt.Sprintf("%+v %d", event, start))
		if err != nil && !errors.Is(err, dag.ErrRefused) && !errors.Is(err, dag.ErrInvalid) {
			return err
		}
		if err := sim.Check(); err != nil {
			return fmt.Errorf("%w\n%v\n%+v", err, log, g)
		}
	}
	if err := play(intn, sim, func(dag.ID) dag.Outcome { return dag.Succeeded }); err != nil {
		return fmt.Errorf("%w\n%v\n%+v", err, log, g)
	}
	return ended(sim, &g)
}

// play runs jobs in a random order until none is left.
func play(intn intn, sim *dagtest.Sim, outcome func(dag.ID) dag.Outcome) error {
	for range 100 * (len(sim.Nodes()) + 1) {
		if n := len(sim.Cascades()); n > 0 {
			if err := sim.Step(intn(n), 1+intn(3)); err != nil {
				return err
			}
			continue
		}
		if err := sim.Check(); err != nil {
			return err
		}
		jobs := append(sim.Ready(), sim.Running()...)
		if len(jobs) == 0 {
			return nil
		}
		id := jobs[intn(len(jobs))]
		if _, err := sim.Apply(dag.Event{Kind: dag.Report, Node: id, Outcome: outcome(id)}); err != nil {
			return err
		}
	}
	return errors.New("the jobs never come to an end")
}

func ended(sim *dagtest.Sim, g *dag.Graph) error {
	for _, n := range sim.Nodes() {
		if n.State != dag.Ended {
			return fmt.Errorf("node %d is left %v\n%+v", n.ID, n.State, g)
		}
	}
	return nil
}

// TestEnds: every graph ends when no job runs and no external wait is left (P1),
// and ends the same in every order of the reports (P4).
func TestEnds(t *testing.T) { check(t, endsInEveryOrder) }

func endsInEveryOrder(intn intn) error {
	g := dagtest.Random(intn, quiet)
	fate := make([]dag.Outcome, len(g.Nodes)+1)
	for i := range fate {
		fate[i] = anyEnd(intn)
	}
	var first *dagtest.Sim
	for range 3 {
		sim, err := dagtest.New(&g, int32(intn(2)))
		if err != nil {
			return err
		}
		if err := play(intn, sim, func(id dag.ID) dag.Outcome { return fate[id] }); err != nil {
			return err
		}
		if err := ended(sim, &g); err != nil {
			return err
		}
		if first == nil {
			first = sim
		}
		if err := sameEnd(sim, first); err != nil {
			return fmt.Errorf("%w\n%+v", err, g)
		}
	}
	return nil
}

func sameEnd(a, b *dagtest.Sim) error {
	for i, n := range a.Nodes() {
		if o := b.Node(dag.ID(i)).Outcome; n.Outcome != o {
			return fmt.Errorf("node %d ends %v in one order and %v in another", i, n.Outcome, o)
		}
	}
	return nil
}

// TestExternalWaits: what holds or is open ends once it is given up and sealed.
func TestExternalWaits(t *testing.T) { check(t, endsAfterWaits) }

func endsAfterWaits(intn intn) error {
	g := dagtest.Random(intn, full)
	sim, err := dagtest.New(&g, int32(intn(2)))
	if err != nil {
		return err
	}
	for range len(g.Nodes) + 2 {
		if err := play(intn, sim, func(dag.ID) dag.Outcome { return anyEnd(intn) }); err != nil {
			return err
		}
		for _, n := range sim.Nodes() {
			kind := dag.Seal
			if n.Hold && n.State == dag.Ended {
				kind = dag.GiveUp
			} else if !n.Open || n.State != dag.Released {
				continue
			}
			if _, err := sim.Apply(dag.Event{Kind: kind, Node: n.ID}); err != nil {
				return err
			}
		}
	}
	return ended(sim, &g)
}

// TestMended: after a mended retry a node differs from the clean run only if
// it, or something before it, was released in the first run and would not be in
// the clean one (P5); with downstream nothing differs (P6).
func TestMended(t *testing.T) { check(t, mends) }

func mends(intn intn) error {
	g := dagtest.Random(intn, quiet)
	downstream := intn(2) == 0
	// A mended job fails until it is retried; what it is in the clean run.
	fate := make([]dag.Outcome, len(g.Nodes)+1)
	mended := make([]bool, len(fate))
	for i := range fate {
		fate[i] = [...]dag.Outcome{dag.Succeeded, dag.Succeeded, dag.Failed}[intn(3)]
		mended[i] = fate[i] == dag.Succeeded && intn(3) == 0
	}
	limit := int32(intn(2))
	clean, err := dagtest.New(&g, limit)
	if err != nil {
		return err
	}
	if err := play(intn, clean, func(id dag.ID) dag.Outcome { return fate[id] }); err != nil {
		return err
	}
	sim, err := dagtest.New(&g, limit)
	if err != nil {
		return err
	}
	ill := true
	outcome := func(id dag.ID) dag.Outcome {
		if ill && mended[id] {
			return dag.Failed
		}
		return fate[id]
	}
	if err := play(intn, sim, outcome); err != nil {
		return err
	}
	first := make([]bool, len(fate)) // released in the first run
	for i := range first {
		first[i] = sim.Node(dag.ID(i)).Released
	}
	ill = false
	if err := mend(intn, sim, mended, outcome, downstream && intn(2) == 0, downstream); err != nil {
		return fmt.Errorf("%w\n%+v", err, g)
	}
	if err := ended(sim, &g); err != nil {
		return err
	}
	stale := staleAfter(&g, func(id dag.ID) bool { return first[id] && !clean.Node(id).Released })
	for i := range fate {
		a, b := sim.Node(dag.ID(i)).Outcome, clean.Node(dag.ID(i)).Outcome
		if a != b && (downstream || !stale[i]) {
			return fmt.Errorf("node %d ends %v after mending, %v in the clean run (downstream %v)\n%v %v\n%+v",
				i, a, b, downstream, fate, mended, g)
		}
	}
	return nil
}

// mend retries all that failed together, or one mended job after the other, until
// none is left that failed.
func mend(intn intn, sim *dagtest.Sim, mended []bool, outcome func(dag.ID) dag.Outcome, singly, downstream bool) error {
	for {
		var failed []dag.ID
		for i := range mended {
			if n := sim.Node(dag.ID(i)); mended[i] && n.State == dag.Ended && n.Outcome == dag.Failed && !n.IsBatch {
				failed = append(failed, n.ID)
			}
		}
		if len(failed) == 0 {
			return nil
		}
		id := dag.Root
		if singly {
			id = failed[intn(len(failed))]
		}
		if _, err := sim.Apply(dag.Event{Kind: dag.Retry, Node: id, Downstream: downstream}); err != nil {
			return err
		}
		if err := play(intn, sim, outcome); err != nil {
			return err
		}
	}
}

// staleAfter gives the nodes that are seeds, or come after one: what happens to
// a node can change starts and ends, of the node and of everything its events
// lead to.
func staleAfter(g *dag.Graph, seed func(dag.ID) bool) []bool {
	m := newModel(g)
	var seeds []dag.ID
	for i := range m.nodes {
		if seed(dag.ID(i)) {
			seeds = append(seeds, dag.ID(i))
		}
	}
	stale := make([]bool, len(m.nodes))
	starts, ends := m.reach(seeds, false)
	for _, id := range append(starts, ends...) {
		stale[id] = true
	}
	return stale
}

// TestCycles: the check is exact. A graph in which every job succeeds and every
// join is "all" gets stuck if and only if it is refused (P7).
func TestCycles(t *testing.T) { check(t, cyclesAreExact) }

func cyclesAreExact(intn intn) error {
	g := dagtest.Random(intn, dagtest.Shape{Nodes: 10, Edges: 8, Plain: true, Cyclic: true})
	err := g.Validate(dag.Limits{})
	var cycle *dag.CycleError
	if err != nil && !errors.As(err, &cycle) {
		return err
	}
	sim, err := dagtest.New(&g, 0)
	if err != nil {
		return err
	}
	if err := play(intn, sim, func(dag.ID) dag.Outcome { return dag.Succeeded }); err != nil {
		return err
	}
	stuck := sim.Node(dag.Root).State != dag.Ended
	if stuck != (cycle != nil) {
		return fmt.Errorf("stuck %v, but the check says %v\n%+v", stuck, cycle, g)
	}
	if cycle != nil {
		return isCycle(&g, cycle)
	}
	return nil
}

// isCycle checks that each step of a cycle must come before the next.
func isCycle(g *dag.Graph, cycle *dag.CycleError) error {
	batch := func(id dag.ID) dag.ID { return g.Nodes[id-1].Batch }
	for i, a := range cycle.Steps {
		b := cycle.Steps[(i+1)%len(cycle.Steps)]
		ok := a.Node == b.Node && !a.Ends && b.Ends
		ok = ok || !a.Ends && !b.Ends && batch(b.Node) == a.Node
		ok = ok || a.Ends && b.Ends && batch(a.Node) == b.Node
		for _, e := range g.Edges {
			ok = ok || a.Ends && !b.Ends && e.Parent == a.Node && e.Child == b.Node
		}
		if !ok {
			return fmt.Errorf("%v does not lead to %v\n%v\n%+v", a, b, cycle, g)
		}
	}
	return nil
}
