package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// BenchmarkFlush measures jobs per second through Flush with two flushers, as
// the completer has them. One iteration is one job: -benchtime=100000x.
func BenchmarkFlush(b *testing.B) {
	for _, size := range []int{1000, 2000} {
		b.Run(fmt.Sprintf("lone/%d", size), func(b *testing.B) { benchLone(b, size) })
	}
	b.Run("batch/1000", func(b *testing.B) { benchBatch(b, 8) })
	b.Run("chains/1000", benchChains)
}

func finishOf(row *dispatch.Row) model.Finish {
	return model.Finish{Job: row.Job, Turn: row.Turn, Ending: model.EndSucceeded, Worker: "bench", Ran: 1000, Batch: row.Batch, Flags: row.Flags}
}

// flushAll writes items with one flusher for each list.
func flushAll(b *testing.B, s *Store, reign model.Reign, size int, lists ...[]model.Finish) {
	var wg sync.WaitGroup
	var done atomic.Int64
	for _, items := range lists {
		wg.Go(func() {
			for len(items) > 0 {
				n := min(size, len(items))
				answers, _, err := s.Flush(context.Background(), reign, items[:n])
				if err != nil {
					b.Error(err)
					return
				}
				for _, a := range answers {
					if !a.Stale && a.Err == nil {
						done.Add(1)
					}
				}
				items = items[n:]
			}
		})
	}
	wg.Wait()
	total := 0
	for _, items := range lists {
		total += len(items)
	}
	if int(done.Load()) != total {
		b.Fatalf("%d of %d ends written", done.Load(), total)
	}
}

func benchLone(b *testing.B, size int) {
	s := openStore(b)
	reign := newReign(b, s)
	lists := make([][]model.Finish, 2)
	for done := 0; done < b.N; {
		subs := make([]model.Submission, min(1000, b.N-done))
		for i := range subs {
			subs[i] = lone("noop")
		}
		for _, out := range s.Submit(context.Background(), subs) {
			if out.Err != nil {
				b.Fatal(out.Err)
			}
			lists[(done/1000)%2] = append(lists[(done/1000)%2], finishOf(&out.Ready[0]))
		}
		done += len(subs)
	}
	b.ResetTimer()
	flushAll(b, s, reign, size, lists...)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

// submitRows submits graphs and loads all their ready rows.
func submitRows(b *testing.B, s *Store, subs []model.Submission) []dispatch.Row {
	for _, out := range s.Submit(context.Background(), subs) {
		if out.Err != nil {
			b.Fatal(out.Err)
		}
	}
	return readyRows(b, s)
}

func readyRows(b *testing.B, s *Store) []dispatch.Row {
	loaded, _, err := s.Walk(context.Background(), dispatch.LanePriority{}, true, 1<<30, 1<<30)
	if err != nil {
		b.Fatal(err)
	}
	var rows []dispatch.Row
	for _, l := range loaded {
		rows = append(rows, l.Rows...)
	}
	return rows
}

func benchBatch(b *testing.B, batches int) {
	s := openStore(b)
	reign := newReign(b, s)
	each := b.N/batches + 1
	var subs []model.Submission
	for range batches {
		nodes := []model.NewNode{batch("b")}
		for range each {
			nodes = append(nodes, in(1, job("noop")))
		}
		subs = append(subs, graphOf(nodes))
	}
	lists := make([][]model.Finish, 2)
	half := map[fsm.WorkflowID]int{}
	for _, sub := range subs {
		half[sub.ID] = len(half) % 2
	}
	for _, row := range submitRows(b, s, subs) {
		h := half[row.Job.Workflow]
		lists[h] = append(lists[h], finishOf(&row))
	}
	b.ResetTimer()
	flushAll(b, s, reign, 1000, lists...)
	b.ReportMetric(float64(each*batches)/b.Elapsed().Seconds(), "jobs/s")
}

// benchChains finishes chains of ten jobs, a thousand workflows in a flush.
func benchChains(b *testing.B) {
	const length = 10
	s := openStore(b)
	reign := newReign(b, s)
	chains := b.N/length + 1
	var subs []model.Submission
	for range chains {
		var nodes []model.NewNode
		var edges []dag.Edge
		for i := range length {
			nodes = append(nodes, job("noop"))
			if i > 0 {
				edges = append(edges, dag.Edge{Parent: dag.ID(i), Child: dag.ID(i + 1), On: dag.Succeeded})
			}
		}
		subs = append(subs, graphOf(nodes, edges...))
	}
	half := map[fsm.WorkflowID]int{}
	for _, sub := range subs {
		half[sub.ID] = len(half) % 2
	}
	rows := submitRows(b, s, subs)
	b.ResetTimer()
	for range length {
		lists := make([][]model.Finish, 2)
		for i := range rows {
			h := half[rows[i].Job.Workflow]
			lists[h] = append(lists[h], finishOf(&rows[i]))
		}
		flushAll(b, s, reign, 1000, lists...)
		b.StopTimer()
		rows = readyRows(b, s)
		b.StartTimer()
	}
	b.ReportMetric(float64(chains*length)/b.Elapsed().Seconds(), "jobs/s")
}
