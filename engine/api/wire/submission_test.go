package wire

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// parse reads a submission as people write it.
func parse(t testing.TB, text string) *heddlev1.Submission {
	t.Helper()
	var s heddlev1.Submission
	if err := protojson.Unmarshal([]byte(text), &s); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return &s
}

func TestSubmissionRefuses(t *testing.T) {
	long := strings.Repeat("x", 201)
	for _, c := range []struct{ name, in, want string }{
		{"empty", `{}`, `is neither a job nor a graph`},
		{"id", `{"id":"7","job":{"kind":"k"}}`, `id: "7" is no workflow id (a UUID)`},
		{"id version", `{"id":"9b2b1f36-3f0e-4a3e-8f2f-6f1d8a1c2b3d","job":{"kind":"k"}}`, `id: 9b2b1f36-3f0e-4a3e-8f2f-6f1d8a1c2b3d is no UUIDv7`},
		{"kind", `{"job":{}}`, `job.kind: is empty`},
		{"kind length", `{"job":{"kind":"` + long + `"}}`, `job.kind: 201 bytes are over the limit of 200`},
		{"kind zero byte", `{"job":{"kind":"a\u0000b"}}`, `job.kind: "a\x00b" contains a zero byte`},
		{"queue length", `{"job":{"kind":"k","queue":"` + long + `"}}`, `job.queue: 201 bytes are over the limit of 200`},
		{"priority", `{"job":{"kind":"k","priority":7}}`, `job.priority: 7 is not in 0..4`},
		{"key", `{"job":{"kind":"k","key":"` + long + `"}}`, `job.key: 201 bytes are over the limit of 200`},
		{"run_at", `{"job":{"kind":"k","runAt":"1969-12-31T23:59:59Z"}}`, `job.run_at: 1969-12-31T23:59:59Z is before 1970`},
		{"args both", `{"job":{"kind":"k","args":"e30=","argsJson":"{}"}}`, `job.args_json: is set beside args; give one of them`},
		{"args_json", `{"job":{"kind":"k","argsJson":"{"}}`, `job.args_json: "{" is not JSON`},
		{"args size", `{"job":{"kind":"k","argsJson":"\"` + strings.Repeat("x", 99) + `\""}}`, `job.args_json: 101 bytes are over the limit of 100`},
		{"name of a lone job", `{"name":"n","job":{"kind":"k"}}`, `name: "n" is set, but only a graph has a name`},
		{"root of a lone job", `{"root":{"open":true},"job":{"kind":"k"}}`, `root: is set, but only a graph has options of its own`},
		{"headers", `{"headers":{"":"x"},"job":{"kind":"k"}}`, `headers: the name of one of them is empty`},
		{"attempts", `{"job":{"kind":"k","options":{"retry":{"attempts":1001}}}}`, `job.options.retry.attempts: 1001 is not in 0..1000`},
		{"backoff", `{"job":{"kind":"k","options":{"retry":{"backoff":9}}}}`, `job.options.retry.backoff: 9 is unknown`},
		{"jitter", `{"job":{"kind":"k","options":{"retry":{"jitter":1.5}}}}`, `job.options.retry.jitter: 1.5 is not in 0..1`},
		{"jitter nan", `{"job":{"kind":"k","options":{"retry":{"jitter":"NaN"}}}}`, `job.options.retry.jitter: NaN is not in 0..1`},
		{"factor", `{"job":{"kind":"k","options":{"retry":{"factor":0.5}}}}`, `job.options.retry.factor: 0.5 is not in 1..1000`},
		{"initial", `{"job":{"kind":"k","options":{"retry":{"initial":"5s","max":"2s"}}}}`, `job.options.retry.initial: 5s is longer than max, 2s`},
		{"no delays", `{"job":{"kind":"k","options":{"retry":{"backoff":"BACKOFF_LIST"}}}}`, `job.options.retry.delays: is empty, but backoff is a list`},
		{"delays", `{"job":{"kind":"k","options":{"retry":{"delays":["1s"]}}}}`, `job.options.retry.delays: is set, but backoff is no list`},
		{"delay", `{"job":{"kind":"k","options":{"retry":{"backoff":"BACKOFF_LIST","delays":["1s","-1s"]}}}}`, `job.options.retry.delays[1]: -1s is negative`},
		{"timeout", `{"job":{"kind":"k","options":{"timeout":"-3s"}}}`, `job.options.timeout: -3s is negative`},
		{"deadline", `{"job":{"kind":"k","options":{"deadline":"315576000000s"}}}`, `job.options.deadline: 2562047h47m16.854775807s is longer than 87600h0m0s`},
		{"tag", `{"job":{"kind":"k","options":{"tags":["a",""]}}}`, `job.options.tags[1]: is empty`},
		{"graph name", `{"name":"a/b","graph":{}}`, `name: "a/b" contains a slash, which separates the names of a path`},
		{"root tolerance", `{"root":{"toleranceCount":1,"tolerancePercent":2},"graph":{}}`, `root.tolerance_percent: 2 is set beside tolerance_count, 1; give one of them`},
		{"percent", `{"root":{"tolerancePercent":101},"graph":{}}`, `root.tolerance_percent: 101 is not in 0..100`},
		{"node", `{"graph":{"nodes":[{"name":"a"}]}}`, `graph.nodes[0]: is neither a job nor a batch (node "a")`},
		{"node job", `{"graph":{"nodes":[{"job":{"kind":"a"}},{"job":{"kind":"k","priority":7}}]}}`, `graph.nodes[1].job.priority: 7 is not in 0..4`},
		{"named node", `{"graph":{"nodes":[{"name":"x","job":{"kind":"k","args":"` + strings.Repeat("QUJD", 34) + `"}}]}}`, `graph.nodes[0].job.args: 102 bytes are over the limit of 100 (node "x")`},
		{"join", `{"graph":{"nodes":[{"job":{"kind":"a"},"join":-1}]}}`, `graph.nodes[0].join: -1 is negative`},
		{"container", `{"graph":{"nodes":[{"job":{"kind":"a"},"container":2}]}}`, `graph.nodes[0].container: 2 is no node of the graph (1 to 1)`},
		{"container job", `{"graph":{"nodes":[{"job":{"kind":"a"}},{"job":{"kind":"a"},"container":1}]}}`, `graph.nodes[1].container: 1 is no batch`},
		{"not depth first", `{"graph":{"nodes":[{"batch":{}},{"job":{"kind":"a"}},{"job":{"kind":"a"},"container":1}]}}`, `graph.nodes[2].container: 1 does not enclose this place: the members of a batch must follow it directly`},
		{"in itself", `{"graph":{"nodes":[{"batch":{},"container":1},{"job":{"kind":"a"},"after":[{"path":"x"}]}]}}`, `graph.nodes[0].container: 1 is inside itself`},
		{"in both", `{"graph":{"nodes":[{"batch":{},"name":"b"},{"job":{"kind":"a"},"container":1,"in":"b"}]}}`, `graph.nodes[1].in: "b" is set beside container, 1; give one of them`},
		{"in unknown", `{"graph":{"nodes":[{"job":{"kind":"a"},"in":"b"}]}}`, `graph.nodes[0].in: "b" names no batch of the graph`},
		{"in job", `{"graph":{"nodes":[{"job":{"kind":"a"},"name":"j"},{"job":{"kind":"a"},"in":"j"}]}}`, `graph.nodes[1].in: "j" is no batch`},
		{"after unknown", `{"graph":{"nodes":[{"job":{"kind":"a"},"after":[{"path":"rendr"}]}]}}`, `graph.nodes[0].after[0].path: "rendr" names no node of the graph`},
		{"after nothing", `{"graph":{"nodes":[{"job":{"kind":"a"},"after":[{}]}]}}`, `graph.nodes[0].after[0].path: is empty`},
		{"after on", `{"graph":{"nodes":[{"job":{"kind":"a"},"after":[{"path":"x","on":[3]}]}]}}`, `graph.nodes[0].after[0].on: 3 is no outcome`},
		{"edge parent", `{"graph":{"nodes":[{"job":{"kind":"a"}}],"edges":[{"parent":0,"child":1}]}}`, `graph.edges[0].parent: 0 is no node of the graph (1 to 1)`},
		{"edge child", `{"graph":{"nodes":[{"job":{"kind":"a"}}],"edges":[{"parent":1,"child":2}]}}`, `graph.edges[0].child: 2 is no node of the graph (1 to 1)`},
		{"edge of nothing", `{"graph":{"edges":[{"parent":1,"child":2}]}}`, `graph.edges[0].parent: 1 is no node of the graph, which has none`},
		{"edge on", `{"graph":{"nodes":[{"job":{"kind":"a"}},{"job":{"kind":"a"}}],"edges":[{"parent":1,"child":2,"on":16}]}}`, `graph.edges[0].on: 16 is not in 1..15`},
		{"too many", `{"graph":{"nodes":[` + strings.Repeat(`{"job":{"kind":"a"}},`, 9) + `{"job":{"kind":"a"}}]}}`, `graph.nodes: 10 nodes are over the limit of 9`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Limits{MaxBody: 100, MaxNodes: 9}.Submission(parse(t, c.in))
			if err == nil || err.Error() != c.want {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
			if !errors.Is(err, model.ErrInvalid) {
				t.Fatalf("%v does not wrap model.ErrInvalid", err)
			}
		})
	}
}

// What only the rules of graphs refuse keeps its field and its cause.
func TestSubmissionAsksTheRules(t *testing.T) {
	_, err := DefaultLimits().Submission(parse(t, `{"graph":{"nodes":[
		{"name":"a","job":{"kind":"k"},"after":[{"path":"b"}]},
		{"name":"b","job":{"kind":"k"},"after":[{"path":"a"}]}]}}`))
	var cycle *dag.CycleError
	if !errors.As(err, &cycle) || !errors.Is(err, model.ErrInvalid) || !strings.HasPrefix(err.Error(), "graph: ") {
		t.Fatalf("got %v, want a cycle in graph", err)
	}
	_, err = DefaultLimits().Submission(parse(t, `{"graph":{"nodes":[
		{"name":"a","job":{"kind":"k"}}, {"name":"a","job":{"kind":"k"}}]}}`))
	if !errors.Is(err, model.ErrInvalid) || !strings.HasPrefix(err.Error(), "graph: ") || strings.Contains(err.Error(), "invalid") {
		t.Fatalf("got %v, want a name given twice", err)
	}
}

func TestSubmissionLone(t *testing.T) {
	sub, err := DefaultLimits().Submission(parse(t, `{"id":"01890a5d-ac96-774b-bcce-b302099a8057","repeat":true,"headers":{"h":"1","g":"1"},
		"job":{"kind":"k","priority":3,"runAt":"2030-01-02T03:04:05Z","argsJson":"{\"a\":1}","key":"t1",
		"options":{"retry":{"attempts":4},"waitTimeout":"5s","deadline":"60s","delay":"2s","headers":{"h":"2"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if sub.ID.String() != "01890a5d-ac96-774b-bcce-b302099a8057" || !sub.Lone || !sub.Repeat || sub.Headers != nil || len(sub.Nodes) != 1 {
		t.Fatalf("got %+v", sub)
	}
	j := sub.Nodes[0].Job
	if j.Kind != "k" || j.Queue != "default" || j.Priority != 3 || j.Key != "t1" || string(j.Args) != `{"a":1}` || j.MaxAttempts != 4 ||
		j.WaitTimeout != 5*time.Second || j.Deadline != time.Minute || j.Delay != 2*time.Second ||
		!j.RunAt.Equal(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Fatalf("got %+v", j)
	}
	var o heddlev1.JobOptions
	if err := proto.Unmarshal(j.Opts, &o); err != nil {
		t.Fatal(err)
	}
	if o.GetHeaders()["h"] != "2" || o.GetHeaders()["g"] != "1" || o.GetDeadline().AsDuration() != time.Minute {
		t.Fatalf("got options %v", &o)
	}
}

func TestSubmissionMakesAnID(t *testing.T) {
	sub, err := DefaultLimits().Submission(parse(t, `{"job":{"kind":"k"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if sub.ID[6]>>4 != 7 || sub.Nodes[0].Job.Opts != nil || sub.Nodes[0].Job.MaxAttempts != 10 {
		t.Fatalf("got %+v %+v", sub, sub.Nodes[0].Job)
	}
}

// The same options give the same bytes, or a repeat would seem another graph.
func TestOptionsAreEncodedAlike(t *testing.T) {
	text := `{"headers":{"a":"1","b":"2","c":"3","d":"4"},"job":{"kind":"k","options":{"headers":{"e":"5","f":"6"}}}}`
	first, err := DefaultLimits().Submission(parse(t, text))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		next, err := DefaultLimits().Submission(parse(t, text))
		if err != nil || string(next.Nodes[0].Job.Opts) != string(first.Nodes[0].Job.Opts) {
			t.Fatalf("got %q (%v), want %q", next.Nodes[0].Job.Opts, err, first.Nodes[0].Job.Opts)
		}
	}
}

// A graph by paths may be written in any order.
func TestSubmissionOrdersByPath(t *testing.T) {
	sub, err := DefaultLimits().Submission(parse(t, `{"name":"campaign","headers":{"h":"1"},"root":{"toleranceCount":2},"graph":{"nodes":[
		{"name":"report","job":{"kind":"report"},"after":[{"path":"emails","on":["OUTCOME_SUCCEEDED","OUTCOME_FAILED"]},{"path":"emails/eu/de"}],"join":1},
		{"name":"de","in":"emails/eu","job":{"kind":"send"}},
		{"name":"eu","in":"emails","batch":{"tolerancePercent":5}},
		{"name":"us","in":"emails","job":{"kind":"send","options":{"tags":["t"]}},"hold":true,"cleanup":true},
		{"name":"emails","batch":{"open":true,"priority":1},"after":[{"path":"letter"}]},
		{"name":"letter","job":{"kind":"render"}}],
		"edges":[{"parent":6,"child":1,"on":15}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		name              string
		container         dag.ID
		parents, children int32
	}
	want := []node{{"report", 0, 3, 0}, {"emails", 0, 1, 1}, {"eu", 2, 0, 0}, {"de", 3, 0, 1}, {"us", 2, 0, 0}, {"letter", 0, 0, 2}}
	for i, n := range sub.Nodes {
		if got := (node{n.Name, n.Container, n.Parents, n.Children}); got != want[i] {
			t.Errorf("node %d: got %+v, want %+v", i+1, got, want[i])
		}
	}
	edges := []dag.Edge{{Parent: 6, Child: 1, On: dag.Always}, {Parent: 2, Child: 1, On: dag.Succeeded | dag.Failed},
		{Parent: 4, Child: 1, On: dag.Succeeded}, {Parent: 6, Child: 2, On: dag.Succeeded}}
	if len(sub.Edges) != len(edges) {
		t.Fatalf("got edges %v", sub.Edges)
	}
	for i, e := range sub.Edges {
		if e != edges[i] {
			t.Errorf("edge %d: got %v, want %v", i, e, edges[i])
		}
	}
	if sub.Name != "campaign" || sub.Root.Tolerance.Count != 2 || sub.Headers == nil || sub.Lone {
		t.Errorf("got %+v", sub)
	}
	us, de := sub.Nodes[4], sub.Nodes[3]
	if !us.Hold || !us.Cleanup || sub.Nodes[0].Join != 1 || !sub.Nodes[1].Batch.Open || sub.Nodes[1].Batch.Priority != 1 || sub.Nodes[2].Batch.Tolerance.Percent != 5 {
		t.Errorf("got %+v", sub.Nodes)
	}
	var o heddlev1.JobOptions
	if err := proto.Unmarshal(us.Job.Opts, &o); err != nil || o.GetHeaders()["h"] != "1" || o.GetTags()[0] != "t" {
		t.Errorf("got options %v %v", &o, err)
	}
	if &de.Job.Opts[0] != &sub.Headers[0] {
		t.Error("jobs without options of their own do not share those of the submission")
	}
}

func TestDecode(t *testing.T) {
	body, err := proto.Marshal(parse(t, `{"graph":{"nodes":[{"batch":{}},{"container":1,"job":{"kind":"k"}}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	sub, err := DefaultLimits().Decode(body)
	if err != nil || len(sub.Nodes) != 2 || sub.Nodes[1].Container != 1 {
		t.Fatalf("got %+v, %v", sub, err)
	}
	if _, err := DefaultLimits().Decode([]byte{0xff}); !errors.Is(err, model.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
}

// Conversion never panics, and what it accepts is numbered as the store needs
// it: containers before their members, edges between nodes that exist.
func FuzzSubmission(f *testing.F) {
	for _, text := range []string{
		`{"job":{"kind":"k","argsJson":"{}"}}`,
		`{"graph":{"nodes":[{"name":"b","batch":{}},{"in":"b","name":"x","job":{"kind":"k"},"after":[{"path":"y"}]},{"name":"y","job":{"kind":"k"}}]}}`,
		`{"graph":{"nodes":[{"batch":{}},{"container":1,"batch":{}},{"container":2,"job":{"kind":"k"}},{"job":{"kind":"k"}}],"edges":[{"parent":1,"child":4,"on":3}]}}`,
		`{"graph":{"nodes":[{"batch":{},"container":2,"name":"a"},{"batch":{},"container":1,"name":"b"},{"job":{"kind":"k"},"in":"a/b"}]}}`,
	} {
		body, err := proto.Marshal(parse(f, text))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		l := Limits{MaxBody: 1 << 10, MaxNodes: 100}
		sub, err := l.Decode(body)
		if err != nil {
			if !errors.Is(err, model.ErrInvalid) {
				t.Fatalf("%v does not wrap model.ErrInvalid", err)
			}
			return
		}
		for i, n := range sub.Nodes {
			if int(n.Container) > i || (n.Job == nil) == (n.Batch == nil) {
				t.Fatalf("node %d: %+v", i+1, n)
			}
			if n.Container > 0 && sub.Nodes[n.Container-1].Batch == nil {
				t.Fatalf("node %d is inside a job", i+1)
			}
		}
		for _, e := range sub.Edges {
			if e.Parent < 1 || e.Child < 1 || int(max(e.Parent, e.Child)) > len(sub.Nodes) || e.On == 0 || e.On > dag.Always {
				t.Fatalf("edge %+v of %d nodes", e, len(sub.Nodes))
			}
		}
		var s heddlev1.Submission
		if proto.Unmarshal(body, &s) == nil {
			_, _ = l.Then(s.GetGraph())
		}
	})
}
