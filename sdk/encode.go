package heddle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// chunkBytes and chunkNodes bound one message of a graph.
const (
	chunkBytes = 1 << 20
	chunkNodes = 8192
)

// Encode gives a work in the form in which engines keep it (the message
// heddle.v1.Submission) under a new id, or the one of its WorkflowOptions. It is
// for carrying a work to an engine by another way than Submit, as sdkpgx does.
// The propagators of c add headers; c may be nil.
func Encode(ctx context.Context, c *Client, w Work) (id string, body []byte, err error) {
	s, err := newSubmission(ctx, c, w)
	if err != nil {
		return "", nil, err
	}
	if wf, ok := w.(*Workflow); ok {
		graph := &heddlev1.Graph{}
		err := wf.Group.encode(func(chunk *heddlev1.Graph, _ bool) error {
			graph.Nodes = append(graph.Nodes, chunk.Nodes...)
			graph.Edges = append(graph.Edges, chunk.Edges...)
			return nil
		})
		if err != nil {
			return "", nil, err
		}
		s.Work = &heddlev1.Submission_Graph{Graph: graph}
	}
	body, err = proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		return "", nil, fmt.Errorf("encode the work: %w", err)
	}
	return s.GetId(), body, nil
}

// newSubmission checks a work and gives everything of it but the graph.
func newSubmission(ctx context.Context, c *Client, w Work) (*heddlev1.Submission, error) {
	s := &heddlev1.Submission{}
	switch w := w.(type) {
	case Job:
		if err := w.check(); err != nil {
			return nil, invalid(err)
		}
		if err := errors.Join(w.opts.check(), w.loneOnly()); err != nil {
			return nil, invalid(fmt.Errorf("job of kind %q: %w", w.kind, err))
		}
		s.Work = &heddlev1.Submission_Job{Job: w.spec(w.opts.proto())}
	case *Workflow:
		if w == nil || w.b == nil {
			return nil, invalid(errors.New("workflow: make it with NewWorkflow"))
		}
		if err := w.b.check(); err != nil {
			return nil, invalid(err)
		}
		s.Name = w.name
		s.Id = w.opts.ID
		s.Root = BatchOptions{Tolerance: w.opts.Tolerance, Open: w.opts.Open, Priority: w.opts.Priority}.proto()
		s.Headers = maps.Clone(w.opts.Headers)
	default:
		return nil, invalid(errors.New("nil work"))
	}
	if s.Id == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("make an id: %w", err)
		}
		s.Id = id.String()
	} else if id, err := uuid.Parse(s.Id); err != nil || id.Version() != 7 {
		return nil, invalid(fmt.Errorf("id %q: must be a UUIDv7", s.Id))
	}
	s.Headers = c.inject(ctx, s.Headers)
	return s, nil
}

// invalid marks mistakes so that callers can branch on ErrInvalid.
func invalid(err error) error {
	if errors.Is(err, ErrInvalid) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrInvalid, err)
}

func (j *Job) loneOnly() error {
	if j.opts.Name != "" {
		return fmt.Errorf("name %q: a job submitted alone has no name", j.opts.Name)
	}
	return nil
}

// encode numbers the nodes below the group, depth first, and hands the graph on
// in chunks: all nodes, then all edges. last marks the last chunk.
func (g *Group) encode(emit func(chunk *heddlev1.Graph, last bool) error) error {
	e := &encoder{emit: emit, chunk: &heddlev1.Graph{}, numbers: make([]int32, len(g.b.nodes)), sign: 1}
	if !g.root {
		e.sign = -1
	}
	if err := e.group(g, 0); err != nil {
		return err
	}
	for _, n := range g.b.nodes {
		for _, p := range n.parents {
			if p.node == nil {
				continue // by path, with the node itself
			}
			edge := &heddlev1.Edge{Parent: e.numbers[p.node.index], Child: e.numbers[n.index], On: uint32(p.on)}
			if err := e.room(12); err != nil {
				return err
			}
			e.chunk.Edges = append(e.chunk.Edges, edge)
		}
	}
	return emit(e.chunk, true)
}

// encoder writes one graph.
type encoder struct {
	emit    func(*heddlev1.Graph, bool) error
	chunk   *heddlev1.Graph
	bytes   int
	numbers []int32 // of the builder's nodes, by index
	next    int32
	sign    int32 // -1 in graphs that are appended

	// The options of the last job of a sequence: checked and encoded once.
	opts *JobOptions
	rare *heddlev1.JobOptions
	size int
}

// room makes place for so many bytes in the chunk.
func (e *encoder) room(bytes int) error {
	count := len(e.chunk.Nodes) + len(e.chunk.Edges)
	if count > 0 && (e.bytes+bytes > chunkBytes || count >= chunkNodes) {
		if err := e.emit(e.chunk, false); err != nil {
			return err
		}
		e.chunk, e.bytes = &heddlev1.Graph{}, 0
	}
	e.bytes += bytes
	return nil
}

func (e *encoder) group(g *Group, container int32) error {
	var names map[string]struct{} // of sequences
	for _, it := range g.items {
		if it.node != nil {
			if err := e.node(it.node, container); err != nil {
				return err
			}
			continue
		}
		place := 0
		for job := range it.jobs {
			place++
			if err := e.streamed(&job); err != nil {
				return invalid(fmt.Errorf("%s: job %d of a sequence: %w", g.where(), place, err))
			}
			name := job.opts.Name
			if name != "" {
				_, taken := g.names[name]
				if _, again := names[name]; taken || again {
					return invalid(fmt.Errorf("%s: two nodes are named %q", g.where(), name))
				}
				if names == nil {
					names = make(map[string]struct{})
				}
				names[name] = struct{}{}
			}
			spec := &heddlev1.NodeSpec{Name: name, Container: container, Node: &heddlev1.NodeSpec_Job{Job: job.spec(e.rare)}}
			if _, err := e.add(spec, e.jobSize(&job)); err != nil {
				return err
			}
		}
	}
	return nil
}

// streamed checks a job of a sequence.
func (e *encoder) streamed(job *Job) error {
	if err := job.check(); err != nil {
		return err
	}
	return e.options(job)
}

// options checks and encodes a job's options, unless the last job had the same.
func (e *encoder) options(job *Job) error {
	if job.opts == e.opts {
		return nil
	}
	if err := job.opts.check(); err != nil {
		return err
	}
	e.opts, e.rare = job.opts, job.opts.proto()
	e.size = proto.Size(e.rare)
	return nil
}

// jobSize is about what a job takes on the wire.
func (e *encoder) jobSize(job *Job) int {
	return 48 + len(job.kind) + len(job.args) + len(job.opts.Queue) + len(job.opts.Key) + len(job.opts.Name) + e.size
}

func (e *encoder) node(n *Node, container int32) error {
	spec := &heddlev1.NodeSpec{
		Name:      n.name,
		Container: container,
		Parents:   int32(len(n.parents)),
		Children:  int32(n.children),
		Hold:      n.hold,
		Cleanup:   n.cleanup,
	}
	if n.join == joinAny || n.join == joinAtLeast {
		spec.Join = int32(n.k)
	}
	size := 48 + len(n.name)
	for _, p := range n.parents {
		if p.node == nil {
			ref := &heddlev1.ParentRef{Path: p.path, On: outcomes(p.on)}
			spec.After = append(spec.After, ref)
			size += len(p.path) + 8
		}
	}
	if n.group == nil {
		if err := e.options(&n.job); err != nil {
			return err
		}
		spec.Node = &heddlev1.NodeSpec_Job{Job: n.job.spec(e.rare)}
		size += e.jobSize(&n.job)
	} else {
		spec.Node = &heddlev1.NodeSpec_Batch{Batch: n.batch.proto()}
	}
	number, err := e.add(spec, size)
	if err != nil {
		return err
	}
	e.numbers[n.index] = number
	if n.group != nil {
		return e.group(n.group, number)
	}
	return nil
}

func (e *encoder) add(spec *heddlev1.NodeSpec, size int) (int32, error) {
	if err := e.room(size); err != nil {
		return 0, err
	}
	e.chunk.Nodes = append(e.chunk.Nodes, spec)
	e.next++
	return e.sign * e.next, nil
}

func outcomes(set Outcome) []heddlev1.Outcome {
	var list []heddlev1.Outcome
	for _, o := range []Outcome{Succeeded, Failed, Cancelled, Skipped} {
		if set&o != 0 {
			list = append(list, heddlev1.Outcome(o))
		}
	}
	return list
}

// whole gives the group's graph in one message.
func (g *Group) whole() (*heddlev1.Graph, error) {
	if err := g.b.check(); err != nil {
		return nil, invalid(err)
	}
	graph := &heddlev1.Graph{}
	err := g.encode(func(chunk *heddlev1.Graph, _ bool) error {
		graph.Nodes = append(graph.Nodes, chunk.Nodes...)
		graph.Edges = append(graph.Edges, chunk.Edges...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return graph, nil
}

// checkText refuses what neither the wire nor the database takes as text.
func checkText(what, text string) error {
	if len(text) > maxName {
		return fmt.Errorf("%s of %d bytes: at most %d", what, len(text), maxName)
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return fmt.Errorf("%s %q: must be UTF-8 without zero bytes", what, text)
	}
	return nil
}

// checkName is checkText for the names of nodes, which stand in paths.
func checkName(what, name string) error {
	if strings.Contains(name, "/") {
		return fmt.Errorf(`%s %q: must not contain "/"`, what, name)
	}
	return checkText(what, name)
}

func checkHeaders(headers map[string]string) error {
	var errs []error
	for k, v := range headers {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			errs = append(errs, fmt.Errorf("header %q: key and value must be UTF-8, the key not empty", k))
		}
	}
	return errors.Join(errs...)
}
