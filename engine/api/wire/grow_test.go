package wire

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

func parseGraph(t *testing.T, text string) *heddlev1.Graph {
	t.Helper()
	var g heddlev1.Graph
	if err := protojson.Unmarshal([]byte(text), &g); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return &g
}

func TestThenByNumber(t *testing.T) {
	chunk, err := DefaultLimits().Then(parseGraph(t, `{"nodes":[
		{"batch":{}},{"container":-1,"job":{"kind":"a"}},{"job":{"kind":"b"},"join":2}],
		"edges":[{"parent":-1,"child":-3},{"parent":7,"child":-3,"on":2},{"parent":9,"child":-2}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if chunk.Nodes[1].Container != -1 || chunk.Nodes[2].Container != 0 || chunk.Nodes[2].Parents != 2 || chunk.Nodes[0].Children != 1 {
		t.Errorf("got %+v", chunk.Nodes)
	}
	want := []dag.Edge{{Parent: -1, Child: -3, On: dag.Succeeded}, {Parent: 7, Child: -3, On: dag.Failed}, {Parent: 9, Child: -2, On: dag.Succeeded}}
	for i, e := range chunk.Edges {
		if e != want[i] {
			t.Errorf("edge %d: got %v, want %v", i, e, want[i])
		}
	}
}

func TestAppendByPath(t *testing.T) {
	chunk, err := DefaultLimits().Append(parseGraph(t, `{"nodes":[
		{"name":"x","in":"more","job":{"kind":"a"},"after":[{"path":"old"}]},
		{"name":"more","batch":{}},
		{"job":{"kind":"b"},"after":[{"path":"more/x"}]}]}`),
		func(path string) (dag.ID, error) {
			if path != "old" {
				t.Errorf("asked for %q", path)
			}
			return 5, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if chunk.Nodes[0].Name != "more" || chunk.Nodes[1].Name != "x" || chunk.Nodes[1].Container != -1 {
		t.Errorf("got %+v", chunk.Nodes)
	}
	want := []dag.Edge{{Parent: 5, Child: -2, On: dag.Succeeded}, {Parent: -2, Child: -3, On: dag.Succeeded}}
	for i, e := range chunk.Edges {
		if e != want[i] {
			t.Errorf("edge %d: got %v, want %v", i, e, want[i])
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{}`, `nodes: is empty`},
		{`{"nodes":[{"job":{"kind":"a"},"container":3}]}`, `nodes[0].container: 3 is no new batch (-1 to -1; 0: the batch that grows)`},
		{`{"nodes":[{"job":{"kind":"a"},"container":-2}]}`, `nodes[0].container: -2 is no new batch (-1 to -1; 0: the batch that grows)`},
		{`{"nodes":[{"job":{"kind":"a"}}],"edges":[{"parent":-1,"child":4}]}`, `edges[0].child: 4 is not new: edges lead into new nodes only (-1 to -1)`},
		{`{"nodes":[{"job":{"kind":"a"}}],"edges":[{"parent":0,"child":-1}]}`, `edges[0].parent: 0 is no node of the graph`},
		{`{"nodes":[{"job":{"kind":"a"}}],"edges":[{"parent":-2,"child":-1}]}`, `edges[0].parent: -2 is no node of the graph`},
		{`{"nodes":[{"job":{"kind":"a"},"after":[{"path":"old"}]}]}`, `nodes[0].after[0].path: "old" names no node of the graph`},
	} {
		if _, err := DefaultLimits().Then(parseGraph(t, c.in)); err == nil || err.Error() != c.want || !errors.Is(err, model.ErrInvalid) {
			t.Errorf("%s\ngot  %v\nwant %s", c.in, err, c.want)
		}
	}
	away := errors.New("away")
	if _, err := DefaultLimits().Append(parseGraph(t, `{"nodes":[{"job":{"kind":"a"},"after":[{"path":"old"}]}]}`),
		func(string) (dag.ID, error) { return 0, away }); !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
	var cycle *dag.CycleError
	if _, err := DefaultLimits().Then(parseGraph(t, `{"nodes":[{"job":{"kind":"a"}},{"job":{"kind":"a"}}],
		"edges":[{"parent":-1,"child":-2},{"parent":-2,"child":-1},{"parent":4,"child":-1}]}`)); !errors.As(err, &cycle) {
		t.Errorf("got %v, want a cycle", err)
	}
}
