package wire

import (
	"testing"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

func TestStream(t *testing.T) {
	s, sub, err := DefaultLimits().Stream(parse(t, `{"name":"n","headers":{"h":"1"},"root":{"open":true}}`))
	if err != nil || sub.Name != "n" || !sub.Root.Open || len(sub.Headers) == 0 {
		t.Fatalf("got %+v, %v", sub, err)
	}
	first, err := s.Chunk(parseGraph(t, `{"nodes":[{"batch":{},"children":1},{"container":1,"job":{"kind":"a"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Chunk(parseGraph(t, `{"nodes":[{"container":1,"job":{"kind":"b"}},{"job":{"kind":"c"},"parents":1}],"edges":[{"parent":1,"child":4}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Nodes() != 4 || first.Nodes[0].Children != 1 || second.Nodes[0].Container != 1 || second.Nodes[1].Parents != 1 ||
		len(second.Edges) != 1 || len(first.Nodes[1].Job.Opts) == 0 {
		t.Fatalf("got %+v %+v", first, second)
	}
	if _, err := s.Chunk(parseGraph(t, `{"edges":[{"parent":1,"child":3}]}`)); err != nil {
		t.Fatal(err)
	}
	_, err = s.Chunk(parseGraph(t, `{"nodes":[{"job":{"kind":"d"}}]}`))
	if want := `nodes[4]: comes after the first edge; all nodes come first`; err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
}

func TestStreamRefuses(t *testing.T) {
	if _, _, err := DefaultLimits().Stream(parse(t, `{"job":{"kind":"k"}}`)); err == nil || err.Error() != "has work of its own; in a stream it follows in chunks" {
		t.Errorf("got %v", err)
	}
	for _, c := range []struct{ in, want string }{
		{`{"nodes":[{"in":"b","job":{"kind":"a"}}]}`, `nodes[3].in: "b" is set; a stream names containers by number`},
		{`{"nodes":[{"after":[{}],"job":{"kind":"a"}}]}`, `nodes[3].after: is set; a stream names parents by number, in edges`},
		{`{"nodes":[{"parents":-1,"job":{"kind":"a"}}]}`, `nodes[3].parents: -1 is negative`},
		{`{"nodes":[{"children":-1,"job":{"kind":"a"}}]}`, `nodes[3].children: -1 is negative`},
		{`{"nodes":[{"container":1,"job":{"kind":"a"}}]}`, `nodes[3].container: 1 does not enclose this place: the members of a batch must follow it directly`},
		{`{"nodes":[{"container":4,"job":{"kind":"a"}}]}`, `nodes[3].container: 4 does not enclose this place: the members of a batch must follow it directly`},
		{`{"nodes":[{"job":{"kind":"a"}},{"name":"x","job":{"kind":""}}]}`, `nodes[4].job.kind: is empty (node "x")`},
		{`{"nodes":[{"job":{"kind":"a"}},{"job":{"kind":"a"}},{"job":{"kind":"a"}}]}`, `nodes: 6 nodes are over the limit of 5`},
		{`{"edges":[{"parent":1,"child":2},{"parent":1,"child":9}]}`, `edges[1].child: 9 is no node of the graph (1 to 3)`},
	} {
		s, _, err := Limits{MaxBody: 10, MaxNodes: 5}.Stream(&heddlev1.Submission{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Chunk(parseGraph(t, `{"nodes":[{"batch":{}},{"container":1,"job":{"kind":"a"}},{"job":{"kind":"a"}}]}`)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Chunk(parseGraph(t, c.in)); err == nil || err.Error() != c.want {
			t.Errorf("%s\ngot  %v\nwant %s", c.in, err, c.want)
		}
	}
}
