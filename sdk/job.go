package heddle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/sdk/internal/attempt"
)

// maxError is how much of an error's text is reported.
const maxError = 32 << 10

// job is a lease the worker holds: a handler that runs, or a report that is not
// acknowledged. It is also the root of its handler's context, which spares an
// allocation per job: it carries the attempt and the values of Run's context.
type job struct {
	attempt.Attempt
	s     *session
	key   leaseKey
	start time.Time

	ctx    context.Context
	cancel context.CancelCauseFunc
	stop   context.CancelFunc // of the timeout; nil: none
	pulse  *pulse             // of the heartbeat timeout; nil: none

	// guarded by the worker's mutex
	running bool // its handler has not returned and is not given up

	// set when the job is handed to the reports
	report *heddlev1.AttemptReport
	ended  time.Time
	size   int
	faulty bool // the engine refused the first report
}

var _ context.Context = (*job)(nil)

// Deadline: the root of the context has none.
func (j *job) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done: the root of the context never ends.
func (j *job) Done() <-chan struct{} { return nil }

// Err is nil.
func (j *job) Err() error { return nil }

// Value gives the attempt, else what the context of Run carries.
func (j *job) Value(key any) any {
	if key == attempt.Key {
		return &j.Attempt
	}
	return j.s.w.base.Value(key)
}

// newJob makes the job of a lease (w.mu is held).
func newJob(s *session, l *heddlev1.Lease, now time.Time) *job {
	j := &job{s: s, key: keyOf(l.GetWorkflowId(), l.GetNode(), l.GetLease()), start: now, running: true}
	j.Attempt = attempt.Attempt{Lease: l, Session: s.id, Backend: j, Log: s.w.log}
	j.ctx, j.cancel = context.WithCancelCause(j)
	if limit := attempt.Limit(l); limit > 0 {
		j.ctx, j.stop = context.WithTimeoutCause(j.ctx, limit, ErrTimeout)
	}
	if d := l.GetOptions().GetHeartbeatTimeout().AsDuration(); d > 0 {
		j.pulse = newPulse(d, j.cancel)
		j.Progress = j.pulse.progress
	}
	return j
}

// run runs the handler.
func (j *job) run() {
	w := j.s.w
	h := w.handlers[j.Lease.GetKind()]
	if h == nil {
		j.done(nil, fmt.Errorf("no handler for kind %q on worker %q", j.Lease.GetKind(), w.cfg.Name))
		return
	}
	if len(w.c.cfg.Propagators) > 0 {
		next := h
		h = func(ctx context.Context, args []byte) ([]byte, error) {
			return next(w.c.extract(ctx, j.Lease.GetOptions().GetHeaders()), args)
		}
	}
	attempt.Run(j.ctx, h, j.Lease.GetArgs(), j.done)
}

// done takes in what the handler returned.
func (j *job) done(result []byte, err error) {
	end := attempt.Classify(err, context.Cause(j.ctx))
	var then *heddlev1.Graph
	if end.Ending == heddlev1.Ending_ENDING_SUCCEEDED && j.Then != nil {
		if then, err = j.Then(); err != nil {
			end, result = attempt.Classify(err, nil), nil
		}
	}
	if j.pulse != nil {
		j.pulse.stop()
	}
	if j.stop != nil {
		j.stop()
	}
	j.cancel(nil)
	var r *heddlev1.AttemptReport
	if !end.Drop {
		r = &heddlev1.AttemptReport{
			WorkflowId: j.Lease.GetWorkflowId(), Node: j.Lease.GetNode(), Lease: j.Lease.GetLease(),
			Ending: end.Ending, Result: result, Error: errorText(end.Error), Then: then,
		}
		if end.After > 0 {
			r.After = durationpb.New(end.After)
		}
	}
	j.s.w.finish(j, r)
}

// finish frees the slot of a handler that returned and hands its report on; nil:
// nobody wants one.
func (w *Worker) finish(j *job, r *heddlev1.AttemptReport) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !j.running {
		return // given up at the stop: its job was returned
	}
	w.release(j)
	if r == nil {
		delete(j.s.held, j.key)
	} else {
		w.put(j, r)
	}
	w.wakePolls()
}

// wakePolls makes the present session look for free slots (w.mu is held).
func (w *Worker) wakePolls() {
	if s := w.session; s != nil && len(s.polls) < pollsAtOnce {
		s.signal()
	}
}

// release frees the slot of a job (w.mu is held).
func (w *Worker) release(j *job) {
	j.running = false
	w.running--
	if w.running == 0 {
		for _, c := range w.idle {
			close(c)
		}
		w.idle = nil
	}
}

// put queues a report (w.mu is held).
func (w *Worker) put(j *job, r *heddlev1.AttemptReport) {
	j.report = r
	j.ended = time.Now()
	r.RanUs = j.ended.Sub(j.start).Microseconds()
	j.size = 96 + len(r.Result) + len(r.Error)
	if r.Then != nil {
		j.size += proto.Size(r.Then)
	}
	w.reports.add(j)
}

// whenIdle is closed once no handler runs.
func (w *Worker) whenIdle() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{})
	if w.running == 0 {
		close(c)
	} else {
		w.idle = append(w.idle, c)
	}
	return c
}

// Results reads results in the scope of the job.
func (j *job) Results(ctx context.Context, path string, each func(*heddlev1.ResultsResponse) error) error {
	return j.s.w.c.results(ctx, &heddlev1.ResultsRequest{WorkflowId: j.WorkflowID(), FromNode: j.Lease.GetNode(), Path: path}, each)
}

// Append adds nodes to the job's batch under its lease.
func (j *job) Append(ctx context.Context, key string, graph *heddlev1.Graph) error {
	return j.s.w.c.appendGraph(ctx, &heddlev1.AppendRequest{WorkflowId: j.WorkflowID(), Graph: graph, Key: key, Lease: j.Ref()})
}

// errorText makes a text that the wire and the database take.
func errorText(text string) string {
	if len(text) > maxError {
		text = text[:maxError] + "\n(cut)"
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	if strings.IndexByte(text, 0) >= 0 {
		text = strings.ReplaceAll(text, "\x00", "\uFFFD")
	}
	return text
}

// pulse ends a handler that is silent for too long.
type pulse struct {
	limit time.Duration
	timer *time.Timer

	mu   sync.Mutex
	last string
}

func newPulse(limit time.Duration, cancel context.CancelCauseFunc) *pulse {
	p := &pulse{limit: limit}
	p.timer = time.AfterFunc(limit, func() {
		p.mu.Lock()
		last := p.last
		p.mu.Unlock()
		if last == "" {
			last = "none was ever reported"
		}
		cancel(fmt.Errorf("%w: no progress for %v; last progress: %s", ErrTimeout, limit, last))
	})
	return p
}

func (p *pulse) progress(done, total int64, note string) {
	text := fmt.Sprintf("%d of %d", done, total)
	if total <= 0 {
		text = fmt.Sprint(done)
	}
	if note != "" {
		text += " " + note
	}
	p.mu.Lock()
	p.last = text
	p.mu.Unlock()
	p.timer.Reset(p.limit)
}

func (p *pulse) stop() { p.timer.Stop() }

var errGivenUp = errors.New("the handler did not return when the worker stopped")
