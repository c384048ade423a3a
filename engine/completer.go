package engine

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/engine/api/wire"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/engine/store"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

const (
	// flushLimit is the most ends of attempts that one transaction takes.
	flushLimit = 2000
	// pendingLimit bounds the reports that wait in one lane; what comes beyond
	// is asked to come again.
	pendingLimit = 100_000
)

// factStore is what the completer needs of Postgres.
type factStore interface {
	Flush(ctx context.Context, reign model.Reign, finishes []model.Finish) ([]model.Flushed, model.Effects, error)
	Leases(ctx context.Context, leases []fsm.Lease) ([]store.LeaseFact, error)
}

// leaseKeeper is what the completer needs of the scheduler.
type leaseKeeper interface {
	Admit(session uint64, leases []raftsched.HeldLease) ([]raftsched.Admission, []fsm.Lease)
	Begin() raftsched.Mark
	End(raftsched.Mark)
	Done(raftsched.Done)
	Tell(jobs []fsm.JobID)
	Hint(lanes []dispatch.LanePriority)
	Fenced(epoch uint64)
}

// completer makes the ends of attempts durable. Reports are divided by their
// workflow among a few flushers, so that two flushers never meet on a row. Each
// flusher writes one group at a time; what comes meanwhile is its next group.
//
// It starts one goroutine per flusher and one for the ends the scheduler finds
// itself; stop waits for them.
type completer struct {
	log      *slog.Logger
	store    factStore
	sched    leaseKeeper
	reign    func() (model.Reign, bool)
	now      func() int64 // the database's clock, microseconds
	worker   func(session uint64) string
	limits   wire.Limits
	held     *heldJobs
	wait     time.Duration // how long a report waits for its answer
	onEffect func(*model.Effects)
	tally    *tally

	seed     maphash.Seed
	flushers []*flusher
	finished atomic.Int64 // attempts ended, for the vacuum

	found struct { // ends that the scheduler found
		sync.Mutex
		ends []raftsched.End
		wake chan struct{}
	}
	ctx    context.Context // ends when the completer is to give up
	cancel context.CancelFunc
	closed chan struct{} // no more reports are taken
	once   sync.Once
	wg     sync.WaitGroup
}

// item is one end of an attempt on its way.
type item struct {
	finish model.Finish
	lease  fsm.Lease // ID 0: not leased (expired)
	end    attemptEnd
	job    heldJob
	raw    bool // finish is decided already (expiry)
	call   *reportCall
	index  int
}

// reportCall collects the answers to the reports of one call.
type reportCall struct {
	mu      sync.Mutex
	left    int
	results []api.ReportResult
	over    bool // the caller has gone; the answers are nobody's
	done    chan struct{}
}

// answer gives the answer to one report. Nobody may be waiting for it any more.
func (c *reportCall) answer(i int, r api.ReportResult) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.results[i].Status != heddlev1.ReportStatus_REPORT_STATUS_UNSPECIFIED {
		return
	}
	c.results[i] = r
	if c.left--; c.left == 0 {
		close(c.done)
	}
}

// take ends the call: what has no answer yet is to be sent again.
func (c *reportCall) take(why string) []api.ReportResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for i := range c.results {
		if c.results[i].Status == heddlev1.ReportStatus_REPORT_STATUS_UNSPECIFIED {
			c.results[i] = again(why)
		}
	}
	return c.results
}

func (c *reportCall) abandoned() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

func again(why string) api.ReportResult {
	return api.ReportResult{Status: heddlev1.ReportStatus_REPORT_STATUS_RETRY, Message: why}
}

func invalid(why string) api.ReportResult {
	return api.ReportResult{Status: heddlev1.ReportStatus_REPORT_STATUS_INVALID, Message: why}
}

var (
	reportDone  = api.ReportResult{Status: heddlev1.ReportStatus_REPORT_STATUS_DONE}
	reportStale = api.ReportResult{Status: heddlev1.ReportStatus_REPORT_STATUS_STALE, Message: "the lease is gone"}
)

func (c *completer) start(flushers int) {
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.closed = make(chan struct{})
	c.seed = maphash.MakeSeed()
	if c.tally == nil {
		c.tally = &tally{}
	}
	c.found.wake = make(chan struct{}, 1)
	for range flushers {
		f := &flusher{c: c, wake: make(chan struct{}, 1)}
		c.flushers = append(c.flushers, f)
		c.wg.Go(f.run)
	}
	c.wg.Go(c.runFound)
}

// stop takes no more reports, writes what waits, and returns when all is
// written or ctx has ended.
func (c *completer) stop(ctx context.Context) {
	c.once.Do(func() { close(c.closed) })
	drained := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-ctx.Done():
	}
	c.cancel()
	<-drained
}

// Report implements api.Completer.
func (c *completer) Report(ctx context.Context, session uint64, reports []*heddlev1.AttemptReport) []api.ReportResult {
	call := &reportCall{left: len(reports), results: make([]api.ReportResult, len(reports)), done: make(chan struct{})}
	if len(reports) == 0 {
		return call.results
	}
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	if err := c.enqueue(ctx, session, reports, call); err != nil {
		return call.take(err.Error())
	}
	select {
	case <-call.done:
		return call.results
	case <-ctx.Done():
		return call.take("not yet durable")
	case <-c.ctx.Done():
		return call.take("the engine stops")
	}
}

// enqueue checks the leases of reports and hands the admitted ones to their
// flushers; the others are answered.
func (c *completer) enqueue(ctx context.Context, session uint64, reports []*heddlev1.AttemptReport, call *reportCall) error {
	named := make([]raftsched.HeldLease, len(reports))
	for i, r := range reports {
		named[i] = raftsched.HeldLease{Job: fsm.JobID{Workflow: fsm.WorkflowID(r.GetWorkflowId()), Node: r.GetNode()}, ID: r.GetLease()}
	}
	admissions, leases := c.sched.Admit(session, named)
	items := make([]item, 0, len(reports))
	admitted := make([]fsm.Lease, 0, len(reports))
	worker := c.worker(session)
	for i, r := range reports {
		switch admissions[i] {
		case raftsched.Stale:
			call.answer(i, reportStale)
			continue
		case raftsched.Admitted:
		default:
			call.answer(i, again("this node does not lead"))
			continue
		}
		end := attemptEnd{
			ending: r.GetEnding(), result: r.GetResult(), err: r.GetError(),
			ran: time.Duration(r.GetRanUs()) * time.Microsecond, ago: time.Duration(r.GetEndedUsAgo()) * time.Microsecond,
		}
		if r.GetAfter() != nil {
			after := r.GetAfter().AsDuration()
			end.after = &after
		}
		if r.GetThen() != nil && end.ending == heddlev1.Ending_ENDING_SUCCEEDED {
			chunk, err := c.limits.Then(r.GetThen())
			if err != nil {
				call.answer(i, invalid(err.Error()))
				continue
			}
			end.then = chunk
		}
		items = append(items, item{
			finish: model.Finish{Job: leases[i].Job, Turn: leases[i].Turn, Worker: worker},
			lease:  leases[i], end: end, call: call, index: i,
		})
		admitted = append(admitted, leases[i])
	}
	if len(items) == 0 {
		return nil
	}
	if err := c.know(ctx, items, admitted); err != nil {
		return err
	}
	c.push(items)
	return nil
}

// know fills in what is known of the items' jobs.
func (c *completer) know(ctx context.Context, items []item, leases []fsm.Lease) error {
	jobs, err := c.rows(ctx, leases)
	if err != nil {
		return errors.New("the database cannot be read")
	}
	for i := range items {
		items[i].job = jobs[i]
	}
	return nil
}

// rows gives what is known of leased jobs; rows that this node did not grant
// itself are read. A job whose row is gone has the zero lease and batch -1.
func (c *completer) rows(ctx context.Context, leases []fsm.Lease) ([]heldJob, error) {
	jobs := make([]heldJob, len(leases))
	missing := c.held.find(leases, jobs)
	if len(missing) == 0 {
		return jobs, nil
	}
	ask := make([]fsm.Lease, len(missing))
	for k, i := range missing {
		ask[k] = leases[i]
	}
	facts, err := c.store.Leases(ctx, ask)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for k, i := range missing {
		if row := facts[k].Row; facts[k].Held && row != nil {
			jobs[i] = heldFromRow(leases[i].ID, row, now)
			c.held.put(leases[i].Job, jobs[i])
			continue
		}
		// The flush will find out whether this very end is written already.
		jobs[i].batch = -1
	}
	return jobs, nil
}

// push hands items to their flushers.
func (c *completer) push(items []item) {
	if len(c.flushers) == 1 {
		c.flushers[0].push(items)
		return
	}
	parts := make([][]item, len(c.flushers))
	for i := range items {
		k := c.lane(items[i].lease.Job.Workflow)
		parts[k] = append(parts[k], items[i])
	}
	for k, part := range parts {
		if len(part) > 0 {
			c.flushers[k].push(part)
		}
	}
}

func (c *completer) lane(id fsm.WorkflowID) int {
	return int(maphash.Bytes(c.seed, id[:]) % uint64(len(c.flushers)))
}

// End implements raftsched.Sink.
func (c *completer) End(ends []raftsched.End) {
	c.found.Lock()
	c.found.ends = append(c.found.ends, ends...)
	c.found.Unlock()
	select {
	case c.found.wake <- struct{}{}:
	default:
	}
}

// runFound turns the ends that the scheduler found into items. Their rows may
// have to be read, which End must not wait for.
func (c *completer) runFound() {
	pause := newBackoff(100*time.Millisecond, 5*time.Second)
	for {
		select {
		case <-c.closed:
			return
		case <-c.found.wake:
		}
		c.found.Lock()
		ends := c.found.ends
		c.found.ends = nil
		c.found.Unlock()
		for len(ends) > 0 {
			n := min(len(ends), flushLimit)
			if err := c.takeFound(ends[:n]); err != nil {
				if !pause.sleep(c.closed) {
					return
				}
				continue
			}
			pause.reset()
			ends = ends[n:]
		}
	}
}

func (c *completer) takeFound(ends []raftsched.End) error {
	items := make([]item, len(ends))
	leases := make([]fsm.Lease, len(ends))
	for i, e := range ends {
		leases[i] = e.Lease
		items[i] = item{
			finish: model.Finish{Job: e.Lease.Job, Turn: e.Lease.Turn, Worker: e.Worker},
			lease:  e.Lease, end: lostEnd(e),
		}
	}
	if err := c.know(c.ctx, items, leases); err != nil {
		return err
	}
	c.push(items)
	return nil
}

// expire writes ends of jobs that nobody runs. It returns when they are
// written, or ctx has ended, and tells how many no transaction takes.
func (c *completer) expire(ctx context.Context, finishes []model.Finish) (refused int, err error) {
	call := &reportCall{left: len(finishes), results: make([]api.ReportResult, len(finishes)), done: make(chan struct{})}
	items := make([]item, len(finishes))
	for i, f := range finishes {
		items[i] = item{finish: f, lease: fsm.Lease{Job: f.Job, Turn: f.Turn}, raw: true, call: call, index: i}
	}
	c.push(items)
	select {
	case <-call.done:
	case <-ctx.Done():
		call.take("over")
		return 0, ctx.Err()
	case <-c.ctx.Done():
		return 0, c.ctx.Err()
	}
	why := ""
	for i := range call.results {
		if r := &call.results[i]; r.Status == heddlev1.ReportStatus_REPORT_STATUS_INVALID {
			refused, why = refused+1, r.Message
		}
	}
	if refused > 0 {
		c.log.Error("ends of expired jobs cannot be written", "jobs", refused, "error", why)
	}
	return refused, nil
}
