package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/engine/api/wire"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/engine/store"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// fakeFacts is a store whose answers are scripted: flush is called with the
// number of the call, from 0.
type fakeFacts struct {
	mu     sync.Mutex
	groups [][]model.Finish
	flush  func(call int, group []model.Finish) ([]model.Flushed, model.Effects, error)
	rows   map[fsm.JobID]*dispatch.Row
	reads  int
}

func (s *fakeFacts) Flush(_ context.Context, _ model.Reign, group []model.Finish) ([]model.Flushed, model.Effects, error) {
	s.mu.Lock()
	call := len(s.groups)
	s.groups = append(s.groups, group)
	s.mu.Unlock()
	if s.flush == nil {
		return make([]model.Flushed, len(group)), model.Effects{}, nil
	}
	return s.flush(call, group)
}

func (s *fakeFacts) Leases(_ context.Context, leases []fsm.Lease) ([]store.LeaseFact, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	facts := make([]store.LeaseFact, len(leases))
	for i, l := range leases {
		facts[i] = store.LeaseFact{Lease: l, Held: s.rows[l.Job] != nil, Row: s.rows[l.Job]}
	}
	return facts, nil
}

func (s *fakeFacts) calls() [][]model.Finish {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.groups
}

// fakeKeeper admits every lease with an id below 1000.
type fakeKeeper struct {
	mu     sync.Mutex
	marks  int
	open   int
	done   []raftsched.Done
	fenced []uint64
}

func (k *fakeKeeper) Admit(_ uint64, named []raftsched.HeldLease) ([]raftsched.Admission, []fsm.Lease) {
	admissions, leases := make([]raftsched.Admission, len(named)), make([]fsm.Lease, len(named))
	for i, n := range named {
		switch {
		case n.ID == staleLease:
			admissions[i] = raftsched.Stale
		case n.ID > 1000:
			admissions[i] = raftsched.Unknown
		default:
			admissions[i], leases[i] = raftsched.Admitted, fsm.Lease{Job: n.Job, ID: n.ID, Turn: int32(n.ID)}
		}
	}
	return admissions, leases
}

func (k *fakeKeeper) Begin() raftsched.Mark {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.marks++
	k.open++
	return raftsched.Mark(k.marks)
}

func (k *fakeKeeper) End(raftsched.Mark) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open--
}

func (k *fakeKeeper) Done(d raftsched.Done) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open--
	k.done = append(k.done, d)
}

func (k *fakeKeeper) Tell([]fsm.JobID)             {}
func (k *fakeKeeper) Hint([]dispatch.LanePriority) {}

func (k *fakeKeeper) Fenced(epoch uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fenced = append(k.fenced, epoch)
}

// ended counts the leases that were told to be over.
func (k *fakeKeeper) ended() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, d := range k.done {
		n += len(d.Ended)
	}
	return n
}

const staleLease = 999

func jobID(n int) fsm.JobID {
	return fsm.JobID{Workflow: fsm.WorkflowID{0: byte(n >> 8), 15: byte(n)}, Node: 1}
}

// testCompleter runs one flusher over fakes that know the rows of jobs 0 to 99.
func testCompleter(t *testing.T, flush func(int, []model.Finish) ([]model.Flushed, model.Effects, error)) (*completer, *fakeFacts, *fakeKeeper) {
	t.Helper()
	facts := &fakeFacts{flush: flush, rows: make(map[fsm.JobID]*dispatch.Row)}
	for n := range 100 {
		facts.rows[jobID(n)] = &dispatch.Row{Job: jobID(n), MaxAttempts: 10, Batch: -1}
	}
	keeper := &fakeKeeper{}
	c := newTestCompleter(facts, keeper)
	c.start(1)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		c.stop(ctx)
		keeper.mu.Lock()
		defer keeper.mu.Unlock()
		if keeper.open != 0 {
			t.Errorf("%d marks were never ended", keeper.open)
		}
	})
	return c, facts, keeper
}

func newTestCompleter(facts factStore, keeper leaseKeeper) *completer {
	return &completer{
		log: slog.New(slog.DiscardHandler), store: facts, sched: keeper,
		reign: func() (model.Reign, bool) { return model.Reign{Epoch: 7}, true },
		now:   func() int64 { return 0 }, worker: func(uint64) string { return "w" },
		limits: wire.DefaultLimits(), held: newHeldJobs(), wait: 10 * time.Second, onEffect: func(*model.Effects) {},
	}
}

func report(n int, lease uint64, ending heddlev1.Ending) *heddlev1.AttemptReport {
	id := jobID(n)
	return &heddlev1.AttemptReport{WorkflowId: id.Workflow[:], Node: id.Node, Lease: lease, Ending: ending}
}

func statuses(results []api.ReportResult) string {
	text := ""
	for _, r := range results {
		text += map[heddlev1.ReportStatus]string{
			heddlev1.ReportStatus_REPORT_STATUS_DONE: "D", heddlev1.ReportStatus_REPORT_STATUS_STALE: "S",
			heddlev1.ReportStatus_REPORT_STATUS_RETRY: "R", heddlev1.ReportStatus_REPORT_STATUS_INVALID: "I",
		}[r.Status]
	}
	return text
}

func TestReportsAreAnsweredOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, facts, keeper := testCompleter(t, func(_ int, group []model.Finish) ([]model.Flushed, model.Effects, error) {
			flushed := make([]model.Flushed, len(group))
			for i, f := range group {
				flushed[i].Stale = f.Job == jobID(2)
				if f.Job == jobID(3) {
					flushed[i].Err = fmt.Errorf("%w: graph", model.ErrRefused)
				}
			}
			return flushed, model.Effects{}, nil
		})
		got := c.Report(t.Context(), 1, []*heddlev1.AttemptReport{
			report(1, 1, succeeded), report(2, 2, succeeded), report(3, 3, succeeded), report(4, staleLease, succeeded), report(5, 5000, succeeded),
		})
		if s := statuses(got); s != "DSISR" {
			t.Errorf("answers %s, want DSISR", s)
		}
		if len(facts.calls()) != 1 || len(facts.calls()[0]) != 3 {
			t.Errorf("%d flushes, want one of the three admitted", len(facts.calls()))
		}
		// The refused report's lease stands, the stale one's is over.
		if n := keeper.ended(); n != 2 {
			t.Errorf("%d leases ended, want 2", n)
		}
	})
}

// Two reports of one job in a row must not meet in one transaction.
func TestReportSentTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		c, facts, _ := testCompleter(t, func(call int, group []model.Finish) ([]model.Flushed, model.Effects, error) {
			if call == 0 {
				<-gate
			}
			return make([]model.Flushed, len(group)), model.Effects{}, nil
		})
		answers := make(chan string, 2)
		go func() {
			answers <- statuses(c.Report(t.Context(), 1, []*heddlev1.AttemptReport{report(0, 1, succeeded)}))
		}()
		synctest.Wait()
		go func() {
			answers <- statuses(c.Report(t.Context(), 1, []*heddlev1.AttemptReport{report(1, 1, succeeded), report(1, 1, succeeded), report(2, 1, succeeded)}))
		}()
		synctest.Wait()
		close(gate)
		if a, b := <-answers, <-answers; a+b != "DDDD" {
			t.Errorf("answers %s and %s, want all done", a, b)
		}
		groups := facts.calls()
		if len(groups) != 3 || len(groups[1]) != 2 || len(groups[2]) != 1 {
			t.Fatalf("groups %v, want 1, 2 and the repeat alone", groups)
		}
	})
}

// A COMMIT in doubt is repeated as the very same flush until one answers.
func TestDoubtIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, facts, keeper := testCompleter(t, func(call int, group []model.Finish) ([]model.Flushed, model.Effects, error) {
			if call < 3 {
				return nil, model.Effects{}, fmt.Errorf("flush: %w: connection lost", model.ErrDoubt)
			}
			return make([]model.Flushed, len(group)), model.Effects{}, nil
		})
		if s := statuses(c.Report(t.Context(), 1, []*heddlev1.AttemptReport{report(1, 1, failed)})); s != "D" {
			t.Errorf("answer %s, want D", s)
		}
		groups := facts.calls()
		if len(groups) != 4 {
			t.Fatalf("%d flushes, want 4", len(groups))
		}
		for i, g := range groups {
			if g[0].Delay != groups[0][0].Delay || g[0].Ending != model.EndRetry {
				t.Errorf("flush %d is another one: %+v, first %+v", i, g[0], groups[0][0])
			}
		}
		if keeper.ended() != 1 {
			t.Error("the lease was not ended once")
		}
	})
}

// A report whose wait is over is to be sent again, also while in doubt; what
// was written is found by the repeat.
func TestReportIsAnsweredInBoundedTime(t *testing.T) {
	for name, err := range map[string]error{"doubt": model.ErrDoubt, "down": io.ErrUnexpectedEOF} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, facts, keeper := testCompleter(t, func(int, []model.Finish) ([]model.Flushed, model.Effects, error) {
					return nil, model.Effects{}, err
				})
				begin := time.Now()
				if s := statuses(c.Report(t.Context(), 1, []*heddlev1.AttemptReport{report(1, 1, succeeded)})); s != "R" {
					t.Errorf("answer %s, want R", s)
				}
				if d := time.Since(begin); d != c.wait {
					t.Errorf("answered after %s, want %s", d, c.wait)
				}
				if n := len(facts.calls()); n > 12 {
					t.Errorf("%d tries in %s are a storm", n, c.wait)
				}
				if keeper.ended() != 0 {
					t.Error("a lease was ended without its fact")
				}
			})
		})
	}
}

// When the database is back, reports that still wait are written.
func TestFlushGoesOnAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Bool
		c, _, keeper := testCompleter(t, func(_ int, group []model.Finish) ([]model.Flushed, model.Effects, error) {
			if !back.Load() {
				return nil, model.Effects{}, &pgconn.PgError{Code: "57P03"}
			}
			return make([]model.Flushed, len(group)), model.Effects{}, nil
		})
		answer := make(chan string)
		go func() {
			answer <- statuses(c.Report(t.Context(), 1, []*heddlev1.AttemptReport{report(1, 1, succeeded)}))
		}()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		back.Store(true)
		if s := <-answer; s != "D" {
			t.Errorf("answer %s, want D", s)
		}
		if keeper.ended() != 1 {
			t.Error("the lease was not ended")
		}
	})
}

func TestFencedFlushEndsTheReign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, keeper := testCompleter(t, func(int, []model.Finish) ([]model.Flushed, model.Effects, error) {
			return nil, model.Effects{}, fmt.Errorf("flush: %w", store.ErrFenced)
		})
		if s := statuses(c.Report(t.Context(), 1, []*heddlev1.AttemptReport{report(1, 1, succeeded), report(2, 1, succeeded)})); s != "RR" {
			t.Errorf("answers %s, want RR", s)
		}
		keeper.mu.Lock()
		defer keeper.mu.Unlock()
		if len(keeper.fenced) != 1 || keeper.fenced[0] != 7 {
			t.Errorf("fenced epochs %v, want 7", keeper.fenced)
		}
	})
}

// One item that no transaction takes does not hold up the others.
func TestPoisonIsIsolated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		poison := jobID(13)
		c, facts, keeper := testCompleter(t, func(_ int, group []model.Finish) ([]model.Flushed, model.Effects, error) {
			for _, f := range group {
				if f.Job == poison && f.Ending == model.EndSucceeded {
					return nil, model.Effects{}, &pgconn.PgError{Code: "22021", Message: "invalid byte sequence"}
				}
			}
			return make([]model.Flushed, len(group)), model.Effects{}, nil
		})
		var reports []*heddlev1.AttemptReport
		for n := range 64 {
			reports = append(reports, report(n, 1, succeeded))
		}
		got := c.Report(t.Context(), 1, reports)
		for n, r := range got {
			want := heddlev1.ReportStatus_REPORT_STATUS_DONE
			if n == 13 {
				want = heddlev1.ReportStatus_REPORT_STATUS_INVALID
			}
			if r.Status != want {
				t.Errorf("report %d: %s, want %s", n, r.Status, want)
			}
		}
		if n := len(facts.calls()); n > 13 {
			t.Errorf("%d transactions to find one of 64", n)
		}
		if n := keeper.ended(); n != 63 {
			t.Errorf("%d leases ended, want 63", n)
		}
	})
}

// What the scheduler finds is written without anyone waiting, and a lost job
// that cannot be written with its text ends all the same.
func TestSinkWritesLostJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, facts, keeper := testCompleter(t, func(_ int, group []model.Finish) ([]model.Flushed, model.Effects, error) {
			for _, f := range group {
				if f.Job == jobID(2) && f.Ending == model.EndRetry {
					return nil, model.Effects{}, errors.New("no such policy")
				}
			}
			return make([]model.Flushed, len(group)), model.Effects{}, nil
		})
		c.End([]raftsched.End{
			{Lease: fsm.Lease{Job: jobID(1), ID: 4, Turn: 3}, Reason: raftsched.EndLost, Worker: "w1"},
			{Lease: fsm.Lease{Job: jobID(2), ID: 4, Turn: 3}, Reason: raftsched.EndTimeout},
		})
		synctest.Wait()
		if n := keeper.ended(); n != 2 {
			t.Errorf("%d leases ended, want 2", n)
		}
		var last model.Finish
		for _, g := range facts.calls() {
			for _, f := range g {
				if f.Job == jobID(1) && (f.How != howLost || f.Worker != "w1" || f.Turn != 3) {
					t.Errorf("lost job written as %+v", f)
				}
				if f.Job == jobID(2) {
					last = f
				}
			}
		}
		if last.Ending != model.EndFailed {
			t.Errorf("the unwritable end was last tried as %d, want failed", last.Ending)
		}
	})
}

// Rows that this node granted itself are not read again.
func TestReportOfAGrantedJobReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, facts, _ := testCompleter(t, nil)
		c.held.granted([]raftsched.Grant{{
			Lease: fsm.Lease{Job: jobID(1), ID: 4}, Row: dispatch.Row{Job: jobID(1), Attempt: 4, MaxAttempts: 5},
		}}, time.Now())
		c.Report(t.Context(), 1, []*heddlev1.AttemptReport{report(1, 4, failed)})
		c.Report(t.Context(), 1, []*heddlev1.AttemptReport{report(2, 5, failed)})
		if facts.reads != 1 {
			t.Errorf("%d reads, want one: of the job another start granted", facts.reads)
		}
		groups := facts.calls()
		if groups[0][0].Ending != model.EndFailed || groups[1][0].Ending != model.EndRetry {
			t.Errorf("endings %d and %d, want failed and retry", groups[0][0].Ending, groups[1][0].Ending)
		}
		if len(c.held.jobs) != 0 {
			t.Errorf("%d rows are kept after their end", len(c.held.jobs))
		}
	})
}

// A stop writes what has come in.
func TestStopWritesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		c, _, keeper := testCompleter(t, func(call int, group []model.Finish) ([]model.Flushed, model.Effects, error) {
			if call == 0 {
				<-gate
			}
			return make([]model.Flushed, len(group)), model.Effects{}, nil
		})
		answers := make(chan string, 2)
		for n := range 2 {
			go func() {
				answers <- statuses(c.Report(t.Context(), 1, []*heddlev1.AttemptReport{report(n, 1, succeeded)}))
			}()
			synctest.Wait()
		}
		stopped := make(chan struct{})
		go func() { c.stop(t.Context()); close(stopped) }()
		synctest.Wait()
		close(gate)
		<-stopped
		if a, b := <-answers, <-answers; a+b != "DD" {
			t.Errorf("answers %s and %s, want D and D", a, b)
		}
		if keeper.ended() != 2 {
			t.Errorf("%d leases ended, want 2", keeper.ended())
		}
	})
}

// BenchmarkReports measures the completer without its database.
func BenchmarkReports(b *testing.B) {
	facts := &fakeFacts{flush: func(_ int, group []model.Finish) ([]model.Flushed, model.Effects, error) {
		return make([]model.Flushed, len(group)), model.Effects{}, nil
	}}
	c := newTestCompleter(discardFacts{facts}, &fakeKeeper{})
	c.start(2)
	defer c.stop(context.Background())
	const size = 500
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		reports := make([]*heddlev1.AttemptReport, size)
		grants := make([]raftsched.Grant, size)
		for i := range reports {
			reports[i] = report(i, 1, succeeded)
			grants[i] = raftsched.Grant{Lease: fsm.Lease{Job: jobID(i), ID: 1}, Row: dispatch.Row{Job: jobID(i), MaxAttempts: 1}}
		}
		for pb.Next() {
			c.held.granted(grants, time.Now())
			if s := c.Report(context.Background(), 1, reports); s[0].Status != heddlev1.ReportStatus_REPORT_STATUS_DONE {
				b.Error(s[0])
			}
		}
	})
	b.ReportMetric(float64(b.N)*size/b.Elapsed().Seconds(), "reports/s")
}

// discardFacts does not keep the groups.
type discardFacts struct{ *fakeFacts }

func (s discardFacts) Flush(ctx context.Context, reign model.Reign, group []model.Finish) ([]model.Flushed, model.Effects, error) {
	return s.flush(0, group)
}

// What a flush in doubt started is not told by the one that finds it done:
// cascades are looked for.
func TestDoubtLooksForCascades(t *testing.T) {
	c, _, _ := testCompleter(t, func(call int, group []model.Finish) ([]model.Flushed, model.Effects, error) {
		if call == 0 {
			return nil, model.Effects{}, model.ErrDoubt
		}
		return make([]model.Flushed, len(group)), model.Effects{}, nil
	})
	told := make(chan bool, 1)
	c.onEffect = func(eff *model.Effects) { told <- eff.Cascades }
	results := c.Report(t.Context(), 1, []*heddlev1.AttemptReport{report(1, 1, heddlev1.Ending_ENDING_SUCCEEDED)})
	if results[0].Status != heddlev1.ReportStatus_REPORT_STATUS_DONE {
		t.Fatalf("answered %v", results[0])
	}
	if !<-told {
		t.Error("a cascade that the first try may have started waits for the next look")
	}
}

// A damaged row is found by halves and tried no more: a report of it is
// answered, the expired job is counted, the lost one's end is given up.
func TestDamagedRowsEndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		damaged := jobID(2)
		c, facts, keeper := testCompleter(t, func(_ int, group []model.Finish) ([]model.Flushed, model.Effects, error) {
			for _, f := range group {
				if f.Job == damaged {
					return nil, model.Effects{}, &pgconn.PgError{Code: "XX001", Message: "invalid page"}
				}
			}
			return make([]model.Flushed, len(group)), model.Effects{}, nil
		})
		got := c.Report(t.Context(), 1, []*heddlev1.AttemptReport{report(1, 1, succeeded), report(2, 1, succeeded), report(3, 1, succeeded)})
		if s := statuses(got); s != "DID" {
			t.Errorf("answers %s, want DID", s)
		}
		refused, err := c.expire(t.Context(), []model.Finish{{Job: jobID(4), Batch: -1}, {Job: damaged, Batch: -1}})
		if refused != 1 || err != nil {
			t.Errorf("%d expired jobs are refused, %v; want one", refused, err)
		}
		before := len(facts.calls())
		c.End([]raftsched.End{
			{Lease: fsm.Lease{Job: jobID(5), ID: 4}, Reason: raftsched.EndLost}, {Lease: fsm.Lease{Job: damaged, ID: 4}, Reason: raftsched.EndLost},
		})
		time.Sleep(time.Minute)
		if n := len(facts.calls()) - before; n > 4 {
			t.Errorf("%d flushes for one lost job that can be written and one that cannot", n)
		}
		if n := keeper.ended(); n != 3 { // jobs 1, 3 and 5
			t.Errorf("%d leases ended, want 3", n)
		}
	})
}
