package heddle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// Bounds of one Submit call that carries several submissions.
const (
	groupCount = 1000
	groupBytes = 1 << 20
	// groupFlights is how many such calls are under way at most. A second one
	// starts only when a whole group is waiting.
	groupFlights = 4
)

// Submit persists a work: the workflow exists entirely when it returns nil, and
// not at all if it never was. Mistakes of the builder are returned, joined, before
// anything is sent; [ErrInvalid] finds them, and [*CycleError] is among them.
//
// Submits of several goroutines travel together. When a call is repeated after a
// lost answer nothing is submitted twice. When Submit fails with [ErrUnavailable]
// or because ctx ended, the workflow may exist nevertheless: to repeat it safely,
// give it an id (WorkflowOptions.ID).
func (c *Client) Submit(ctx context.Context, w Work) (*Run, error) {
	return c.submit(ctx, w)
}

// SubmitAll submits several works in as few calls as possible, each entirely or
// not at all. The runs are in the order of the works; where one was refused it is
// nil and the error, joined, says why.
func (c *Client) SubmitAll(ctx context.Context, works ...Work) ([]*Run, error) {
	runs := make([]*Run, len(works))
	errs := make([]error, len(works))
	if len(c.cfg.Middleware) > 0 {
		// Middleware sees works one by one; together they still travel.
		var wg sync.WaitGroup
		limit := make(chan struct{}, groupCount)
		for i, w := range works {
			limit <- struct{}{}
			wg.Go(func() {
				runs[i], errs[i] = c.submit(ctx, w)
				<-limit
			})
		}
		wg.Wait()
		return runs, joinNumbered(errs)
	}
	pending := make([]*submission, len(works))
	for i, w := range works {
		pending[i], errs[i] = c.prepare(ctx, w)
	}
	c.submitter.put(pending...)
	for i, s := range pending {
		if s != nil {
			errs[i] = c.submitter.wait(ctx, s)
		}
		if errs[i] == nil {
			runs[i] = c.Run(s.id)
		}
	}
	return runs, joinNumbered(errs)
}

func joinNumbered(errs []error) error {
	var all []error
	for i, err := range errs {
		if err != nil {
			all = append(all, fmt.Errorf("work %d: %w", i, err))
		}
	}
	return errors.Join(all...)
}

// submitOne is Submit without middleware.
func (c *Client) submitOne(ctx context.Context, w Work) (*Run, error) {
	s, err := c.prepare(ctx, w)
	if err != nil {
		return nil, err
	}
	c.submitter.put(s)
	if err := c.submitter.wait(ctx, s); err != nil {
		return nil, err
	}
	return c.Run(s.id), nil
}

// submission waits to travel with others, or has travelled alone in a stream.
type submission struct {
	id   string
	msg  *heddlev1.Submission
	size int
	// taken by a flight, or back by its caller; guarded by the submitter.
	taken bool
	sent  bool // at least once; the flight's
	done  chan struct{}
	err   error // of the engine's answer; valid once done is closed
}

// prepare encodes a work. What does not fit in one message is streamed at once.
func (c *Client) prepare(ctx context.Context, w Work) (*submission, error) {
	msg, err := newSubmission(ctx, c, w)
	if err != nil {
		return nil, err
	}
	s := &submission{id: msg.GetId(), msg: msg, done: make(chan struct{})}
	if wf, ok := w.(*Workflow); ok {
		var streaming *submitStream
		defer func() { // also when the sequence panics
			if streaming != nil {
				streaming.cancel()
			}
		}()
		err := wf.Group.encode(func(chunk *heddlev1.Graph, last bool) error {
			if streaming == nil && last {
				msg.Work = &heddlev1.Submission_Graph{Graph: chunk}
				return nil
			}
			if streaming == nil {
				streaming = openStream(ctx, c.engines.current.Load(), msg, false)
			}
			return streaming.send(chunk, last)
		})
		if streaming != nil {
			if err = streaming.finish(err); err == nil {
				s.taken = true
				close(s.done)
				return s, nil
			}
			if again(err, repeatable) && ctx.Err() == nil && c.cfg.RetryFor > 0 {
				if err = c.restream(ctx, wf, msg); err == nil {
					s.taken = true
					close(s.done)
					return s, nil
				}
				return nil, err
			}
			return nil, fromStream(err)
		}
		if err != nil {
			return nil, err
		}
	}
	s.size = proto.Size(msg)
	return s, nil
}

// fromStream leaves mistakes found while streaming as they are.
func fromStream(err error) error {
	if errors.Is(err, ErrInvalid) {
		return err
	}
	return fromConnect("submit", err)
}

// restream sends a workflow again after the first stream broke: it may have been
// persisted, so the engine is told that this is a repeat.
func (c *Client) restream(ctx context.Context, wf *Workflow, header *heddlev1.Submission) error {
	var mistake error
	_, err := call(ctx, c, "submit", repeatable, func(ctx context.Context, e *endpoint, _ int) (struct{}, error) {
		streaming := openStream(ctx, e, header, true)
		defer streaming.cancel()
		err := wf.Group.encode(streaming.send)
		if errors.Is(err, ErrInvalid) {
			mistake = err
		}
		return struct{}{}, streaming.finish(err)
	})
	if mistake != nil {
		return mistake
	}
	return err
}

// submitStream is one streamed submission.
type submitStream struct {
	stream *connect.ClientStreamForClient[heddlev1.SubmitStreamRequest, heddlev1.SubmitStreamResponse]
	cancel context.CancelFunc
	id     string
	broken bool
}

func openStream(ctx context.Context, e *endpoint, header *heddlev1.Submission, repeat bool) *submitStream {
	ctx, cancel := context.WithCancel(ctx)
	s := &submitStream{stream: e.workflows.SubmitStream(ctx), cancel: cancel, id: header.GetId()}
	h := &heddlev1.Submission{Id: header.GetId(), Name: header.GetName(), Root: header.GetRoot(), Headers: header.GetHeaders(), Repeat: repeat}
	s.broken = s.stream.Send(&heddlev1.SubmitStreamRequest{Part: &heddlev1.SubmitStreamRequest_Header{Header: h}}) != nil
	return s
}

// errBroken stops the encoding: the engine has answered already, finish says what.
var errBroken = errors.New("stream broken")

func (s *submitStream) send(chunk *heddlev1.Graph, last bool) error {
	if s.broken {
		return errBroken
	}
	err := s.stream.Send(&heddlev1.SubmitStreamRequest{Part: &heddlev1.SubmitStreamRequest_Chunk{Chunk: chunk}, Last: last})
	switch {
	case errors.Is(err, io.EOF):
		s.broken = true
		return errBroken
	case err != nil:
		return err
	}
	return nil
}

// finish ends the stream and gives the engine's answer. A mistake found while
// encoding breaks it off, so that the engine keeps nothing.
func (s *submitStream) finish(err error) error {
	defer s.cancel()
	if err != nil && !errors.Is(err, errBroken) {
		// Not CloseAndReceive: it ends the request properly, and the engine would
		// keep what it has of the workflow.
		s.cancel()
		if conn, cerr := s.stream.Conn(); cerr == nil {
			_ = conn.CloseResponse()
		}
		return err
	}
	res, err := s.stream.CloseAndReceive()
	if err != nil {
		return err
	}
	if got := res.Msg.GetId(); got != s.id {
		return connect.NewError(connect.CodeInternal, fmt.Errorf("answered for workflow %q instead of %q", got, s.id))
	}
	return nil
}

// submitter sends the submissions of concurrent callers together: what arrives
// while a call is under way goes with the next one.
type submitter struct {
	c *Client

	mu      sync.Mutex
	queue   []*submission
	bytes   int
	flights int
}

// put queues submissions and makes sure that someone sends them. Nil ones, and
// those that travelled in a stream, are passed over.
func (q *submitter) put(subs ...*submission) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range subs {
		if s == nil || s.taken {
			continue
		}
		q.queue = append(q.queue, s)
		q.bytes += s.size
	}
	for len(q.queue) > 0 && (q.flights == 0 || q.full() && q.flights < groupFlights) {
		q.flights++
		go q.fly()
		if !q.full() {
			break
		}
	}
}

func (q *submitter) full() bool { return len(q.queue) >= groupCount || q.bytes >= groupBytes }

// wait waits for the answer. Who gives up takes the submission back if nobody
// has sent it yet.
func (q *submitter) wait(ctx context.Context, s *submission) error {
	select {
	case <-s.done:
		return s.err
	default:
	}
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
	}
	q.mu.Lock()
	if !s.taken {
		s.taken = true // passed over when its turn comes
	}
	q.mu.Unlock()
	return fmt.Errorf("submit: %w", ctx.Err())
}

// fly sends group after group until nothing waits.
func (q *submitter) fly() {
	for {
		q.board()
		group := q.take()
		if len(group) == 0 {
			return
		}
		q.send(group)
	}
}

// board lets callers that are about to submit get onto this flight: those whom
// the one before has just answered would else find it gone, and every other
// call would carry next to nothing.
func (q *submitter) board() {
	for before := -1; ; {
		q.mu.Lock()
		n := len(q.queue)
		full := q.full()
		q.mu.Unlock()
		if n <= before || full {
			return
		}
		before = n
		runtime.Gosched()
	}
}

// take gives the next group; with none left the flight is over.
func (q *submitter) take() []*submission {
	q.mu.Lock()
	defer q.mu.Unlock()
	var (
		group []*submission
		bytes int
		n     int
	)
	for n < len(q.queue) && len(group) < groupCount {
		s := q.queue[n]
		if len(group) > 0 && bytes+s.size > groupBytes {
			break
		}
		n++
		q.bytes -= s.size
		if s.taken {
			continue
		}
		s.taken = true
		group = append(group, s)
		bytes += s.size
	}
	clear(q.queue[:n])
	q.queue = q.queue[n:]
	if len(q.queue) == 0 {
		q.queue = nil
	}
	if len(group) == 0 {
		q.flights--
	}
	return group
}

// send submits a group and answers its callers. It is not bound to the context
// of any of them, but to the time for which calls are repeated.
func (q *submitter) send(group []*submission) {
	left := group
	_, err := call(context.Background(), q.c, "submit", repeatable, func(ctx context.Context, e *endpoint, _ int) (struct{}, error) {
		req := &heddlev1.SubmitRequest{Submissions: make([]*heddlev1.Submission, len(left))}
		for i, s := range left {
			s.msg.Repeat = s.sent
			s.sent = true
			req.Submissions[i] = s.msg
		}
		res, err := e.workflows.Submit(ctx, connect.NewRequest(req))
		if err != nil {
			return struct{}{}, err
		}
		results := res.Msg.GetResults()
		if len(results) != len(left) {
			return struct{}{}, connect.NewError(connect.CodeInternal, fmt.Errorf("%d answers to %d submissions", len(results), len(left)))
		}
		var later []*submission
		for i, s := range left {
			if results[i].GetCode() == connect.CodeUnavailable.String() {
				later = append(later, s)
				continue
			}
			s.answer(results[i])
		}
		if left = later; len(left) > 0 {
			return struct{}{}, connect.NewError(connect.CodeUnavailable, errors.New("some submissions were not taken"))
		}
		return struct{}{}, nil
	})
	if err == nil {
		return
	}
	// One that no engine can take must not spoil the others' answer.
	if len(left) > 1 && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrDenied) {
		for i := range left {
			q.send(left[i : i+1])
		}
		return
	}
	for _, s := range left {
		s.err = err
		close(s.done)
	}
}

func (s *submission) answer(r *heddlev1.SubmitResult) {
	if code := r.GetCode(); code != "" {
		s.err = fromCode("submit", code, r.GetMessage())
	}
	s.msg = nil
	close(s.done)
}
