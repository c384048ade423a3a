package heddle

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Work is what can be submitted: a [Job] on its own, or a [*Workflow].
type Work interface{ work() }

func (Job) work()       {}
func (*Workflow) work() {}

// Workflow is a graph of jobs and batches under construction, and the root of
// its nodes. It must not be changed while it is being submitted.
type Workflow struct {
	Group
	name string
	opts WorkflowOptions
}

// NewWorkflow starts a workflow. The name, at most 200 bytes, is for people and
// filters. Of several options the last counts.
func NewWorkflow(name string, opts ...WorkflowOptions) *Workflow {
	w := &Workflow{name: name}
	w.b = &builder{}
	w.Group.root = true
	if len(opts) > 0 {
		w.opts = opts[len(opts)-1]
	}
	w.b.mistake("workflow", checkText("name", name))
	w.b.mistake("workflow", w.opts.Tolerance.check())
	w.b.mistake("workflow", checkPriority(w.opts.Priority))
	w.b.mistake("workflow", checkHeaders(w.opts.Headers))
	return w
}

// Group is a set of nodes under construction: a workflow, a batch, or what is
// added to one of them ([Then], [AddNow], [Run.Append]).
type Group struct {
	b     *builder
	node  *Node // the batch whose members these are; nil at the top
	root  bool
	items []item
	names map[string]*Node
}

// item is what was added at one place: a node, or a sequence read at Submit.
type item struct {
	node *Node
	jobs iter.Seq[Job]
}

// builder is what all groups of one graph share.
type builder struct {
	nodes []*Node
	errs  []error
	// paths: nodes may continue nodes that exist already, named by path.
	paths bool
}

// mistake keeps a fault; nil is none.
func (b *builder) mistake(where string, err error) {
	if err != nil {
		b.errs = append(b.errs, fmt.Errorf("%s: %w", where, err))
	}
}

// Node is a job or a batch of a graph under construction.
type Node struct {
	b     *builder
	in    *Group
	group *Group // of a batch: its members
	name  string
	index int // in the order of creation

	job   Job
	batch BatchOptions

	join          join
	k             int
	parents       []Condition
	children      int
	hold, cleanup bool
}

type join uint8

const (
	joinNone join = iota
	joinAll
	joinAny
	joinAtLeast
)

// Parent is something a node can wait for: a [*Node] or [*Batch] (its success),
// or a [Condition] of one.
type Parent interface{ condition() Condition }

// Condition is a set of outcomes of a node; see [Node.On].
type Condition struct {
	node *Node
	path string
	on   Outcome
}

func (n *Node) condition() Condition     { return Condition{node: n, on: Succeeded} }
func (b *Batch) condition() Condition    { return Condition{node: b.n, on: Succeeded} }
func (c Condition) condition() Condition { return c }

// Existing names a node that the workflow has already, by its path from the root,
// as a parent of nodes that are appended. Without outcomes: its success.
func Existing(path string, on ...Outcome) Condition {
	c := Condition{path: path}
	for _, o := range on {
		c.on |= o
	}
	if c.on == 0 {
		c.on = Succeeded
	}
	return c
}

// Batch is a node that groups other nodes. It starts when its parents have ended
// as asked, its members start then, and it ends when all of them have.
type Batch struct {
	Group
	n *Node
}

// Add puts a job into the group.
func (g *Group) Add(job Job) *Node {
	n := g.add("")
	n.job = job
	if err := job.check(); err != nil {
		g.b.mistake(n.where(), err)
		return n
	}
	n.name = job.opts.Name
	g.claim(n)
	g.b.mistake(n.where(), job.opts.check())
	return n
}

// AddAll puts a sequence of jobs into the group, in its order, without keeping
// them in memory. The sequence is read when the graph is submitted and again
// whenever that has to be repeated: it must give the same jobs each time. A
// mistake in it ends Submit, and nothing is kept.
func (g *Group) AddAll(jobs iter.Seq[Job]) {
	if jobs == nil {
		g.b.mistake(g.where(), errors.New("nil sequence of jobs"))
		return
	}
	g.items = append(g.items, item{jobs: jobs})
}

// Batch puts a batch into the group. The name, unique in the group, may be empty.
// Of several options the last counts.
func (g *Group) Batch(name string, opts ...BatchOptions) *Batch {
	b := &Batch{n: g.add(name)}
	b.n.group = &b.Group
	b.Group.b, b.Group.node = g.b, b.n
	if len(opts) > 0 {
		b.n.batch = opts[len(opts)-1]
	}
	g.claim(b.n)
	g.b.mistake(b.n.where(), checkName("name", name))
	g.b.mistake(b.n.where(), b.n.batch.check())
	return b
}

func (g *Group) add(name string) *Node {
	n := &Node{b: g.b, in: g, name: name, index: len(g.b.nodes)}
	g.b.nodes = append(g.b.nodes, n)
	g.items = append(g.items, item{node: n})
	return n
}

// claim takes the node's name in the group.
func (g *Group) claim(n *Node) {
	if n.name == "" {
		return
	}
	if _, taken := g.names[n.name]; taken {
		g.b.mistake(g.where(), fmt.Errorf("two nodes are named %q", n.name))
		return
	}
	if g.names == nil {
		g.names = make(map[string]*Node)
	}
	g.names[n.name] = n
}

// where names the group in mistakes.
func (g *Group) where() string {
	switch {
	case g.node != nil:
		return g.node.where()
	case g.root:
		return "workflow"
	}
	return "added graph"
}

// where names the node in mistakes: by its path, and where it has no name by what
// it is and its place in the graph.
func (n *Node) where() string {
	var parts []string
	for at := n; at != nil; at = at.in.node {
		part := at.name
		switch {
		case part != "":
		case at.group != nil:
			part = fmt.Sprintf("batch #%d", at.index+1)
		case at.job.kind != "":
			part = fmt.Sprintf("%s #%d", at.job.kind, at.index+1)
		default:
			part = fmt.Sprintf("job #%d", at.index+1)
		}
		parts = append(parts, part)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// After makes the node wait for all of the parents. Further calls add parents.
func (n *Node) After(parents ...Parent) *Node {
	n.after(joinAll, 0, parents)
	return n
}

// AfterAny makes the node wait for the first of the parents. Further calls add
// parents.
func (n *Node) AfterAny(parents ...Parent) *Node {
	n.after(joinAny, 1, parents)
	return n
}

// AfterAtLeast makes the node wait for k of the parents.
func (n *Node) AfterAtLeast(k int, parents ...Parent) *Node {
	n.after(joinAtLeast, k, parents)
	return n
}

func (n *Node) after(j join, k int, parents []Parent) {
	switch {
	case len(parents) == 0 && j != joinAll:
		n.b.mistake(n.where(), errors.New("AfterAny and AfterAtLeast need parents"))
		return
	case n.join != joinNone && (n.join != j || j == joinAtLeast):
		n.b.mistake(n.where(), errors.New("one join per node: put an empty batch between to combine two"))
		return
	case j == joinAtLeast && (k < 1 || k > len(parents)):
		n.b.mistake(n.where(), fmt.Errorf("AfterAtLeast(%d) of %d parents: must be 1 to %d", k, len(parents), len(parents)))
		return
	}
	n.join, n.k = j, k
	for _, p := range parents {
		n.parent(p)
	}
}

func (n *Node) parent(p Parent) {
	if p == nil {
		n.b.mistake(n.where(), errors.New("nil parent"))
		return
	}
	c := p.condition()
	switch {
	case c.node == nil && c.path == "":
		n.b.mistake(n.where(), errors.New("parent without a node"))
	case c.on == 0 || c.on&^Always != 0:
		n.b.mistake(n.where(), fmt.Errorf("set of outcomes %d: must be 1 to %d", c.on, Always))
	case c.node == nil && !n.b.paths:
		n.b.mistake(n.where(), fmt.Errorf("parent %q: only an appended node may name existing ones", c.path))
	case c.node != nil && c.node.b != n.b:
		n.b.mistake(n.where(), fmt.Errorf("parent %s belongs to another graph", c.node.where()))
	default:
		n.parents = append(n.parents, c)
		if c.node != nil {
			c.node.children++
		}
	}
}

// On is the condition that the node ends in one of the outcomes, as in
// On(heddle.Failed|heddle.Cancelled).
func (n *Node) On(outcomes Outcome) Condition { return Condition{node: n, on: outcomes} }

// Cleanup lets the node follow its edges even when the batches around it are
// cancelled.
func (n *Node) Cleanup() *Node {
	n.cleanup = true
	return n
}

// HoldOnFailure keeps the edges open that would die by the node's failure, until
// someone retries it, cancels what waits, or gives it up.
func (n *Node) HoldOnFailure() *Node {
	n.hold = true
	return n
}

// After makes the batch wait for all of the parents. Further calls add parents.
func (b *Batch) After(parents ...Parent) *Batch {
	b.n.After(parents...)
	return b
}

// AfterAny makes the batch wait for the first of the parents. Further calls add
// parents.
func (b *Batch) AfterAny(parents ...Parent) *Batch {
	b.n.AfterAny(parents...)
	return b
}

// AfterAtLeast makes the batch wait for k of the parents.
func (b *Batch) AfterAtLeast(k int, parents ...Parent) *Batch {
	b.n.AfterAtLeast(k, parents...)
	return b
}

// On is the condition that the batch ends in one of the outcomes.
func (b *Batch) On(outcomes Outcome) Condition { return b.n.On(outcomes) }

// Cleanup lets the batch follow its edges even when the batches around it are
// cancelled. Its members do not inherit it.
func (b *Batch) Cleanup() *Batch {
	b.n.cleanup = true
	return b
}

// HoldOnFailure keeps the edges open that would die by the batch's failure, until
// someone retries, cancels what waits, or gives it up.
func (b *Batch) HoldOnFailure() *Batch {
	b.n.hold = true
	return b
}
