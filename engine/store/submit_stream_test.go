package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
)

// announced counts the edges of nodes, as a stream must.
func announced(nodes []model.NewNode, edges []dag.Edge) []model.NewNode {
	parents, children := degrees(len(nodes), edges)
	nodes = append([]model.NewNode(nil), nodes...)
	for i := range nodes {
		nodes[i].Parents, nodes[i].Children = parents[i], children[i]
	}
	return nodes
}

// chunks cuts a graph into chunks of size nodes or edges, then gives end.
func chunks(nodes []model.NewNode, edges []dag.Edge, size int, end error) func() (*model.Chunk, error) {
	return func() (*model.Chunk, error) {
		switch {
		case len(nodes) > 0:
			n := min(size, len(nodes))
			chunk := &model.Chunk{Nodes: nodes[:n]}
			nodes = nodes[n:]
			return chunk, nil
		case len(edges) > 0:
			n := min(size, len(edges))
			chunk := &model.Chunk{Edges: edges[:n]}
			edges = edges[n:]
			return chunk, nil
		}
		return nil, end
	}
}

// tower is a graph with all that a stream may hold: nested batches, edges into
// and out of them, args of all sizes.
func tower(members int) ([]model.NewNode, []dag.Edge) {
	big := job("big")
	big.Job.Args = make([]byte, 3000)
	nodes := []model.NewNode{named("start", job("start")), batch("outer"), in(2, batch("inner"))}
	for i := range members {
		n := in(3, job("mail"))
		n.Name = fmt.Sprint("mail", i)
		nodes = append(nodes, n)
	}
	nodes = append(nodes, in(2, big), named("end", job("end")), job("free"))
	last := dag.ID(len(nodes))
	return nodes, []dag.Edge{{Parent: 1, Child: 2, On: 1}, {Parent: 3, Child: last - 2, On: 7}, {Parent: 2, Child: last - 1, On: 7}}
}

const dump = `SELECT COALESCE(string_agg(x::text, E'\n' ORDER BY x::text), '') FROM (
	SELECT (node, route, batch, flags, need, slack, join_k, state, priority, max_attempts, key, name, args, opts)::text x FROM jobs WHERE workflow_id = $1
	UNION ALL SELECT (node, parent, lo, hi, need, slack, flags, total, state, priority, name, started_at IS NULL)::text FROM batches WHERE workflow_id = $1
	UNION ALL SELECT (parent, child, on_set)::text FROM edges WHERE workflow_id = $1
	UNION ALL SELECT (node, slot, body)::text FROM payloads WHERE workflow_id = $1
	UNION ALL SELECT (grp, batch, node, rank, size, x, y, label, kind)::text FROM groups WHERE workflow_id = $1
	UNION ALL SELECT (from_grp, to_grp, on_set, size)::text FROM group_edges WHERE workflow_id = $1
	UNION ALL SELECT (los, grps)::text FROM group_ranges WHERE workflow_id = $1
	UNION ALL SELECT (next_node, flags, total, state, name, digest)::text FROM workflows WHERE id = $1) s`

func dumpOf(t testing.TB, s *Store, sub model.Submission) string {
	t.Helper()
	var text string
	if err := s.main.QueryRow(context.Background(), dump, sub.ID).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestStreamAndUnaryWriteTheSame also compares their digests: a repeat may
// take the other way.
func TestStreamAndUnaryWriteTheSame(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	nodes, edges := tower(200)
	unary := graphOf(nodes, edges...)
	want := submitOne(t, s, unary)
	for _, size := range []int{1, 7, 1000} {
		header := model.Submission{ID: newID(), Name: "graph"}
		got, err := s.SubmitStream(ctx, header, chunks(announced(nodes, edges), edges, size, io.EOF))
		if err != nil {
			t.Fatal(err)
		}
		if !got.Created || got.Nodes != want.Nodes || len(got.Ready) != len(want.Ready) || len(got.Lanes) != len(want.Lanes) {
			t.Errorf("size %d: %+v, unary %+v", size, got, want)
		}
		if a, b := dumpOf(t, s, header), dumpOf(t, s, unary); a != b {
			t.Errorf("size %d differs:\n%s\n\n%s", size, a, b)
		}
		again, err := s.SubmitStream(ctx, header, chunks(announced(nodes, edges), edges, 50, io.EOF))
		if err != nil || again.Created || again.Nodes != want.Nodes {
			t.Errorf("repeat: %+v, %v", again, err)
		}
		if _, err := s.SubmitStream(ctx, header, chunks(announced(nodes, edges[:2]), edges[:2], 50, io.EOF)); !errors.Is(err, model.ErrAlreadyExists) {
			t.Errorf("other graph: %v", err)
		}
	}
	repeat := unary
	if again, err := s.SubmitStream(ctx, model.Submission{ID: repeat.ID, Name: "graph"}, chunks(announced(nodes, edges), edges, 50, io.EOF)); err != nil || again.Created {
		t.Errorf("stream of a unary submission: %+v, %v", again, err)
	}
}

func TestStreamLeavesNothingBehind(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	nodes, edges := tower(20)
	good := announced(nodes, edges)
	lost := errors.New("the client is gone")
	cyclic := append(append([]dag.Edge(nil), edges...), dag.Edge{Parent: dag.ID(len(nodes) - 1), Child: 1, On: 1})
	taken := lone("taken")
	submitOne(t, s, taken)
	hugeArgs := append([]model.NewNode(nil), good...)
	huge := *hugeArgs[5].Job
	huge.Args = make([]byte, 1<<20+1)
	hugeArgs[5].Job = &huge
	for _, c := range []struct {
		name string
		next func() (*model.Chunk, error)
		want error
	}{
		{"stream breaks", chunks(good, edges, 10, lost), lost},
		{"edges missing", chunks(good, edges[:1], 10, io.EOF), model.ErrInvalid},
		{"cycle", chunks(announced(nodes, cyclic), cyclic, 10, io.EOF), model.ErrInvalid},
		{"edge twice", chunks(good, append(edges, edges[0]), 10, io.EOF), model.ErrInvalid},
		{"args too large", chunks(hugeArgs, edges, 10, io.EOF), model.ErrInvalid},
		{"nodes after edges", chunks(nil, nil, 1, io.EOF), model.ErrInvalid},
	} {
		next := c.next
		if c.name == "nodes after edges" {
			parts := []*model.Chunk{{Nodes: good[:1], Edges: edges[:1]}, {Nodes: good[1:]}}
			next = func() (*model.Chunk, error) {
				if len(parts) == 0 {
					return nil, io.EOF
				}
				p := parts[0]
				parts = parts[1:]
				return p, nil
			}
		}
		header := model.Submission{ID: newID(), Name: "graph"}
		if _, err := s.SubmitStream(ctx, header, next); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if text := dumpOf(t, s, header); text != "" {
			t.Errorf("%s: left\n%s", c.name, text)
		}
	}
	if _, err := s.SubmitStream(ctx, model.Submission{ID: taken.ID}, chunks(good, edges, 10, io.EOF)); !errors.Is(err, model.ErrAlreadyExists) {
		t.Errorf("id of a lone job: %v", err)
	}
}

// What a submitter did wrong begins with the word for it, once, however it came.
func TestMistakesAreCalledInvalidOnce(t *testing.T) {
	s := openStore(t)
	twins := []model.NewNode{named("a", job("k")), named("a", job("k"))}
	cycle := []dag.Edge{{Parent: 1, Child: 2, On: 1}, {Parent: 2, Child: 1, On: 1}}
	pair := []model.NewNode{job("k"), job("k")}
	for name, c := range map[string]struct {
		sub  model.Submission
		want string
	}{
		"the store's": {model.Submission{ID: newID(), Lone: true}, "invalid: "},
		"the rules'":  {graphOf(twins), "invalid: "},
		"a cycle":     {graphOf(pair, cycle...), "invalid: these wait for each other in a cycle: "},
	} {
		err := s.Submit(t.Context(), []model.Submission{c.sub})[0].Err
		if !errors.Is(err, model.ErrInvalid) || !strings.HasPrefix(err.Error(), c.want) || strings.Count(err.Error(), "invalid") != 1 {
			t.Errorf("%s: %v", name, err)
		}
		_, err = s.SubmitStream(t.Context(), c.sub, chunks(announced(c.sub.Nodes, c.sub.Edges), c.sub.Edges, 10, io.EOF))
		if !errors.Is(err, model.ErrInvalid) || !strings.HasPrefix(err.Error(), c.want) || strings.Count(err.Error(), "invalid") != 1 {
			t.Errorf("%s, streamed: %v", name, err)
		}
	}
	broken := errors.New("broken pipe")
	sub := graphOf(pair)
	_, err := s.SubmitStream(t.Context(), sub, chunks(pair, nil, 10, broken))
	if want := "submit " + sub.ID.String() + ": broken pipe"; !errors.Is(err, broken) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// generate streams a batch of n jobs, chained one after the other or not,
// without ever holding more than a chunk.
func generate(n, size int, chained bool) func() (*model.Chunk, error) {
	sent, edges := 0, 0
	return func() (*model.Chunk, error) {
		if sent < n {
			chunk := &model.Chunk{}
			if sent == 0 {
				chunk.Nodes = append(chunk.Nodes, batch("all"))
			}
			for ; sent < n && len(chunk.Nodes) < size; sent++ {
				m := in(1, model.NewNode{Job: &model.Job{Kind: "noop", Args: fmt.Appendf(nil, `{"to":"user-%d@example.com"}`, sent)}})
				if chained && sent > 0 {
					m.Parents = 1
				}
				if chained && sent < n-1 {
					m.Children = 1
				}
				chunk.Nodes = append(chunk.Nodes, m)
			}
			return chunk, nil
		}
		if chained && edges < n-1 {
			chunk := &model.Chunk{}
			for ; edges < n-1 && len(chunk.Edges) < size; edges++ {
				chunk.Edges = append(chunk.Edges, dag.Edge{Parent: dag.ID(edges + 2), Child: dag.ID(edges + 3), On: 1})
			}
			return chunk, nil
		}
		return nil, io.EOF
	}
}

// peakHeap samples the heap in use until the function it returns is called,
// which gives the largest growth in bytes.
func peakHeap() (stop func() uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	percent := debug.SetGCPercent(20) // what is kept counts, not what waits for the collector
	runtime.GC()
	before, peak := read(), uint64(0)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				peak = max(peak, read()-min(before, read()))
			}
		}
	}()
	return func() uint64 {
		close(done)
		<-ended
		debug.SetGCPercent(percent)
		return peak
	}
}

// TestStreamMemory bounds what a stream keeps: the structure, not the rows.
func TestStreamMemory(t *testing.T) {
	s := openStore(t)
	const n = 200_000
	for _, chained := range []bool{false, true} {
		header := model.Submission{ID: newID()}
		stop := peakHeap()
		out, err := s.SubmitStream(context.Background(), header, generate(n, 5000, chained))
		peak := stop()
		if err != nil {
			t.Fatal(err)
		}
		edges := int64(0)
		if chained {
			edges = n - 1
		}
		if out.Nodes != n+1 || queryInt(t, s, `SELECT count(*) FROM jobs WHERE workflow_id = $1`, header.ID) != n ||
			queryInt(t, s, `SELECT count(*) FROM edges WHERE workflow_id = $1`, header.ID) != edges {
			t.Errorf("chained %v: %d nodes, or rows missing", chained, out.Nodes)
		}
		// A fifth of 300 MiB, the bound for a million; a chain, of which every
		// job is a group of its own until they are merged, may take twice that.
		limit := uint64(60 << 20)
		if chained {
			limit *= 2
		}
		t.Logf("chained %v: %d MiB", chained, peak>>20)
		if peak > limit {
			t.Errorf("chained %v: %d MiB of heap for %d nodes, the limit is %d", chained, peak>>20, n, limit>>20)
		}
	}
}

// BenchmarkStream1M reports the rate and the largest heap.
func BenchmarkStream1M(b *testing.B) {
	for _, chained := range []bool{false, true} {
		b.Run(fmt.Sprintf("chained=%v", chained), func(b *testing.B) {
			s := openStore(b)
			stop := peakHeap()
			for b.Loop() {
				if _, err := s.SubmitStream(context.Background(), model.Submission{ID: newID()}, generate(1_000_000, 5000, chained)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*1e6/b.Elapsed().Seconds(), "jobs/s")
			b.ReportMetric(float64(stop()>>20), "MiB")
		})
	}
}
