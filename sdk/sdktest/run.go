package sdktest

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/dag/dagtest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	heddle "github.com/heddle-io/heddle/sdk"
)

// Run is a submitted workflow. Nodes are addressed by their path from the root,
// as in "emails/render"; the empty path is the workflow, or the one job of a lone
// one.
type Run struct {
	e       *Engine
	id      uuid.UUID
	lone    bool
	headers map[string]string
	sim     *dagtest.Sim
	jobs    []*job // by number; batches have a name and a priority only
	names   map[dag.ID]map[string]dag.ID
	keys    map[string]bool // of AddNow
	created time.Time
}

// job is what the engine knows of a node beyond the rules.
type job struct {
	name     string
	priority int32 // own one; 0: inherits
	spec     *heddlev1.JobSpec
	turn     int // outcomes written and lives begun
	attempt  int // counted, over all lives
	tries    int // counted, in this life
	deadline time.Time
	result   []byte
	err      string
	running  *running // nil: no handler is
}

// begin starts a submission.
func (e *Engine) begin(s *heddlev1.Submission) (*Run, error) {
	id, err := uuid.Parse(s.GetId())
	if err != nil {
		return nil, err
	}
	r := &Run{
		e: e, id: id, headers: s.GetHeaders(), created: e.now, names: make(map[dag.ID]map[string]dag.ID), keys: make(map[string]bool),
		jobs: []*job{{priority: s.GetRoot().GetPriority()}},
	}
	wire := s.GetGraph()
	if j := s.GetJob(); j != nil {
		r.lone = true
		wire = &heddlev1.Graph{Nodes: []*heddlev1.NodeSpec{{Node: &heddlev1.NodeSpec_Job{Job: j}}}}
	}
	graph, err := r.graph(wire, dag.Root)
	if err != nil {
		return nil, err
	}
	graph.Tolerance = dag.Tolerance{Count: s.GetRoot().GetToleranceCount(), Percent: s.GetRoot().GetTolerancePercent()}
	graph.Open = s.GetRoot().GetOpen()
	// No cascades: in memory every event is carried out at once.
	if r.sim, err = dagtest.New(graph, math.MaxInt32); err != nil {
		return nil, err
	}
	r.record(wire, graph, 1)
	for _, n := range r.sim.Nodes() {
		if !n.IsBatch && n.State == dag.Released {
			r.release(n.ID)
		}
	}
	return r, nil
}

// graph gives a graph as the rules take it. Nodes right at the top lie in batch.
func (r *Run) graph(wire *heddlev1.Graph, batch dag.ID) (*dag.Graph, error) {
	g := &dag.Graph{}
	for i, spec := range wire.GetNodes() {
		def := dag.Def{
			Name: spec.GetName(), Kind: spec.GetJob().GetKind(), Batch: dag.ID(spec.GetContainer()), IsBatch: spec.GetBatch() != nil,
			Join: spec.GetJoin(), Hold: spec.GetHold(), Cleanup: spec.GetCleanup(), Open: spec.GetBatch().GetOpen(),
			Tolerance: dag.Tolerance{Count: spec.GetBatch().GetToleranceCount(), Percent: spec.GetBatch().GetTolerancePercent()},
		}
		if def.Batch == dag.Root {
			def.Batch = batch
		}
		g.Nodes = append(g.Nodes, def)
		for _, p := range spec.GetAfter() {
			parent, err := r.resolve(dag.Root, p.GetPath())
			if err != nil {
				return nil, err
			}
			var on dag.Outcome
			for _, o := range p.GetOn() {
				on |= dag.Outcome(o)
			}
			g.Edges = append(g.Edges, dag.Edge{Parent: parent, Child: dag.ID(-i - 1), On: on})
		}
	}
	for _, e := range wire.GetEdges() {
		g.Edges = append(g.Edges, dag.Edge{Parent: dag.ID(e.GetParent()), Child: dag.ID(e.GetChild()), On: dag.Outcome(e.GetOn())})
	}
	return g, nil
}

// record keeps what the rules do not know of new nodes, the first of which has
// the number first.
func (r *Run) record(wire *heddlev1.Graph, g *dag.Graph, first dag.ID) {
	for i, spec := range wire.GetNodes() {
		id := first + dag.ID(i)
		j := &job{name: spec.GetName(), spec: spec.GetJob(), priority: spec.GetJob().GetPriority()}
		if spec.GetBatch() != nil {
			j.priority = spec.GetBatch().GetPriority()
		}
		r.jobs = append(r.jobs, j)
		if j.name == "" {
			continue
		}
		batch := g.Nodes[i].Batch
		if batch < 0 { // a new one of an appended graph
			batch = first - batch - 1
		}
		if r.names[batch] == nil {
			r.names[batch] = make(map[string]dag.ID)
		}
		r.names[batch][j.name] = id
	}
}

// resolve finds a node by its path, from a batch outwards.
func (r *Run) resolve(scope dag.ID, path string) (dag.ID, error) {
	if path == "" {
		if r.lone {
			return 1, nil
		}
		return dag.Root, nil
	}
	for at := scope; ; at = r.sim.Node(at).Batch {
		if id, ok := r.below(at, path); ok {
			return id, nil
		}
		if at == dag.Root {
			return 0, fmt.Errorf("no node has the path %q: %w", path, heddle.ErrNotFound)
		}
	}
}

func (r *Run) below(batch dag.ID, path string) (dag.ID, bool) {
	for part := range strings.SplitSeq(path, "/") {
		id, ok := r.names[batch][part]
		if !ok {
			return 0, false
		}
		batch = id
	}
	return batch, true
}

// release queues a job that the rules have released.
func (r *Run) release(id dag.ID) {
	j := r.jobs[id]
	due := r.e.now.Add(j.spec.GetOptions().GetDelay().AsDuration())
	if at := j.spec.GetRunAt(); at != nil && at.AsTime().After(due) {
		due = at.AsTime()
	}
	j.deadline = time.Time{}
	if d := j.spec.GetOptions().GetDeadline().AsDuration(); d > 0 {
		j.deadline = due.Add(d)
	}
	r.queue(&r.e.waiting, id, due)
}

// queue lets a job wait; what it waited for before is history.
func (r *Run) queue(q *queue, id dag.ID, due time.Time) {
	j := r.jobs[id]
	j.turn++
	if !j.deadline.IsZero() && j.deadline.Before(due) {
		due = j.deadline
	}
	r.e.order++
	heap.Push(q, entry{run: r, node: id, due: due, priority: r.priority(id), order: r.e.order, turn: j.turn})
}

// priority is the job's own, else that of the nearest batch that has one, else 2.
func (r *Run) priority(id dag.ID) int32 {
	for at := id; at != dag.NoBatch; at = r.sim.Node(at).Batch {
		if p := r.jobs[at].priority; p != 0 {
			return p
		}
	}
	return 2
}

// apply carries events out and queues what they set free.
func (r *Run) apply(events ...dag.Event) (dag.Decision, error) {
	d, err := r.sim.Apply(events...)
	if err != nil {
		return d, err
	}
	for _, c := range d.Changes {
		if c.Node.IsBatch {
			continue
		}
		if j := r.jobs[c.Node.ID]; c.Told && j.running != nil {
			j.running.tell(heddle.ErrCancelled)
		}
		if c.Reset {
			j := r.jobs[c.Node.ID]
			j.turn++
			j.tries, j.result, j.err = 0, nil, ""
		}
		if c.Node.State == dag.Released && (c.Released || c.Reset) {
			r.release(c.Node.ID)
		}
	}
	return d, nil
}

// ID is the id of the workflow.
func (r *Run) ID() string { return r.id.String() }

// Outcome is the outcome of the node at the path; zero while it has not ended.
func (r *Run) Outcome(path string) heddle.Outcome {
	r.e.t.Helper()
	defer r.e.lock()()
	return r.outcome(path)
}

func (r *Run) outcome(path string) heddle.Outcome {
	r.e.t.Helper()
	n := r.sim.Node(r.find(path))
	if n.State != dag.Ended {
		return 0
	}
	return n.Outcome
}

// Error is the text of the last error of the job at the path.
func (r *Run) Error(path string) string {
	r.e.t.Helper()
	defer r.e.lock()()
	return r.jobs[r.find(path)].err
}

// find ends the test if there is no such node.
func (r *Run) find(path string) dag.ID {
	r.e.t.Helper()
	id, err := r.resolve(dag.Root, path)
	if err != nil {
		r.e.t.Fatalf("sdktest: %v", err)
	}
	return id
}

// Want compares the outcomes of nodes, by path, with those wanted, and reports
// every difference. Zero means: has not ended.
func (r *Run) Want(outcomes map[string]heddle.Outcome) {
	r.e.t.Helper()
	defer r.e.lock()()
	for _, path := range slices.Sorted(maps.Keys(outcomes)) {
		want := outcomes[path]
		if got := r.outcome(path); got != want {
			text := fmt.Sprintf("%q: %s, want %s", path, word(got), word(want))
			if err := r.jobs[r.find(path)].err; err != "" {
				text += ": " + err
			}
			r.e.t.Error(text)
		}
	}
}

func word(o heddle.Outcome) string {
	if o == 0 {
		return "has not ended"
	}
	return o.String()
}

// Retry takes back the outcomes of the jobs or batches at the paths, and of what
// ended because of them. Drain runs them again. A refusal ends the test.
func (r *Run) Retry(paths ...string) { r.each(dag.Event{Kind: dag.Retry}, paths) }

// Cancel cancels the nodes at the paths, or without paths the workflow. A handler
// that runs sees its context end with ErrCancelled.
func (r *Run) Cancel(paths ...string) {
	if len(paths) == 0 {
		paths = []string{""}
	}
	r.each(dag.Event{Kind: dag.Cancel}, paths)
}

// Seal lets the open batches at the paths end, or without paths the workflow.
func (r *Run) Seal(paths ...string) {
	if len(paths) == 0 {
		paths = []string{""}
	}
	r.each(dag.Event{Kind: dag.Seal}, paths)
}

// GiveUp ends the hold of the failed nodes at the paths.
func (r *Run) GiveUp(paths ...string) { r.each(dag.Event{Kind: dag.GiveUp}, paths) }

func (r *Run) each(event dag.Event, paths []string) {
	r.e.t.Helper()
	defer r.e.lock()()
	for _, path := range paths {
		event.Node = r.find(path)
		if _, err := r.apply(event); err != nil {
			r.e.t.Fatalf("sdktest: %q: %v", path, err)
		}
	}
}

// Result gives the result of the job at the path, which must have succeeded, or
// the test ends.
func Result[A, R any](r *Run, k heddle.Kind[A, R], path string) R {
	r.e.t.Helper()
	defer r.e.lock()()
	if o := r.outcome(path); o != heddle.Succeeded {
		r.e.t.Fatalf("sdktest: result of %q: it %s %s", path, word(o), r.jobs[r.find(path)].err)
	}
	var v R
	if raw := r.jobs[r.find(path)].result; len(raw) > 0 {
		if err := json.Unmarshal(raw, &v); err != nil {
			r.e.t.Fatalf("sdktest: result of %q as one of kind %q: %v", path, k.Name(), err)
		}
	}
	return v
}
