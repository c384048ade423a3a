package heddle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

const (
	// Bounds of one Report call.
	reportCount = 2000
	reportBytes = 1 << 20
	// reportFlights is how many are under way at most; a second one starts only
	// with reportGather reports.
	reportFlights = 2
	reportGather  = 500
	// Above these, no more jobs are taken until the engine has acknowledged.
	backlogCount = 4000
	backlogBytes = 64 << 20
	// reportLimit is how long one call may take.
	reportLimit = 30 * time.Second
)

// reports are the ends of attempts that are not acknowledged. They are guarded by
// the worker's mutex.
type reports struct {
	pending []*job
	bytes   int // of all that is not acknowledged
	count   int // the same
	flights int
	wake    chan struct{}
	empty   []chan struct{}
	under   map[*flight]struct{} // calls under way
}

// flight is one call that carries reports.
type flight struct {
	epoch  uint64 // known when it was sent
	to     *endpoint
	cancel context.CancelFunc
}

func (r *reports) init() { r.wake, r.under = make(chan struct{}, 1), make(map[*flight]struct{}) }

func (r *reports) add(j *job) {
	r.pending = append(r.pending, j)
	r.bytes += j.size
	r.count++
	if r.flights == 0 || len(r.pending) >= reportGather {
		r.signal()
	}
}

func (r *reports) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// full: the engine is behind with acknowledging.
func (r *reports) full(slots int) bool {
	return r.count >= max(backlogCount, 4*slots) || r.bytes >= backlogBytes
}

// done takes acknowledged or dropped reports out.
func (r *reports) done(j *job) {
	r.bytes -= j.size
	r.count--
	if r.count == 0 {
		for _, c := range r.empty {
			close(c)
		}
		r.empty = nil
	}
}

// take gives the next group, all of one session; none: nothing waits, or too
// many calls are under way.
func (r *reports) take() []*job {
	if len(r.pending) == 0 || r.flights >= reportFlights || r.flights > 0 && len(r.pending) < reportGather {
		return nil
	}
	n, bytes := 0, 0
	for n < len(r.pending) && n < reportCount {
		j := r.pending[n]
		if n > 0 && (bytes+j.size > reportBytes || j.s != r.pending[0].s) {
			break
		}
		bytes += j.size
		n++
	}
	group := r.pending[:n:n]
	if r.pending = r.pending[n:]; len(r.pending) == 0 {
		r.pending = nil
	}
	r.flights++
	return group
}

// whenReported is closed once everything is acknowledged.
func (w *Worker) whenReported() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{})
	if w.reports.count == 0 {
		close(c)
	} else {
		w.reports.empty = append(w.reports.empty, c)
	}
	return c
}

// reportLoop starts the calls that carry reports and waits for them.
func (w *Worker) reportLoop(ctx context.Context) {
	flights := make(chan struct{}, reportFlights)
	under := 0
	for {
		w.mu.Lock()
		group := w.reports.take()
		w.mu.Unlock()
		if group != nil {
			under++
			go func() {
				w.deliver(ctx, group)
				flights <- struct{}{}
			}()
			continue
		}
		select {
		case <-w.reports.wake:
		case <-flights:
			under--
			w.mu.Lock()
			w.reports.flights--
			w.mu.Unlock()
		case <-ctx.Done():
			for ; under > 0; under-- {
				<-flights
			}
			return
		}
	}
}

// deliver sends a group until each of its reports has been answered for good.
func (w *Worker) deliver(ctx context.Context, group []*job) {
	tries, told := newAttempts(), false
	for len(group) > 0 {
		mended := w.whenMended()
		e := w.endpoint()
		rest, err := w.send(ctx, e, group)
		if err == nil && len(rest) == 0 {
			return
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if refused(err) {
				if len(group) > 1 {
					// One of them is too much for the engine: find out which.
					half := len(group) / 2
					w.deliver(ctx, group[:half])
					group = group[half:]
					continue
				}
				group = w.refuse(group[0], err)
				continue
			}
			w.failed(e, err)
			rest = group
		}
		group = rest
		d := tries.backoff.delay() // the engine answered, but knew nothing
		if err != nil {
			d = tries.pause(w.c.engines.number(), err)
			if d > 0 && !told { // once, not with every try
				told = true
				w.log.Warn("reports not delivered, trying again", "engine", e.addr, "reports", len(group), "error", err)
			}
		}
		if w.rest(ctx, d, mended) != nil {
			return
		}
	}
}

// refused: the engine will never take the request as it is.
func refused(err error) bool {
	if !connect.IsWireError(err) {
		return false
	}
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange:
		return true
	case connect.CodeResourceExhausted:
		return pause(err) == 0
	}
	return false
}

// refuse turns a report that the engine does not take into one of a failed
// attempt that says why; the second time the job is given up, and its lease
// falls back to the engine with the next heartbeat.
func (w *Worker) refuse(j *job, why error) []*job {
	w.mu.Lock()
	defer w.mu.Unlock()
	if j.faulty {
		w.log.Error("report refused", "workflow", j.WorkflowID(), "node", j.Lease.GetNode(), "error", why)
		delete(j.s.held, j.key)
		w.reports.done(j)
		return nil
	}
	j.faulty = true
	text := why.Error()
	var ce *connect.Error
	if errors.As(why, &ce) {
		text = ce.Message()
	}
	if j.report.GetError() != "" {
		text = fmt.Sprintf("%s (the report was refused: %s)", cut(j.report.GetError(), 1000), text)
	}
	ran := j.report.GetRanUs()
	j.report = &heddlev1.AttemptReport{
		WorkflowId: j.Lease.GetWorkflowId(), Node: j.Lease.GetNode(), Lease: j.Lease.GetLease(),
		Ending: heddlev1.Ending_ENDING_FAILED, Error: errorText(text), RanUs: ran,
	}
	return []*job{j}
}

func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return text[:n] + "..."
}

// send makes one call and gives the reports that must be sent again.
func (w *Worker) send(ctx context.Context, e *endpoint, group []*job) ([]*job, error) {
	s := group[0].s
	req := &heddlev1.ReportRequest{Session: s.id, Reports: make([]*heddlev1.AttemptReport, len(group))}
	now := time.Now()
	for i, j := range group {
		j.report.EndedUsAgo = now.Sub(j.ended).Microseconds()
		req.Reports[i] = j.report
	}
	rctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	f := &flight{to: e, cancel: cancel}
	w.mu.Lock()
	f.epoch = s.epoch
	w.reports.under[f] = struct{}{}
	w.mu.Unlock()
	res, err := e.workers.Report(rctx, connect.NewRequest(req))
	w.mu.Lock()
	delete(w.reports.under, f)
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	w.answered(e, res.Header())
	results := res.Msg.GetResults()
	if len(results) != len(group) {
		return nil, connect.NewError(connect.CodeInternal, fmt.Errorf("%d answers to %d reports", len(results), len(group)))
	}
	var (
		rest   []*job
		faulty []int
	)
	w.mu.Lock()
	for i, j := range group {
		switch results[i].GetStatus() {
		case heddlev1.ReportStatus_REPORT_STATUS_DONE, heddlev1.ReportStatus_REPORT_STATUS_STALE:
			delete(j.s.held, j.key)
			w.reports.done(j)
		case heddlev1.ReportStatus_REPORT_STATUS_INVALID:
			faulty = append(faulty, i)
		default:
			rest = append(rest, j)
		}
	}
	s.observe(res.Msg.GetEpoch(), e)
	w.wakePolls()
	w.mu.Unlock()
	for _, i := range faulty {
		rest = append(rest, w.refuse(group[i], errors.New(results[i].GetMessage()))...)
	}
	return rest, nil
}
