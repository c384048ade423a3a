package heddle

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

func TestStopPhases(t *testing.T) {
	var began chan struct{}
	start := func(r *rig, h func(ctx context.Context) error) {
		began = make(chan struct{}, 10)
		noop.Do(r.w, func(ctx context.Context, _ None) error {
			began <- struct{}{}
			return h(ctx)
		})
	}
	t.Run("handlers end by themselves", func(t *testing.T) {
		bubble(t, WorkerConfig{StopTimeout: time.Minute}, func(r *rig) {
			start(r, func(ctx context.Context) error {
				time.Sleep(30 * time.Second)
				return ctx.Err()
			})
		}, func(r *rig) {
			r.p.add(1, "test.noop")
			<-began
			r.stop()
			r.p.add(1, "test.noop") // must not be taken any more
			at := time.Now()
			if err := r.finished(); err != nil {
				t.Error(err)
			}
			if d := time.Since(at); d != 30*time.Second {
				t.Errorf("took %v", d)
			}
			if len(r.p.reports) != 1 || r.p.reports[0].GetEnding() != heddlev1.Ending_ENDING_SUCCEEDED || len(r.p.closed) != 1 {
				t.Errorf("reports %v, closed %v", r.p.reports, r.p.closed)
			}
			// Heartbeats went on while it stopped.
			if n := len(r.p.beats); n < 8 {
				t.Errorf("%d heartbeats", n)
			}
		})
	})
	t.Run("handlers that obey", func(t *testing.T) {
		bubble(t, WorkerConfig{StopTimeout: time.Minute, StopGrace: time.Minute}, func(r *rig) {
			start(r, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				return context.Cause(ctx)
			})
		}, func(r *rig) {
			r.p.add(1, "test.noop")
			<-began
			at := time.Now()
			if err := r.finished(); err != nil {
				t.Error(err)
			}
			if d := time.Since(at); d != 61*time.Second {
				t.Errorf("took %v", d)
			}
			if len(r.p.reports) != 1 || r.p.reports[0].GetEnding() != heddlev1.Ending_ENDING_RELEASED {
				t.Errorf("reports %v", r.p.reports)
			}
		})
	})
	t.Run("handlers that do not", func(t *testing.T) {
		bubble(t, WorkerConfig{StopTimeout: time.Minute, StopGrace: time.Minute}, func(r *rig) {
			start(r, func(context.Context) error {
				time.Sleep(time.Hour)
				return nil
			})
		}, func(r *rig) {
			r.p.add(1, "test.noop")
			<-began
			at := time.Now()
			err := r.finished()
			if !errors.Is(err, ErrShutdown) || !strings.Contains(err.Error(), "1 handlers did not return") {
				t.Errorf("Run: %v", err)
			}
			if d := time.Since(at); d != 2*time.Minute {
				t.Errorf("took %v", d)
			}
			time.Sleep(time.Hour) // what it returns now is not wanted
			if len(r.p.reports) != 1 || r.p.reports[0].GetEnding() != heddlev1.Ending_ENDING_RELEASED {
				t.Errorf("reports %v", r.p.reports)
			}
		})
	})
	t.Run("engine away", func(t *testing.T) {
		bubble(t, WorkerConfig{}, func(r *rig) {
			start(r, func(context.Context) error { time.Sleep(time.Second); return nil })
		}, func(r *rig) {
			r.p.add(1, "test.noop")
			<-began
			_ = r.nets[0].Close()
			r.nets[0].cut()
			at := time.Now()
			if err := r.finished(); err != nil {
				t.Error(err)
			}
			if d := time.Since(at); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	})
	t.Run("before there is a session", func(t *testing.T) {
		bubble(t, WorkerConfig{}, func(r *rig) {
			start(r, func(context.Context) error { return nil })
			_ = r.nets[0].Close()
		}, func(r *rig) {
			time.Sleep(time.Minute)
			if err := r.finished(); err != nil {
				t.Error(err)
			}
		})
	})
}
