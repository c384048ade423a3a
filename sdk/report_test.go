package heddle

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// statuses answers all reports of a call alike.
func statuses(m *heddlev1.ReportRequest, s heddlev1.ReportStatus, message string) (*heddlev1.ReportResponse, error) {
	res := &heddlev1.ReportResponse{Epoch: 1}
	for range m.GetReports() {
		res.Results = append(res.Results, &heddlev1.ReportResult{Status: s, Message: message})
	}
	return res, nil
}

func TestReportsGatherWhileOneIsUnderWay(t *testing.T) {
	var first, second chan struct{}
	var calls atomic.Int32
	bubble(t, WorkerConfig{Slots: 1000}, func(r *rig) {
		first, second = make(chan struct{}), make(chan struct{})
		noop.Do(r.w, func(context.Context, None) error { return nil })
		r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			switch calls.Add(1) {
			case 1:
				<-first
			case 2:
				<-second
			}
			return r.p.accept(m)
		}
	}, func(r *rig) {
		r.p.add(1, "test.noop")
		synctest.Wait()
		r.p.add(reportGather-1, "test.noop") // too few for a second call
		synctest.Wait()
		time.Sleep(time.Second)
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls under way", n)
		}
		r.p.add(1, "test.noop")
		synctest.Wait()
		time.Sleep(time.Second)
		if n := calls.Load(); n != 2 {
			t.Errorf("%d calls under way", n)
		}
		r.p.add(3000, "test.noop") // no third call
		time.Sleep(time.Second)
		if n := calls.Load(); n != 2 {
			t.Errorf("%d calls under way", n)
		}
		close(first)
		close(second)
		r.reported(3000 + reportGather + 1)
		for _, n := range r.p.groups {
			if n > reportCount {
				t.Errorf("%d reports in one call", n)
			}
		}
	})
}

func TestReportsAreKeptUntilAcknowledged(t *testing.T) {
	var tries atomic.Int32
	bubble(t, WorkerConfig{Slots: 10}, func(r *rig) {
		greet.Handle(r.w, func(_ context.Context, s string) (string, error) {
			time.Sleep(time.Second)
			return s, nil
		})
		r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			switch n := tries.Add(1); {
			case n <= 3:
				return nil, unavailable()
			case n == 4:
				return statuses(m, heddlev1.ReportStatus_REPORT_STATUS_RETRY, "")
			}
			return r.p.accept(m)
		}
	}, func(r *rig) {
		r.p.add(1, "test.greet", func(l *heddlev1.Lease) { l.Args = []byte(`"x"`) })
		start := time.Now()
		rep := r.reported(1)[0]
		if string(rep.GetResult()) != `"x"` || rep.GetRanUs() != 1e6 {
			t.Errorf("report: %v", rep)
		}
		if ago := time.Duration(rep.GetEndedUsAgo()) * time.Microsecond; ago != (time.Since(start)-time.Second).Truncate(time.Microsecond) || ago < 375*time.Millisecond {
			t.Errorf("ended %v ago after %v", ago, time.Since(start))
		}
		if len(r.p.reports) != 1 || tries.Load() != 5 {
			t.Errorf("%d reports in %d tries", len(r.p.reports), tries.Load())
		}
	})
}

func TestStaleReportsAreDropped(t *testing.T) {
	var calls atomic.Int32
	bubble(t, WorkerConfig{}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error { return nil })
		r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			calls.Add(1)
			return statuses(m, heddlev1.ReportStatus_REPORT_STATUS_STALE, "")
		}
	}, func(r *rig) {
		r.p.add(1, "test.noop")
		time.Sleep(time.Minute)
		if calls.Load() != 1 {
			t.Errorf("%d calls", calls.Load())
		}
		if b := r.beatAfter(r.beats()); len(b.GetHeld()) != 0 {
			t.Errorf("still held: %v", b.GetHeld())
		}
	})
}

func TestRefusedReportBecomesAFailure(t *testing.T) {
	for name, refuse := range map[string]func(m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error){
		"by status": func(m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			res, err := statuses(m, heddlev1.ReportStatus_REPORT_STATUS_INVALID, "result of 2 MiB: at most 1 MiB")
			for i, rep := range m.GetReports() {
				if string(rep.GetResult()) != `"big"` {
					res.Results[i] = &heddlev1.ReportResult{Status: heddlev1.ReportStatus_REPORT_STATUS_RETRY}
				}
			}
			return res, err
		},
		"by error": func(*heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			return nil, connect.NewError(connect.CodeResourceExhausted, errors.New("result of 2 MiB: at most 1 MiB"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, WorkerConfig{}, func(r *rig) {
				greet.Handle(r.w, func(_ context.Context, s string) (string, error) { return s, nil })
				r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
					for _, rep := range m.GetReports() {
						if string(rep.GetResult()) == `"big"` {
							return refuse(m)
						}
					}
					return r.p.accept(m)
				}
			}, func(r *rig) {
				for _, args := range []string{`"a"`, `"big"`, `"b"`} {
					r.p.add(1, "test.greet", func(l *heddlev1.Lease) { l.Args = []byte(args) })
				}
				failed := 0
				for _, rep := range r.reported(3) {
					if rep.GetEnding() == heddlev1.Ending_ENDING_FAILED {
						failed++
						if rep.GetError() != "result of 2 MiB: at most 1 MiB" || len(rep.GetResult()) != 0 {
							t.Errorf("report: %v", rep)
						}
					}
				}
				if failed != 1 {
					t.Errorf("%d failed", failed)
				}
			})
		})
	}
}

func TestReportRefusedTwiceIsGivenUp(t *testing.T) {
	var calls atomic.Int32
	bubble(t, WorkerConfig{}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error { return nil })
		r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			calls.Add(1)
			return statuses(m, heddlev1.ReportStatus_REPORT_STATUS_INVALID, "no")
		}
	}, func(r *rig) {
		r.p.add(1, "test.noop")
		time.Sleep(time.Minute)
		if calls.Load() != 2 {
			t.Errorf("%d calls", calls.Load())
		}
		if b := r.beatAfter(r.beats()); len(b.GetHeld()) != 0 {
			t.Errorf("still held: %v", b.GetHeld())
		}
	})
}

func TestNoMoreJobsWhileReportsPileUp(t *testing.T) {
	var open chan struct{}
	var ran atomic.Int32
	bubble(t, WorkerConfig{Slots: 100}, func(r *rig) {
		open = make(chan struct{})
		noop.Do(r.w, func(context.Context, None) error { ran.Add(1); return nil })
		r.p.onReport = func(_ context.Context, m *heddlev1.ReportRequest) (*heddlev1.ReportResponse, error) {
			<-open
			return r.p.accept(m)
		}
	}, func(r *rig) {
		r.p.add(2*backlogCount, "test.noop")
		time.Sleep(time.Second)
		if n := ran.Load(); n < backlogCount || n > backlogCount+200 {
			t.Errorf("%d ran before anything was acknowledged", n)
		}
		close(open)
		r.reported(2 * backlogCount)
	})
}

func TestWorkGoesOnAfterTheConnectionBroke(t *testing.T) {
	bubble(t, WorkerConfig{Slots: 4}, func(r *rig) {
		noop.Do(r.w, func(context.Context, None) error { time.Sleep(time.Second); return nil })
	}, func(r *rig) {
		r.p.add(4, "test.noop")
		synctest.Wait()
		r.nets[0].cut()
		r.reported(4)
		r.p.add(4, "test.noop")
		r.reported(8)
		if r.p.sessions != 1 {
			t.Errorf("%d sessions", r.p.sessions)
		}
	})
}
