package raftsched

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// endless is a store with one stream that never ends.
type endless struct{ *table }

func endlessRow(n int64) dispatch.Row {
	r := dispatch.Row{Lane: dispatch.Lane{Route: 1}, Priority: 2, RunAt: n, MaxAttempts: 10, Batch: -1, Args: []byte("{}")}
	binary.BigEndian.PutUint64(r.Job.Workflow[8:], uint64(n))
	r.Job.Node = 1
	return r
}

func (e *endless) Load(_ context.Context, loads []dispatch.Load) ([]dispatch.Loaded, error) {
	out := make([]dispatch.Loaded, len(loads))
	for i, l := range loads {
		out[i] = dispatch.Loaded{Lane: l.Lane, Now: dbNow()}
		for n := range int64(l.Limit) {
			out[i].Rows = append(out[i].Rows, endlessRow(l.After.RunAt+1+n))
		}
	}
	return out, nil
}

func (e *endless) Walk(ctx context.Context, _ dispatch.LanePriority, _ bool, perLane, _ int) ([]dispatch.Loaded, bool, error) {
	loaded, err := e.Load(ctx, []dispatch.Load{{Lane: dispatch.LanePriority{Lane: dispatch.Lane{Route: 1}, Priority: 2}, Limit: perLane}})
	return loaded, true, err
}

func (e *endless) Lanes(context.Context, dispatch.LanePriority, bool, int) ([]dispatch.LanePriority, error) {
	return nil, nil
}

// BenchmarkGrants: two workers poll for 500 jobs at a time and report each
// group in one transaction. One operation is one job: granted, committed to the
// log, answered, ended, released. No database, no RPC.
func BenchmarkGrants(b *testing.B) {
	for name, ephemeral := range map[string]bool{"memory": true, "bolt": false} {
		b.Run(name, func(b *testing.B) {
			cfg := DefaultConfig()
			cfg.ID, cfg.Ephemeral, cfg.Dir = "n1", ephemeral, b.TempDir()
			store := &endless{newTable()}
			n, err := New(cfg, store, &world{})
			if err != nil {
				b.Fatal(err)
			}
			if err := n.Start(context.Background()); err != nil {
				b.Fatal(err)
			}
			defer n.Stop(context.Background())
			tick := time.NewTicker(time.Millisecond)
			for !n.Ready() {
				<-tick.C
			}
			tick.Stop()
			var left atomic.Int64
			work := func() error {
				session, _, err := n.OpenSession(context.Background(), Worker{Name: "w", Process: "p"})
				if err != nil {
					return err
				}
				for poll := uint64(1); left.Load() > 0; poll++ {
					grants, _, err := n.Poll(context.Background(), PollRequest{
						Session: session, Poll: poll, Max: 500, Wait: time.Second, Queues: []Queue{{Name: "default"}}, Kinds: []string{"a"},
					})
					if err != nil {
						return err
					}
					named := make([]HeldLease, len(grants))
					for i := range grants {
						named[i] = HeldLease{grants[i].Lease.Job, grants[i].Lease.ID}
					}
					_, leases := n.Admit(session, named)
					mark := n.Begin()
					n.Done(Done{Ended: append([]fsm.Lease(nil), leases...), Mark: mark})
					left.Add(-int64(len(grants)))
				}
				return nil
			}
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			done := make(chan error, 4)
			for range 4 {
				go func() { done <- work() }()
			}
			for range 4 {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}
