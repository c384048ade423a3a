package dagtest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/heddle-io/heddle/dag"
)

// Case is a line of the table of cases: a graph, what happens to it, and what
// it comes to.
type Case struct {
	Name   string // with its number
	Graph  string
	Events string // "cycle": the graph is refused
	Expect string
}

// ParseCases reads a table: "number name | graph | events | expected" a line,
// "//" begins a comment.
func ParseCases(text string) ([]Case, error) {
	var cases []Case
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "//")
		if strings.TrimSpace(line) == "" {
			continue
		}
		fields := strings.Split(line, "|")
		if len(fields) != 4 {
			return nil, fmt.Errorf("line %d has %d fields", i+1, len(fields))
		}
		for j := range fields {
			fields[j] = strings.TrimSpace(fields[j])
		}
		cases = append(cases, Case{Name: fields[0], Graph: fields[1], Events: fields[2], Expect: fields[3]})
	}
	return cases, nil
}

// Engine is what a case can be run on.
type Engine interface {
	Apply(events ...dag.Event) (dag.Decision, error)
	Start(job dag.ID) error
	Append(batch dag.ID, g *dag.Graph, inside bool) (dag.ID, error)
	Node(id dag.ID) dag.Node
	Starts(id dag.ID) int
}

// Run plays the case on a new engine and says where it differs. After every
// event it calls after, if that is not nil.
func (c Case) Run(open func(*dag.Graph) (Engine, error), after func() error) error {
	g, ids, err := Parse(c.Graph)
	if err != nil {
		return err
	}
	err = g.Validate(dag.Limits{})
	if c.Events == "cycle" {
		var cycle *dag.CycleError
		if !errors.As(err, &cycle) {
			return fmt.Errorf("the graph has a cycle, which is not noticed: %v", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	engine, err := open(&g)
	if err != nil {
		return err
	}
	r := &run{engine: engine, ids: ids}
	for _, event := range strings.Fields(c.Events) {
		if err := r.play(event); err != nil {
			return fmt.Errorf("at %q: %w", event, err)
		}
		if after != nil {
			if err := after(); err != nil {
				return fmt.Errorf("after %q: %w", event, err)
			}
		}
	}
	return r.expect(c.Expect)
}

type run struct {
	engine Engine
	ids    map[string]dag.ID
}

func (r *run) play(event string) error {
	if strings.HasPrefix(event, "[") {
		return r.expect(strings.Trim(event, "[]"))
	}
	if refused, ok := strings.CutPrefix(event, "!"); ok {
		err := r.do(refused)
		if !errors.Is(err, dag.ErrRefused) {
			return fmt.Errorf("should be refused: %v", err)
		}
		return nil
	}
	return r.do(event)
}

func (r *run) do(event string) error {
	if batch, ok := strings.CutPrefix(event, "+"); ok {
		batch, text, _ := strings.Cut(strings.TrimSuffix(batch, "}"), "{")
		return r.grow(batch, text)
	}
	if verb, name, ok := strings.Cut(event, ":"); ok {
		id, err := r.id(name)
		if err != nil {
			return err
		}
		e, ok := map[string]dag.Event{
			"c": {Kind: dag.Cancel}, "C": {Kind: dag.Cancel, Force: true},
			"r": {Kind: dag.Retry}, "R": {Kind: dag.Retry, Downstream: true},
			"d": {Kind: dag.Dismiss}, "g": {Kind: dag.GiveUp}, "s": {Kind: dag.Seal},
		}[verb]
		if !ok {
			return fmt.Errorf("no event %q", verb)
		}
		e.Node = id
		_, err = r.engine.Apply(e)
		return err
	}
	id, err := r.id(event[:len(event)-1])
	if err != nil {
		return err
	}
	if n := r.engine.Node(id); n.State == dag.Released && !n.Running {
		if err := r.engine.Start(id); err != nil {
			return err
		}
	}
	switch event[len(event)-1] {
	case '>':
		return nil
	case '+':
		_, err = r.engine.Apply(dag.Event{Kind: dag.Report, Node: id, Outcome: dag.Succeeded})
	case '-':
		_, err = r.engine.Apply(dag.Event{Kind: dag.Report, Node: id, Outcome: dag.Failed})
	default:
		err = fmt.Errorf("no event %q", event)
	}
	return err
}

func (r *run) grow(batch, text string) error {
	id, err := r.id(batch)
	if err != nil {
		return err
	}
	g, names, err := ParseAppended(text, id, r.ids)
	if err != nil {
		return err
	}
	first, err := r.engine.Append(id, &g, false)
	if err != nil {
		return err
	}
	for name, n := range names {
		r.ids[name] = first - n - 1
	}
	return nil
}

func (r *run) id(name string) (dag.ID, error) {
	id, ok := r.ids[name]
	if !ok {
		return 0, fmt.Errorf("no node %q", name)
	}
	return id, nil
}

// expect compares states: "a=S#1,B=N".
func (r *run) expect(text string) error {
	var wrong []error
	for _, field := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' }) {
		name, want, _ := strings.Cut(field, "=")
		id, err := r.id(name)
		if err != nil {
			return err
		}
		want, starts, counted := strings.Cut(want, "#")
		if got := Letter(r.engine.Node(id)); got != want {
			wrong = append(wrong, fmt.Errorf("%s is %s, not %s", name, got, want))
		}
		if counted {
			if got := strconv.Itoa(r.engine.Starts(id)); got != starts {
				wrong = append(wrong, fmt.Errorf("%s started %s times, not %s", name, got, starts))
			}
		}
	}
	return errors.Join(wrong...)
}

// Letter is the state of a node in the table of cases.
func Letter(n dag.Node) string {
	switch {
	case n.State == dag.Blocked:
		return "B"
	case n.State == dag.Released && !n.IsBatch && !n.Running:
		return "R"
	case n.State == dag.Released:
		return "N"
	}
	switch n.Outcome {
	case dag.Succeeded:
		return "S"
	case dag.Failed:
		return "F"
	case dag.Cancelled:
		return "C"
	case dag.Skipped:
		return "K"
	}
	return "?"
}
