package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Kinds of rows in which nodes are read.
const (
	rowOpen int16 = iota
	rowFinished
	rowBatch
)

// Bits of batches.flags and workflows.flags that hold the pending dag.Cascade.
const (
	cascadeShift       = 16
	cascadeMask  int32 = 7 << cascadeShift
)

// ruleFlags are the bits of a row's flags that the rules own.
const ruleFlags = FlagChildren | FlagHold | FlagCleanup | FlagOpen | FlagCancelled | FlagReleased | cascadeMask

// nodeRow is what a row says of a node beyond the rules.
type nodeRow struct {
	kind     int16
	flags    int32
	turn     int32
	attempt  int16
	priority int16
	opts     []byte
	was      dag.Node
}

// graph is the part of one workflow that a transaction has loaded behind the
// workflow's lock, with the events that it decides.
type graph struct {
	id       fsm.WorkflowID
	region   *dag.Region
	rows     map[dag.ID]nodeRow
	nextNode int32
	priority int16 // of the root
	events   []dag.Event
	// ended are the jobs whose rows the reports themselves have moved, with
	// the outcome that was written.
	ended map[dag.ID]dag.Outcome
	// alone: a lone job; its root is only implied and has no row.
	alone    bool
	decision dag.Decision
	decided  bool
	added    *addition // what an append writes
}

func newGraph(id fsm.WorkflowID) *graph {
	return &graph{id: id, region: dag.NewRegion(), rows: map[dag.ID]nodeRow{}, ended: map[dag.ID]dag.Outcome{}}
}

// graphs are the loaded parts of several workflows, by id. limit replaces
// dag.CascadeLimit in all of them when it is positive.
type graphs struct {
	byID  map[fsm.WorkflowID]*graph
	limit int32
}

func (s *Store) newGraphs() *graphs {
	return &graphs{byID: map[fsm.WorkflowID]*graph{}, limit: s.cascadeLimit}
}

func (gs *graphs) get(id fsm.WorkflowID) *graph {
	g, ok := gs.byID[id]
	if !ok {
		g = newGraph(id)
		g.region.CascadeLimit = gs.limit
		gs.byID[id] = g
	}
	return g
}

// sorted gives the graphs in the order of their ids.
func (gs *graphs) sorted() []*graph {
	list := make([]*graph, 0, len(gs.byID))
	for _, g := range gs.byID {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *graph) int { return slices.Compare(a.id[:], b.id[:]) })
	return list
}

// lock queues the locks of workflows, in the order of their ids, and puts
// their roots.
func (gs *graphs) lock(w *work, ids []fsm.WorkflowID) {
	w.each(func(r raw) { gs.get(r.id(0)).putRoot(r) }, db.LockWorkflowsSQL, ids)
}

// putRoot takes a row of LockWorkflows.
func (g *graph) putRoot(r raw) {
	flags := r.int4(3)
	g.nextNode, g.priority = r.int4(12), r.int2(13)
	n := dag.Node{
		ID: dag.Root, Batch: dag.NoBatch, IsBatch: true, Lo: 1, Hi: dag.ID(g.nextNode - 1),
		State: dag.State(r.int2(1)), Outcome: dag.Outcome(r.int2(2)), Life: r.int4(4), Total: r.int4(5),
		NumSucceeded: r.int4(6), NumFailed: r.int4(7), NumCancelled: r.int4(8), NumSkipped: r.int4(9),
		Tolerance: dag.Tolerance{Count: r.int4(10), Percent: r.float8(11)},
	}
	setRuleFlags(&n, flags)
	n.Released = true
	g.region.Put(n)
	g.rows[dag.Root] = nodeRow{kind: rowBatch, flags: flags, priority: g.priority, was: n}
}

// put takes a row in the shape of the queries of nodes.
func (gs *graphs) put(r raw) { gs.get(r.id(1)).putNode(r) }

func (g *graph) putNode(r raw) dag.ID {
	id := dag.ID(r.int4(2))
	if _, known := g.rows[id]; known {
		return id
	}
	kind, flags := r.int2(0), r.int4(6)
	n := dag.Node{
		ID: id, Batch: dag.ID(r.int4(3)), IsBatch: kind == rowBatch,
		State: dag.State(r.int2(4)), Outcome: dag.Outcome(r.int2(5)),
		Need: r.int4(7), Slack: r.int4(8), Join: r.int4(9), Life: r.int4(10), ReleasedBy: dag.ID(r.int4(11)),
		Hi: -1,
	}
	setRuleFlags(&n, flags)
	switch kind {
	case rowOpen:
		n.Released = n.State == dag.Released
	case rowBatch:
		n.Lo, n.Hi, n.Total = dag.ID(r.int4(13)), dag.ID(r.int4(14)), r.int4(15)
		n.NumSucceeded, n.NumFailed, n.NumCancelled, n.NumSkipped = r.int4(16), r.int4(17), r.int4(18), r.int4(19)
		n.Tolerance = dag.Tolerance{Count: r.int4(20), Percent: r.float8(21)}
	}
	g.region.Put(n)
	g.rows[id] = nodeRow{kind: kind, flags: flags, turn: r.int4(12), priority: r.int2(22), opts: r.bytes(23), attempt: r.int2(24), was: n}
	return id
}

// setRuleFlags reads the bits that the rules own.
func setRuleFlags(n *dag.Node, flags int32) {
	n.HasChildren = flags&FlagChildren != 0
	n.Hold = flags&FlagHold != 0
	n.Cleanup = flags&FlagCleanup != 0
	n.Open = flags&FlagOpen != 0
	n.Cancelled = flags&FlagCancelled != 0
	n.Released = flags&FlagReleased != 0
	n.Cascade = dag.Cascade(flags & cascadeMask >> cascadeShift)
}

// flagsOf writes the bits that the rules own over those of a row. Open jobs
// have no bit for being released: their state says it.
func flagsOf(n *dag.Node, row int32) int32 {
	flags := row&^ruleFlags | nodeFlags(n) | int32(n.Cascade)<<cascadeShift
	if n.Cancelled {
		flags |= FlagCancelled
	}
	if n.Released && (n.IsBatch || n.State == dag.Ended) {
		flags |= FlagReleased
	}
	return flags
}

// markRunning says which of the loaded jobs are leased.
func (g *graph) markRunning(leased []int32) {
	for _, node := range leased {
		if n, ok := g.region.Node(dag.ID(node)); ok && n.State == dag.Released && !n.Running {
			n.Running = true
			g.region.Put(n)
		}
	}
}

// decide has the rules decide the events of every graph, and loads what they
// ask for until nothing is missing. leased, if given, tells which jobs of a
// workflow are leased. Errors are those of the graph of that id.
func (gs *graphs) decide(ctx context.Context, w *work, leased func(fsm.WorkflowID) ([]int32, error)) (map[fsm.WorkflowID]error, error) {
	refused := map[fsm.WorkflowID]error{}
	for round := 0; ; round++ {
		var load missing
		for _, g := range gs.sorted() {
			if g.decided || len(g.events) == 0 {
				continue
			}
			if leased != nil {
				nodes, err := leased(g.id)
				if err != nil {
					return nil, fmt.Errorf("workflow %s: which jobs run: %w", g.id, err)
				}
				g.markRunning(nodes)
			}
			decision, err := g.region.Decide(g.events...)
			switch {
			case err != nil:
				refused[g.id] = ruleError(g.id, err)
				g.decided = true
			case decision.Missing.Empty():
				g.decision, g.decided = decision, true
			default:
				load.add(g, decision.Missing)
			}
		}
		if len(load.graphs) == 0 {
			return refused, nil
		}
		if round == maxRounds {
			return nil, fmt.Errorf("workflow %s: the rules ask for more after %d rounds", load.graphs[0].g.id, round)
		}
		lacking, err := gs.load(ctx, w, &load)
		if err != nil {
			return nil, err
		}
		for id, err := range lacking {
			refused[id] = err
			gs.byID[id].decided = true
		}
	}
}

// maxRounds bounds how often the rules may ask for more: a graph can be as
// deep as it has nodes, but each round answers all that was asked.
const maxRounds = 100_000

// isInput tells errors that are the caller's fault from the database's.
func isInput(err error) bool {
	return errors.Is(err, model.ErrInvalid) || errors.Is(err, model.ErrRefused) || errors.Is(err, model.ErrNotFound)
}

// ruled is what the rules refuse, under the word of the model for it. The text
// is the rules' own, which begins with that word.
type ruled struct{ word, err error }

func (r ruled) Error() string   { return r.err.Error() }
func (r ruled) Unwrap() []error { return []error{r.word, r.err} }

// ruleError gives what the rules refuse the words of the model.
func ruleError(id fsm.WorkflowID, err error) error {
	var cycle *dag.CycleError
	switch {
	case errors.Is(err, dag.ErrInvalid), errors.As(err, &cycle):
		return ruled{model.ErrInvalid, err}
	case errors.Is(err, dag.ErrRefused):
		return ruled{model.ErrRefused, err}
	}
	return fmt.Errorf("workflow %s: %w", id, err)
}

// missing is what several graphs lack, as the arguments of the queries.
type missing struct {
	graphs []missingOf

	nodeIDs          []fsm.WorkflowID
	nodes            []int32
	outIDs, inIDs    []fsm.WorkflowID
	outs, ins        []int32
	memberIDs        []fsm.WorkflowID
	members, los, hi []int32
	troubled         []bool
}

type missingOf struct {
	g *graph
	m dag.Missing
}

func (l *missing) add(g *graph, m dag.Missing) {
	l.graphs = append(l.graphs, missingOf{g, m})
	for _, id := range m.Nodes {
		l.node(g, id)
	}
	for _, id := range m.Out {
		l.outIDs, l.outs = append(l.outIDs, g.id), append(l.outs, int32(id))
	}
	for _, id := range m.In {
		l.inIDs, l.ins = append(l.inIDs, g.id), append(l.ins, int32(id))
	}
	for _, id := range m.Members {
		l.batch(g, id, false)
	}
	for _, id := range m.Troubled {
		l.batch(g, id, true)
	}
}

func (l *missing) node(g *graph, id dag.ID) {
	l.nodeIDs, l.nodes = append(l.nodeIDs, g.id), append(l.nodes, int32(id))
}

func (l *missing) batch(g *graph, id dag.ID, troubled bool) {
	n, _ := g.region.Node(id)
	l.memberIDs, l.members = append(l.memberIDs, g.id), append(l.members, int32(id))
	l.los, l.hi = append(l.los, int32(n.Lo)), append(l.hi, int32(n.Hi))
	l.troubled = append(l.troubled, troubled)
}

// load reads what is missing: edges and members first, then the nodes at their
// other ends that are not known yet. It answers with the graphs that lack a
// node that was asked for.
func (gs *graphs) load(ctx context.Context, w *work, l *missing) (map[fsm.WorkflowID]error, error) {
	type end struct {
		id   fsm.WorkflowID
		node dag.ID
	}
	out, in, member := map[end][]dag.Edge{}, map[end][]dag.Edge{}, map[end][]dag.ID{}
	var ends []end
	if len(l.outs) > 0 {
		w.each(func(r raw) {
			e := edgeOf(r)
			parent := end{r.id(0), e.Parent}
			out[parent] = append(out[parent], e)
			ends = append(ends, end{r.id(0), e.Child})
		}, db.EdgesOutSQL, l.outIDs, l.outs)
	}
	if len(l.ins) > 0 {
		w.each(func(r raw) {
			e := edgeOf(r)
			child := end{r.id(0), e.Child}
			in[child] = append(in[child], e)
			ends = append(ends, end{r.id(0), e.Parent})
		}, db.EdgesInSQL, l.inIDs, l.ins)
	}
	if len(l.members) > 0 {
		w.each(func(r raw) {
			id := gs.get(r.id(1)).putNode(r)
			batch := end{r.id(1), dag.ID(r.int4(3))}
			member[batch] = append(member[batch], id)
		}, db.MembersOfSQL, l.memberIDs, l.members, l.los, l.hi, l.troubled)
	}
	if len(l.nodes) > 0 {
		w.each(gs.put, db.NodesByNumberSQL, l.nodeIDs, l.nodes)
	}
	if err := w.send(ctx); err != nil {
		return nil, err
	}
	lacking := map[fsm.WorkflowID]error{}
	for _, m := range l.graphs {
		for _, id := range m.m.Nodes {
			if _, found := m.g.rows[id]; !found {
				lacking[m.g.id] = fmt.Errorf("%w: node %d of workflow %s", model.ErrNotFound, id, m.g.id)
			}
		}
		for _, id := range m.m.Out {
			m.g.region.PutOut(id, out[end{m.g.id, id}])
		}
		for _, id := range m.m.In {
			m.g.region.PutIn(id, in[end{m.g.id, id}])
		}
		for _, id := range m.m.Members {
			m.g.region.PutMembers(id, member[end{m.g.id, id}])
		}
		for _, id := range m.m.Troubled {
			m.g.region.PutTroubled(id, member[end{m.g.id, id}])
		}
	}
	var rest missing
	asked := map[end]bool{}
	for _, e := range ends {
		g := gs.get(e.id)
		if _, known := g.rows[e.node]; !known && !asked[e] {
			asked[e] = true
			rest.node(g, e.node)
		}
	}
	if len(rest.nodes) > 0 {
		w.each(gs.put, db.NodesByNumberSQL, rest.nodeIDs, rest.nodes)
	}
	return lacking, w.send(ctx)
}

// edgeOf reads a row of the queries of edges.
func edgeOf(r raw) dag.Edge {
	return dag.Edge{Parent: dag.ID(r.int4(1)), Child: dag.ID(r.int4(2)), On: dag.Outcome(r.int2(3))}
}

// jobOptions decodes a row's options; faulty or absent ones read as none.
func jobOptions(opts []byte) *heddlev1.JobOptions {
	o := &heddlev1.JobOptions{}
	if len(opts) > 0 && proto.Unmarshal(opts, o) != nil {
		return &heddlev1.JobOptions{}
	}
	return o
}
