package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// addition is what one transaction adds to one workflow: nodes and edges, and
// first of all the workflow itself if it has been a lone job so far.
type addition struct {
	now   time.Time
	first int32 // the workflow's next number before
	adopt *lonely

	jobs    map[dag.ID]*newJob
	batches map[dag.ID]*batchRow
	order   []dag.ID // of all new nodes
	edges   []dag.Edge
	names   map[batchName]bool // given in batches that existed before
}

// batchName is a name in a batch.
type batchName struct {
	batch dag.ID
	name  string
}

func newAddition(now time.Time) *addition {
	return &addition{now: now, jobs: map[dag.ID]*newJob{}, batches: map[dag.ID]*batchRow{}, names: map[batchName]bool{}}
}

// newJob is a job to insert. Its clocks start when it is released.
type newJob struct {
	row jobRow
	job *model.Job
}

func onSet(on dag.Outcome) dag.Outcome {
	if on == dag.None {
		return dag.Succeeded
	}
	return on
}

// knowChunk checks a chunk and adds its routes to the dictionary; it runs
// before the transaction.
func (s *Store) knowChunk(ctx context.Context, chunk *model.Chunk) error {
	if len(chunk.Nodes) == 0 {
		return invalid("the graph has no nodes")
	}
	names, err := routesOf(nil, 1, chunk.Nodes)
	if err != nil {
		return err
	}
	for i := range chunk.Nodes {
		n := &chunk.Nodes[i]
		if n.Batch == nil {
			continue
		}
		err := checkText("name", n.Name, maxNameBytes)
		if p := n.Batch.Priority; p < 0 || p > 4 {
			err = invalid("priority is %d, must be 1 to 4", p)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", nodeText(-int32(i)-1, n.Name), err)
		}
	}
	return s.addRoutes(ctx, names)
}

// append plans the nodes of a chunk behind the last node of the workflow and
// gives the event that adds them to batch. Priority is what they inherit,
// taken the names among theirs that the batch has.
func (g *graph) append(s *Store, now time.Time, batch dag.ID, priority int16, chunk *model.Chunk, inside bool, taken []string) (dag.Event, error) {
	if g.added == nil {
		g.added = newAddition(now)
		g.added.first = g.nextNode
	}
	structure := chunkGraph(chunk, batch)
	nodes, edges, err := structure.Grow(dag.Into{Batch: batch, First: dag.ID(g.nextNode), Taken: func(name string) bool {
		return g.added.names[batchName{batch, name}] || slices.Contains(taken, name)
	}}, dag.Limits{})
	if err != nil {
		return dag.Event{}, asInvalid(err)
	}
	p := &planner{s: s, id: g.id, now: now}
	a := newAddition(now)
	for i := range chunk.Nodes {
		n, node := &chunk.Nodes[i], &nodes[i]
		inherited := priority
		if b, ok := a.batches[node.Batch]; ok {
			inherited = b.priority
		}
		if node.Batch == batch && n.Name != "" {
			a.names[batchName{batch, n.Name}] = true
		}
		if n.Batch != nil {
			a.batches[node.ID] = &batchRow{
				node: int32(node.ID), parent: int32(node.Batch), join: n.Join, tolerance: n.Batch.Tolerance, lo: int32(node.ID) + 1, hi: int32(node.ID),
				priority: firstPriority(n.Batch.Priority, inherited), name: n.Name,
			}
		} else {
			row, err := p.job(int32(node.ID), n, int32(node.Batch), inherited, false)
			if err != nil {
				return dag.Event{}, err
			}
			row.join = n.Join
			a.jobs[node.ID] = &newJob{row: row, job: n.Job}
		}
		a.order = append(a.order, node.ID)
	}
	a.edges = edges
	g.added.merge(a)
	g.nextNode += int32(len(nodes))
	return dag.Event{Kind: dag.Append, Node: batch, Inside: inside, New: nodes, Edges: edges}, nil
}

// chunkGraph gives the structure of a chunk as the rules take it.
func chunkGraph(chunk *model.Chunk, batch dag.ID) dag.Graph {
	g := dag.Graph{Nodes: make([]dag.Def, len(chunk.Nodes)), Edges: make([]dag.Edge, len(chunk.Edges))}
	for i := range chunk.Nodes {
		n := &chunk.Nodes[i]
		def := dag.Def{Name: n.Name, Batch: n.Container, IsBatch: n.Batch != nil, Join: n.Join, Hold: n.Hold, Cleanup: n.Cleanup}
		if n.Container >= 0 {
			def.Batch = batch
		}
		if n.Batch != nil {
			def.Open, def.Tolerance = n.Batch.Open, n.Batch.Tolerance
		} else {
			def.Kind = n.Job.Kind
		}
		g.Nodes[i] = def
	}
	for i, e := range chunk.Edges {
		g.Edges[i] = dag.Edge{Parent: e.Parent, Child: e.Child, On: onSet(e.On)}
	}
	return g
}

// merge takes another graph of the same transaction in.
func (a *addition) merge(b *addition) {
	maps.Copy(a.jobs, b.jobs)
	maps.Copy(a.batches, b.batches)
	maps.Copy(a.names, b.names)
	a.order = append(a.order, b.order...)
	a.edges = append(a.edges, b.edges...)
}

// outerNames lists the names that a chunk gives in the batch it goes into.
func outerNames(chunk *model.Chunk) []string {
	var names []string
	for i := range chunk.Nodes {
		if n := &chunk.Nodes[i]; n.Container >= 0 && n.Name != "" {
			names = append(names, n.Name)
		}
	}
	return names
}

// settle takes what the rules say of a new node.
func (a *addition) settle(wr *writer, g *graph, c *dag.Change) {
	n := &c.Node
	if b, ok := a.batches[n.ID]; ok {
		b.flags = flagsOf(n, 0)
		wr.batch(g, c, &nodeRow{kind: rowBatch, priority: b.priority})
		return
	}
	j := a.jobs[n.ID]
	row := &j.row
	row.flags = flagsOf(n, row.flags)
	if n.State == dag.Ended {
		row.flags &^= FlagReleased
		wr.openJob(g, c, &nodeRow{kind: rowOpen, flags: row.flags})
		return
	}
	row.need, row.slack = counters(n)
	if n.ReleasedBy != 0 {
		// The insert of a submission knows no parent that has ended.
		wr.setJob(g.id, n, row.flags)
	}
	if n.State != dag.Released {
		return
	}
	now := a.now.UnixMicro()
	row.state = stateReleased
	row.runAt = max(row.runAt, now+j.job.Delay.Microseconds())
	row.deadlineAt, row.expiresAt = clocks(row.runAt, now, j.job.WaitTimeout, j.job.Deadline)
	wr.eff.ready(row.ready(g.id))
}

// drop forgets a graph that is not added after all. Its numbers are used again,
// unless others follow them.
func (a *addition) drop(event *dag.Event) {
	children := map[dag.ID]bool{}
	for i := range event.New {
		id := event.New[i].ID
		children[id] = true
		delete(a.jobs, id)
		delete(a.batches, id)
	}
	a.edges = slices.DeleteFunc(a.edges, func(e dag.Edge) bool { return children[e.Child] })
}

// queue queues the inserts of a graph's addition.
func (a *addition) queue(w *work, g *graph) error {
	if a == nil {
		return nil
	}
	if a.adopt != nil {
		a.adopt.queue(w, g.id)
	}
	var jobs db.InsertJobsParams
	var payloads db.InsertPayloadsParams
	var batches db.InsertBatchesParams
	var edges db.InsertEdgesParams
	next := a.first
	for _, id := range a.order {
		if b, ok := a.batches[id]; ok {
			addBatch(&batches, g.id, 0, b)
			next = int32(id) + 1
		}
		if j, ok := a.jobs[id]; ok {
			addJob(&jobs, g.id, &j.row)
			addPayload(&payloads, g.id, &j.row)
			next = int32(id) + 1
		}
	}
	for _, e := range a.edges {
		addEdge(&edges, g.id, e)
	}
	pipe := &pipe{}
	q, ctx := db.New(pipe), context.Background()
	var errs []error
	if len(batches.Nodes) > 0 {
		errs = append(errs, q.InsertBatches(ctx, batches))
	}
	if len(jobs.Nodes) > 0 {
		errs = append(errs, q.InsertJobs(ctx, jobs))
	}
	if len(payloads.Nodes) > 0 {
		errs = append(errs, q.InsertPayloads(ctx, payloads))
	}
	if len(edges.Children) > 0 {
		errs = append(errs, q.InsertEdges(ctx, edges))
	}
	errs = append(errs, q.SetNextNode(ctx, db.SetNextNodeParams{ID: g.id, NextNode: next}))
	w.batch.QueuedQueries = append(w.batch.QueuedQueries, pipe.QueuedQueries...)
	return errors.Join(errs...)
}

// lonely is a lone job that becomes node 1 of a graph.
type lonely struct {
	kind    int16
	outcome dag.Outcome
	name    string
}

// putLone puts a lone job's row, of LockLone or LockFinishedLone, as node 1 of
// a graph that is only implied.
func (g *graph) putLone(r raw) *lonely {
	l := &lonely{kind: r.int2(0), outcome: dag.Outcome(r.int2(3)), name: r.text(8)}
	flags := r.int4(4)
	job := dag.Node{ID: 1, Batch: dag.Root, State: dag.State(r.int2(2)), Outcome: l.outcome, Hi: -1}
	setRuleFlags(&job, flags)
	job.Released = true
	root := dag.Node{ID: dag.Root, Batch: dag.NoBatch, IsBatch: true, State: dag.Released, Released: true, Lo: 1, Hi: 1, Total: 1}
	if l.kind == rowFinished {
		flags |= FlagReleased
		root.State, root.Outcome = dag.Ended, l.outcome
		switch l.outcome {
		case dag.Succeeded:
			root.NumSucceeded = 1
		case dag.Failed:
			root.NumFailed = 1
		case dag.Cancelled:
			root.NumCancelled = 1
		}
	}
	g.nextNode = 2
	g.region.Put(job)
	g.region.Put(root)
	g.rows[1] = nodeRow{kind: l.kind, flags: flags, turn: r.int4(1), attempt: r.int2(5), priority: r.int2(6), opts: r.bytes(7), was: job}
	g.rows[dag.Root] = nodeRow{kind: rowBatch, flags: FlagReleased, was: root}
	return l
}

// queue queues the birth of the workflow's row and the job's entry into it.
func (l *lonely) queue(w *work, id fsm.WorkflowID) {
	one := func(o dag.Outcome) int32 {
		if l.outcome == o {
			return 1
		}
		return 0
	}
	state := stateReleased
	if l.kind == rowFinished {
		state = stateEnded
	}
	w.queue(db.AdoptWorkflowSQL, id, timestamp(idTime(id).UnixMicro()), state, one(dag.Succeeded), one(dag.Failed), one(dag.Cancelled), int16(l.outcome))
	if l.kind == rowFinished {
		w.queue(db.AdoptFinishedJobSQL, id)
	} else {
		w.queue(db.AdoptJobSQL, id)
	}
}
