package heddle

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/protobuf/proto"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// BenchmarkWorker runs no-op jobs through one worker over loopback, against a
// peer that only hands them out and takes their reports.
func BenchmarkWorker(b *testing.B) {
	p := newPeer()
	mux := http.NewServeMux()
	mux.Handle(heddlev1connect.NewWorkerServiceHandler(p))
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	defer srv.Close()
	c, err := NewClient(ClientConfig{Addrs: []string{srv.URL}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	w := NewWorker(c, WorkerConfig{Slots: 1000})
	noop.Do(w, func(context.Context, None) error { return nil })
	p.add(b.N, "test.noop")
	b.ReportAllocs()
	b.ResetTimer()
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	p.until(b, "all reports", func() bool { return len(p.reports) >= b.N })
	b.StopTimer()
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(float64(len(p.polls)), "polls")
	b.ReportMetric(float64(len(p.groups)), "reports")
}

// BenchmarkEncode writes a streamed graph, chunk by chunk.
func BenchmarkEncode(b *testing.B) {
	wf := NewWorkflow("large")
	wf.Batch("b").AddAll(func(yield func(Job) bool) {
		for range b.N {
			if !yield(greet.Job("somebody@example.org")) {
				return
			}
		}
	})
	b.ReportAllocs()
	err := wf.Group.encode(func(chunk *heddlev1.Graph, _ bool) error {
		_, err := proto.Marshal(chunk)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}
