package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// twin drives one graph through the database and through the rules in memory,
// which must agree on every row after every event (I1 to I4).
type twin struct {
	t     *rapid.T
	s     *Store
	reign model.Reign
	id    fsm.WorkflowID
	sim   *dagtest.Sim
	held  map[dag.ID]model.Finish // jobs under a lease, as granted
	past  []model.Finish          // ends that were written
	log   []string
}

// newReign takes a store's database over and names the reign.
func newReign(t testing.TB, s *Store) model.Reign {
	t.Helper()
	ctx := context.Background()
	if floor, err := s.Takeover(ctx, fsm.WorkflowID{1}, 7); err != nil || floor != 0 {
		t.Fatalf("takeover: floor %d, %v", floor, err)
	}
	timeline, err := s.Timeline(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return model.Reign{Epoch: 7, Timeline: timeline}
}

func TestDifferential(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	for _, limit := range []int32{0, 2} {
		t.Run(fmt.Sprintf("cascade limit %d", limit), func(t *testing.T) {
			s.cascadeLimit, s.cascadeChunk = limit, 2
			rapid.Check(t, func(rt *rapid.T) { runTwin(rt, s, reign) })
		})
	}
}

func runTwin(rt *rapid.T, s *Store, reign model.Reign) {
	intn := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") }
	g := dagtest.Random(intn, dagtest.Shape{Nodes: 12, Edges: 14, Waits: true})
	sortEdges(&g)
	sim, err := dagtest.New(&g, s.cascadeLimit)
	if err != nil {
		rt.Fatalf("simulate: %v", err)
	}
	tw := &twin{t: rt, s: s, reign: reign, id: newID(), sim: sim, held: map[dag.ID]model.Finish{}}
	out := s.Submit(context.Background(), []model.Submission{submissionOf(tw.id, &g)})
	if out[0].Err != nil {
		rt.Fatalf("submit %+v: %v", g, out[0].Err)
	}
	tw.compare("submit")
	for range 5 + intn(25) {
		tw.event(intn)
	}
	for len(sim.Cascades()) > 0 {
		tw.step()
	}
}

// sortEdges puts edges in the order in which their index has them: while a
// start goes down a batch in chunks, it decides whether a member whose last
// parent ends in the same event is released at once or by its chunk.
func sortEdges(g *dag.Graph) {
	slices.SortFunc(g.Edges, func(a, b dag.Edge) int {
		return cmp.Or(cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Child, b.Child))
	})
}

// submissionOf gives a graph of the rules as a submission.
func submissionOf(id fsm.WorkflowID, g *dag.Graph) model.Submission {
	return model.Submission{
		ID: id, Root: model.NewBatch{Tolerance: g.Tolerance, Open: g.Open}, Nodes: chunkOf(g).Nodes, Edges: g.Edges,
	}
}

func chunkOf(g *dag.Graph) *model.Chunk {
	c := &model.Chunk{Edges: g.Edges}
	for _, def := range g.Nodes {
		n := model.NewNode{Name: def.Name, Container: def.Batch, Join: def.Join, Hold: def.Hold, Cleanup: def.Cleanup}
		if def.IsBatch {
			n.Batch = &model.NewBatch{Tolerance: def.Tolerance, Open: def.Open}
		} else {
			n.Job = &model.Job{Kind: "k", Queue: "q", MaxAttempts: 3}
		}
		c.Nodes = append(c.Nodes, n)
	}
	return c
}

// event draws one event and has both sides take it.
func (tw *twin) event(intn func(int) int) {
	node := dag.ID(intn(len(tw.sim.Nodes())))
	switch intn(12) {
	case 0, 1, 2:
		for _, id := range tw.sim.Ready() {
			if intn(3) > 0 {
				tw.start(id)
			}
		}
	case 3, 4, 5:
		tw.report(intn)
	case 6:
		force := intn(2) == 0
		tw.command(dag.Event{Kind: dag.Cancel, Node: node, Force: force}, func(ctx context.Context) error {
			_, err := tw.s.Cancel(ctx, tw.reign, tw.id, node, force, tw.leased())
			return err
		})
	case 7:
		downstream := intn(2) == 0
		tw.command(dag.Event{Kind: dag.Retry, Node: node, Downstream: downstream}, func(ctx context.Context) error {
			_, _, err := tw.s.Retry(ctx, tw.reign, tw.id, node, downstream, tw.leased())
			return err
		})
	case 8:
		tw.command(dag.Event{Kind: dag.Dismiss, Node: node}, func(ctx context.Context) error {
			_, err := tw.s.Dismiss(ctx, tw.reign, tw.id, node, []byte("1"), "seen")
			return err
		})
	case 9:
		if intn(2) == 0 {
			tw.command(dag.Event{Kind: dag.GiveUp, Node: node}, func(ctx context.Context) error {
				_, err := tw.s.GiveUp(ctx, tw.reign, tw.id, node)
				return err
			})
		} else {
			tw.command(dag.Event{Kind: dag.Seal, Node: node}, func(ctx context.Context) error {
				_, err := tw.s.Seal(ctx, tw.reign, tw.id, node)
				return err
			})
		}
	case 10:
		g := tw.appended(intn, node)
		first := dag.ID(len(tw.sim.Nodes()))
		nodes, edges, simErr := g.Grow(dag.Into{Batch: node, First: first}, dag.Limits{})
		if simErr == nil {
			_, simErr = tw.sim.Apply(dag.Event{Kind: dag.Append, Node: node, New: nodes, Edges: edges})
		}
		got, _, _, _, err := tw.s.Append(context.Background(), AppendRequest{ID: tw.id, Batch: node, Chunk: *chunkOf(&g)})
		tw.agree("append", simErr, err)
		if err == nil && got != first {
			tw.t.Fatalf("appended from %d on, want %d", got, first)
		}
	case 11:
		if len(tw.sim.Cascades()) > 0 {
			tw.step()
		}
	}
}

// appended draws a small graph for a batch, with parents that exist.
func (tw *twin) appended(intn func(int) int, batch dag.ID) dag.Graph {
	g := dagtest.Random(intn, dagtest.Shape{Nodes: 3, Edges: 2})
	for i := range g.Nodes {
		if g.Nodes[i].Batch == dag.Root {
			g.Nodes[i].Batch = batch
		} else {
			g.Nodes[i].Batch = -g.Nodes[i].Batch
		}
	}
	for i := range g.Edges {
		g.Edges[i].Parent, g.Edges[i].Child = -g.Edges[i].Parent, -g.Edges[i].Child
	}
	if intn(2) == 0 {
		parent := dag.ID(intn(len(tw.sim.Nodes())))
		g.Edges = append(g.Edges, dag.Edge{Parent: parent, Child: -1, On: dag.Outcome(1 + intn(15))})
		g.Nodes[0].Join = 0
	}
	slices.SortFunc(g.Edges, func(a, b dag.Edge) int {
		return cmp.Or(cmp.Compare(-a.Parent, -b.Parent), cmp.Compare(-a.Child, -b.Child))
	})
	return g
}

func (tw *twin) leased() []int32 {
	var nodes []int32
	for id := range tw.held {
		nodes = append(nodes, int32(id))
	}
	return nodes
}

// start leases a job, as a grant does: from its row.
func (tw *twin) start(id dag.ID) {
	if err := tw.sim.Start(id); err != nil {
		tw.t.Fatal(err)
	}
	f := model.Finish{Job: fsm.JobID{Workflow: tw.id, Node: int32(id)}, Worker: "w"}
	row := tw.s.main.QueryRow(context.Background(), `SELECT turn, coalesce(batch, -1), coalesce(flags, 0) FROM jobs WHERE workflow_id = $1 AND node = $2 AND state = 1`, tw.id, int32(id))
	if err := row.Scan(&f.Turn, &f.Batch, &f.Flags); err != nil {
		tw.t.Fatalf("the row of job %d: %v", id, err)
	}
	tw.held[id] = f
	tw.log = append(tw.log, fmt.Sprintf("start %d", id))
}

// report ends some of the leases in one flush, perhaps with an old end or two
// among them.
func (tw *twin) report(intn func(int) int) {
	var items []model.Finish
	var reports, thens []dag.Event
	var want []bool // refused
	var retried, ended []dag.ID
	ids := tw.leased()
	slices.Sort(ids)
	next := dag.ID(len(tw.sim.Nodes()))
	// Returned graphs that the rules refuse change nothing: one at a time.
	returned := false
	for _, node := range ids {
		if intn(3) == 0 {
			continue
		}
		id := dag.ID(node)
		f := tw.held[id]
		n := tw.sim.Node(id)
		refused := false
		switch what := intn(10); {
		case what < 4:
			f.Ending = model.EndSucceeded
			reports = append(reports, dag.Event{Kind: dag.Report, Node: id, Outcome: dag.Succeeded})
		case what < 6:
			f.Ending = model.EndFailed
			reports = append(reports, dag.Event{Kind: dag.Report, Node: id, Outcome: dag.Failed})
		case what == 6:
			f.Ending = model.EndCancelled
			reports = append(reports, dag.Event{Kind: dag.Report, Node: id, Outcome: dag.Cancelled})
		case what == 7 && !returned:
			returned = true
			f.Ending = model.EndSucceeded
			g := tw.appended(intn, n.Batch)
			f.Then = chunkOf(&g)
			nodes, edges, err := g.Grow(dag.Into{Batch: n.Batch, First: next}, dag.Limits{})
			events := []dag.Event{
				{Kind: dag.Append, Node: n.Batch, New: nodes, Edges: edges, Inside: true},
				{Kind: dag.Report, Node: id, Outcome: dag.Succeeded},
			}
			if err == nil {
				_, err = tw.sim.Decide(events...)
			}
			if refused = err != nil; !refused {
				thens = append(thens, events...)
			}
		default:
			f.Ending, f.How = model.EndRetry, 1
			if what == 9 {
				f.Ending, f.How = model.EndSnooze, 3
			}
			if n.Cancelled {
				reports = append(reports, dag.Event{Kind: dag.Report, Node: id, Outcome: dag.Cancelled})
			} else {
				retried = append(retried, id)
			}
		}
		items = append(items, f)
		want = append(want, refused)
		if !refused {
			ended = append(ended, id)
		}
	}
	if len(items) == 0 {
		return
	}
	// A row that was told to cancel is found out only when its update finds
	// nothing: those ends are written after the others.
	slices.SortStableFunc(reports, func(a, b dag.Event) int { return tw.late(items, a) - tw.late(items, b) })
	tw.simulate(reports, thens, items)
	for _, id := range retried {
		tw.sim.Stop(id)
	}
	answers, _, err := tw.s.Flush(context.Background(), tw.reign, items)
	if err != nil {
		tw.t.Fatalf("flush %+v after %v: %v", items, tw.log, err)
	}
	for i, a := range answers {
		if a.Stale || (a.Err != nil) != want[i] {
			tw.t.Fatalf("item %+v: answered %+v, refused should be %v; after %v", items[i], a, want[i], tw.log)
		}
	}
	for _, id := range ended {
		delete(tw.held, id)
	}
	tw.log = append(tw.log, fmt.Sprintf("flush %+v", items))
	for i, f := range items {
		if !want[i] {
			tw.past = append(tw.past, f)
		}
	}
	tw.compare("flush")
	tw.repeat(items, want)
}

// late tells whether an end is written by a second transaction of its flush.
func (tw *twin) late(items []model.Finish, e dag.Event) int {
	for _, f := range items {
		if dag.ID(f.Job.Node) == e.Node && requeues(f.Ending) {
			return 1
		}
	}
	return 0
}

// simulate applies the reports as the flush does: in one decision, the returned
// graph last, and the late ones in one of their own.
func (tw *twin) simulate(reports, thens []dag.Event, items []model.Finish) {
	k := slices.IndexFunc(reports, func(e dag.Event) bool { return tw.late(items, e) == 1 })
	if k < 0 {
		k = len(reports)
	}
	for _, events := range [][]dag.Event{append(slices.Clone(reports[:k]), thens...), reports[k:]} {
		if len(events) == 0 {
			continue
		}
		if _, err := tw.sim.Apply(events...); err != nil {
			tw.t.Fatalf("simulate %+v: %v", events, err)
		}
	}
}

// repeat sends a flush once more, as after a commit in doubt: all of it is
// answered as done and nothing changes.
func (tw *twin) repeat(items []model.Finish, refused []bool) {
	var again []model.Finish
	for i := range items {
		if !refused[i] {
			again = append(again, items[i])
		}
	}
	answers, eff, err := tw.s.Flush(context.Background(), tw.reign, again)
	if err != nil {
		tw.t.Fatalf("repeated flush: %v", err)
	}
	for i, a := range answers {
		if a != (model.Flushed{}) {
			tw.t.Fatalf("repeated flush of %+v: answered %+v; after %v", again[i], a, tw.log)
		}
	}
	if len(eff.Ready)+len(eff.Gone)+len(eff.Tell) > 0 {
		tw.t.Fatalf("repeated flush: %+v", eff)
	}
	tw.compare("repeated flush")
}

func (tw *twin) command(e dag.Event, run func(context.Context) error) {
	_, simErr := tw.sim.Apply(e)
	tw.agree(fmt.Sprintf("%+v", e), simErr, run(context.Background()))
}

// agree checks that both sides refused or both did not, and compares.
func (tw *twin) agree(what string, simErr, err error) {
	tw.log = append(tw.log, what)
	if (simErr == nil) != (err == nil) {
		tw.t.Fatalf("%s: the rules say %v, the store says %v; after %v", what, simErr, err, tw.log)
	}
	if err != nil && !isInput(err) {
		tw.t.Fatalf("%s: %v", what, err)
	}
	tw.compare(what)
}

// step goes on with the oldest cascade. Other runs in the same database leave
// theirs, so it is the oldest of this graph.
func (tw *twin) step() {
	node := tw.sim.Cascades()[0]
	if err := tw.sim.Step(0, int(tw.s.cascadeChunkOr())); err != nil {
		tw.t.Fatal(err)
	}
	_, err := tw.s.step(context.Background(), tw.reign, tw.id, node, func(fsm.WorkflowID) ([]int32, error) { return tw.leased(), nil })
	if err != nil {
		tw.t.Fatalf("step: %v", err)
	}
	tw.log = append(tw.log, fmt.Sprintf("step %d", node))
	tw.compare("step")
}

// compare checks every row against the simulation.
func (tw *twin) compare(after string) {
	got, err := readGraph(tw.s, tw.id)
	if err != nil {
		tw.t.Fatalf("read back after %s: %v", after, err)
	}
	want := tw.sim.Nodes()
	for i := range want {
		w := normal(want[i])
		g, ok := got[dag.ID(i)]
		if g = normal(g); !ok || g != w {
			tw.t.Fatalf("node %d after %s (found %v):\n got %+v\nwant %+v\nevents %v", i, after, ok, g, w, tw.log)
		}
	}
	if len(got) != len(want) {
		tw.t.Fatalf("%d rows of %d nodes after %s", len(got), len(want), after)
	}
	var rows []dag.ID
	names, _ := tw.s.main.Query(context.Background(), `SELECT node FROM cascades WHERE workflow_id = $1 ORDER BY created_at, node`, tw.id)
	for names.Next() {
		var id int32
		if err := names.Scan(&id); err != nil {
			tw.t.Fatal(err)
		}
		rows = append(rows, dag.ID(id))
	}
	if want := tw.sim.Cascades(); !slices.Equal(rows, want) && len(rows)+len(want) > 0 {
		tw.t.Fatalf("cascades %v, want %v after %s; events %v", rows, want, after, tw.log)
	}
}

// normal leaves out what no row keeps: leases, and the counters of nodes that
// are not blocked; and which parent would have released a node that never was.
func normal(n dag.Node) dag.Node {
	n.Running = false
	if n.State != dag.Blocked {
		n.Need, n.Slack = 0, 0
	}
	if n.State == dag.Ended && !n.Released {
		n.ReleasedBy = 0
	}
	if !n.IsBatch || n.ID == dag.Root {
		n.Lo, n.Hi = 0, 0
	}
	return n
}

// readGraph reads all rows of a graph back as nodes.
func readGraph(s *Store, id fsm.WorkflowID) (map[dag.ID]dag.Node, error) {
	ctx := context.Background()
	tx, err := s.flush.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(ctx)
	w := inside(tx)
	gs := &graphs{byID: map[fsm.WorkflowID]*graph{}}
	gs.lock(w, []fsm.WorkflowID{id})
	var twice error
	seen := map[dag.ID]bool{}
	put := func(r raw) {
		node := gs.get(id).putNode(r)
		if seen[node] {
			twice = fmt.Errorf("node %d has two rows", node)
		}
		seen[node] = true
	}
	var numbers []int32
	var ids []fsm.WorkflowID
	for i := range int32(200) {
		numbers, ids = append(numbers, i), append(ids, id)
	}
	w.each(put, db.NodesByNumberSQL, ids, numbers)
	if err := errors.Join(w.send(ctx), twice); err != nil {
		return nil, err
	}
	nodes := map[dag.ID]dag.Node{}
	for node, row := range gs.get(id).rows {
		nodes[node] = row.was
	}
	return nodes, nil
}
