package dagtest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/heddle-io/heddle/dag"
)

// Parse reads a graph in the notation of the table of cases: nodes separated by
// spaces, each
//
//	name [%n ~ ^ !] [(members)] [<[k/]parent[:conditions],...]
//
// with %n for a tolerated number of failures, ~ for open, ^ for hold, ! for
// cleanup; conditions are letters of "sfck", x for finished, a for always, and
// success when left out. Parents may be named before they come. The names' ids
// are given beside the graph; "wf" is the root.
func Parse(text string) (dag.Graph, map[string]dag.ID, error) {
	p := &parser{text: text, ids: map[string]dag.ID{"wf": dag.Root}}
	p.nodes(dag.Root)
	if p.err == nil && p.at < len(p.text) {
		p.fail("unexpected %q", p.text[p.at])
	}
	p.resolve(func(name string) (dag.ID, bool) { id, ok := p.ids[name]; return id, ok })
	return p.graph, p.ids, p.err
}

// ParseAppended reads nodes separated by semicolons that are to be appended to
// batch: new nodes are -1, -2, ... as in Graph.Grow, known are the older ones.
func ParseAppended(text string, batch dag.ID, known map[string]dag.ID) (dag.Graph, map[string]dag.ID, error) {
	p := &parser{text: strings.ReplaceAll(text, ";", " "), ids: make(map[string]dag.ID)}
	p.nodes(dag.Root)
	names := make(map[string]dag.ID)
	for name, id := range p.ids {
		names[name] = -id
	}
	p.resolve(func(name string) (dag.ID, bool) {
		if id, ok := names[name]; ok {
			return id, true
		}
		id, ok := known[name]
		return id, ok
	})
	for i := range p.graph.Nodes {
		def := &p.graph.Nodes[i]
		if def.Batch == dag.Root {
			def.Batch = batch
		} else {
			def.Batch = -def.Batch
		}
	}
	for i := range p.graph.Edges {
		p.graph.Edges[i].Child = -p.graph.Edges[i].Child
	}
	return p.graph, names, p.err
}

type parser struct {
	text  string
	at    int
	graph dag.Graph
	ids   map[string]dag.ID
	// names[i] is the parent of edge i, not yet resolved.
	names []string
	err   error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%q at %d: %s", p.text, p.at, fmt.Sprintf(format, args...))
	}
}

func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func (p *parser) word() string {
	from := p.at
	for p.at < len(p.text) && (p.text[p.at] >= 'a' && p.text[p.at] <= 'z' || p.text[p.at] >= 'A' && p.text[p.at] <= 'Z' ||
		p.text[p.at] >= '0' && p.text[p.at] <= '9') {
		p.at++
	}
	return p.text[from:p.at]
}

func (p *parser) nodes(batch dag.ID) {
	for p.err == nil {
		for p.peek() == ' ' {
			p.at++
		}
		if c := p.peek(); c == 0 || c == ')' {
			return
		}
		p.node(batch)
	}
}

func (p *parser) node(batch dag.ID) {
	name := p.word()
	if name == "" {
		p.fail("a name is missing")
		return
	}
	if _, twice := p.ids[name]; twice {
		p.fail("%q is there already", name)
	}
	at := len(p.graph.Nodes)
	id := dag.ID(at + 1)
	p.ids[name] = id
	p.graph.Nodes = append(p.graph.Nodes, dag.Def{Name: name, Kind: name, Batch: batch})
	def := &p.graph.Nodes[at]
	for ; ; p.at++ {
		switch p.peek() {
		case '%':
			p.at++
			n, err := strconv.Atoi(p.word())
			if err != nil {
				p.fail("%v", err)
			}
			def.Tolerance.Count = int32(n)
			p.at--
			continue
		case '~':
			def.Open = true
			continue
		case '^':
			def.Hold = true
			continue
		case '!':
			def.Cleanup = true
			continue
		}
		break
	}
	if p.peek() == '(' {
		p.at++
		def.IsBatch = true
		p.nodes(id)
		if p.peek() != ')' {
			p.fail("a parenthesis is not closed")
		}
		p.at++
	}
	if p.peek() == '<' {
		p.at++
		p.parents(at, id)
	}
}

func (p *parser) parents(at int, child dag.ID) {
	for {
		name := p.word()
		if p.peek() == '/' {
			k, err := strconv.Atoi(name)
			if err != nil {
				p.fail("%v", err)
			}
			p.graph.Nodes[at].Join = int32(k)
			p.at++
			name = p.word()
		}
		on := dag.Succeeded
		if p.peek() == ':' {
			p.at++
			on = dag.None
			for _, c := range p.word() {
				i := strings.IndexRune("sfckxa", c)
				if i < 0 {
					p.fail("no condition %q", c)
					return
				}
				on |= [...]dag.Outcome{dag.Succeeded, dag.Failed, dag.Cancelled, dag.Skipped, dag.Finished, dag.Always}[i]
			}
		}
		p.graph.Edges = append(p.graph.Edges, dag.Edge{Child: child, On: on})
		p.names = append(p.names, name)
		if p.peek() != ',' {
			return
		}
		p.at++
	}
}

func (p *parser) resolve(find func(string) (dag.ID, bool)) {
	for i, name := range p.names {
		id, ok := find(name)
		if !ok {
			p.fail("no node %q", name)
		}
		p.graph.Edges[i].Parent = id
	}
}
