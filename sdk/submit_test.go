package heddle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

func unavailable() error { return connect.NewError(connect.CodeUnavailable, errors.New("not now")) }

func TestConcurrentSubmitsTravelTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		first := make(chan struct{})
		var calls atomic.Int32
		p.onSubmit = func(ctx context.Context, m *heddlev1.SubmitRequest) (*heddlev1.SubmitResponse, error) {
			if calls.Add(1) == 1 {
				<-first
			}
			return p.persist(m)
		}
		c, _, done := serve(t, ClientConfig{}, p)
		defer done()
		var wg sync.WaitGroup
		submit := func() {
			wg.Go(func() {
				if _, err := c.Submit(t.Context(), noop.Job(None{})); err != nil {
					t.Error(err)
				}
			})
		}
		submit()
		synctest.Wait()
		for range 50 {
			submit()
		}
		synctest.Wait() // all wait behind the first
		close(first)
		wg.Wait()
		if len(p.submits) != 2 || len(p.submits[1].GetSubmissions()) != 50 {
			t.Errorf("%d calls", len(p.submits))
		}
	})
}

func TestSubmitGroupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		c, _, done := serve(t, ClientConfig{}, p)
		defer done()
		works := make([]Work, 2*groupCount+1)
		for i := range works {
			works[i] = noop.Job(None{})
		}
		big := greet.Job(strings.Repeat("x", 700<<10))
		works = append(works, big, big)
		runs, err := c.SubmitAll(t.Context(), works...)
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, m := range p.submits {
			if n := len(m.GetSubmissions()); n > groupCount {
				t.Errorf("%d in one call", n)
			} else {
				total += n
			}
		}
		if total != len(works) || len(p.submits) < 4 {
			t.Errorf("%d submissions in %d calls", total, len(p.submits))
		}
		for i, r := range runs {
			if r == nil || !p.known[r.ID()] {
				t.Fatalf("run %d: %v", i, r)
			}
		}
	})
}

func TestLostAnswerIsRepeatedWithTheSameID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		var calls atomic.Int32
		p.onSubmit = func(ctx context.Context, m *heddlev1.SubmitRequest) (*heddlev1.SubmitResponse, error) {
			res, err := p.persist(m)
			if calls.Add(1) < 3 {
				return nil, unavailable()
			}
			return res, err
		}
		c, _, done := serve(t, ClientConfig{}, p)
		defer done()
		start := time.Now()
		run, err := c.Submit(t.Context(), noop.Job(None{}))
		if err != nil {
			t.Fatal(err)
		}
		if len(p.submits) != 3 {
			t.Fatalf("%d calls", len(p.submits))
		}
		for i, m := range p.submits {
			s := m.GetSubmissions()[0]
			if s.GetId() != run.ID() || s.GetRepeat() != (i > 0) {
				t.Errorf("call %d: id %s repeat %v", i, s.GetId(), s.GetRepeat())
			}
		}
		// Two delays of 50 and 100 ms, each cut to between a half and the whole.
		if d := time.Since(start); d < 75*time.Millisecond || d > 150*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}

func TestAnswersAreErrorsToBranchOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		answers := map[string]error{"already_exists": ErrAlreadyExists, "invalid_argument": ErrInvalid, "failed_precondition": ErrRefused}
		var code string
		p.onSubmit = func(_ context.Context, m *heddlev1.SubmitRequest) (*heddlev1.SubmitResponse, error) {
			res := &heddlev1.SubmitResponse{}
			for _, s := range m.GetSubmissions() {
				r := &heddlev1.SubmitResult{Id: s.GetId(), Created: true}
				if s.GetJob().GetKind() == "test.greet" {
					r = &heddlev1.SubmitResult{Id: s.GetId(), Code: code, Message: "because"}
				}
				res.Results = append(res.Results, r)
			}
			return res, nil
		}
		c, _, done := serve(t, ClientConfig{}, p)
		defer done()
		for code_, want := range answers {
			code = code_
			runs, err := c.SubmitAll(t.Context(), noop.Job(None{}), greet.Job("x"))
			if !errors.Is(err, want) || !strings.Contains(err.Error(), "work 1: submit: ") || !strings.Contains(err.Error(), "because") {
				t.Errorf("%s: %v", code_, err)
			}
			if runs[0] == nil || runs[1] != nil {
				t.Errorf("%s: runs %v", code_, runs)
			}
		}
	})
}

func TestOneBadSubmissionDoesNotSpoilTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		p.onSubmit = func(_ context.Context, m *heddlev1.SubmitRequest) (*heddlev1.SubmitResponse, error) {
			for _, s := range m.GetSubmissions() {
				if s.GetJob().GetKind() == "test.greet" {
					return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("bad"))
				}
			}
			return p.persist(m)
		}
		c, _, done := serve(t, ClientConfig{}, p)
		defer done()
		runs, err := c.SubmitAll(t.Context(), noop.Job(None{}), greet.Job("x"), noop.Job(None{}))
		if !errors.Is(err, ErrInvalid) || runs[0] == nil || runs[1] != nil || runs[2] == nil {
			t.Errorf("%v, %v", runs, err)
		}
	})
}

func TestNoEngineIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, nets, done := serve(t, ClientConfig{RetryFor: 10 * time.Second}, newPeer(), newPeer())
		defer done()
		for _, n := range nets {
			_ = n.Close()
		}
		start := time.Now()
		_, err := c.Submit(t.Context(), noop.Job(None{}))
		if d := time.Since(start); !errors.Is(err, ErrUnavailable) || d < 10*time.Second || d > 16*time.Second {
			t.Errorf("after %v: %v", d, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Submit(ctx, noop.Job(None{})); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline: %v", err)
		}
		time.Sleep(20 * time.Second) // the flight of the second Submit ends
	})
}

func TestTheNextEngineAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPeer(), newPeer()
		c, nets, done := serve(t, ClientConfig{}, a, b)
		defer done()
		_ = nets[0].Close()
		for range 3 {
			if _, err := c.Submit(t.Context(), noop.Job(None{})); err != nil {
				t.Fatal(err)
			}
		}
		if len(a.submits) != 0 || len(b.submits) != 3 {
			t.Errorf("%d and %d calls", len(a.submits), len(b.submits))
		}
	})
}

func TestSubmitGivenUpBeforeItWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		release := make(chan struct{})
		p.onSubmit = func(_ context.Context, m *heddlev1.SubmitRequest) (*heddlev1.SubmitResponse, error) {
			<-release
			return p.persist(m)
		}
		c, _, done := serve(t, ClientConfig{}, p)
		defer done()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Submit(t.Context(), noop.Job(None{})) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Submit(ctx, greet.Job("never")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		close(release)
		wg.Wait()
		synctest.Wait()
		if len(p.submits) != 1 || len(p.submits[0].GetSubmissions()) != 1 {
			t.Errorf("sent: %v", p.submits)
		}
	})
}

func TestLargeWorkflowIsStreamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		c, _, done := serve(t, ClientConfig{}, p)
		defer done()
		const n = 20_000
		read := 0
		wf := NewWorkflow("big", WorkflowOptions{Headers: map[string]string{"a": "b"}})
		b := wf.Batch("b")
		b.AddAll(func(yield func(Job) bool) {
			read++
			for i := range n {
				if !yield(greet.Job(fmt.Sprint(i))) {
					return
				}
			}
		})
		wf.Add(noop.Job(None{}, JobOptions{Name: "end"})).After(b)
		run, err := c.Submit(t.Context(), wf)
		if err != nil {
			t.Fatal(err)
		}
		if read != 1 || len(p.streams) != 1 {
			t.Fatalf("read %d times, %d streams", read, len(p.streams))
		}
		parts := p.streams[0]
		if h := parts[0].GetHeader(); h.GetId() != run.ID() || h.GetName() != "big" || h.GetHeaders()["a"] != "b" {
			t.Errorf("header: %v", h)
		}
		nodes, edges := 0, []*heddlev1.Edge(nil)
		for _, part := range parts[1:] {
			g := part.GetChunk()
			if len(edges) > 0 && len(g.GetNodes()) > 0 {
				t.Error("nodes after edges")
			}
			nodes += len(g.GetNodes())
			edges = append(edges, g.GetEdges()...)
			if len(g.GetNodes())+len(g.GetEdges()) > chunkNodes {
				t.Errorf("chunk of %d", len(g.GetNodes()))
			}
		}
		if nodes != n+2 || len(edges) != 1 || edges[0].GetParent() != 1 || edges[0].GetChild() != n+2 {
			t.Errorf("%d nodes, edges %v", nodes, edges)
		}
	})
}

func TestStreamIsRepeatedFromItsSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		c, nets, done := serve(t, ClientConfig{}, p)
		defer done()
		read := 0
		wf := NewWorkflow("big")
		wf.AddAll(func(yield func(Job) bool) {
			read++
			for i := range 20_000 {
				if read == 1 && i == 15_000 {
					nets[0].cut()
				}
				if !yield(noop.Job(None{})) {
					return
				}
			}
		})
		run, err := c.Submit(t.Context(), wf)
		if err != nil {
			t.Fatal(err)
		}
		h := p.streams[0][0].GetHeader()
		if read != 2 || h.GetId() != run.ID() || !h.GetRepeat() {
			t.Errorf("read %d times; header %v", read, h)
		}
	})
}

func TestMistakeInAStreamLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		c, _, done := serve(t, ClientConfig{}, p)
		defer done()
		wf := NewWorkflow("big")
		wf.AddAll(jobs(20_000, noop))
		wf.AddAll(func(yield func(Job) bool) { yield(Job{}) })
		if _, err := c.Submit(t.Context(), wf); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "job 1 of a sequence") {
			t.Errorf("%v", err)
		}
		synctest.Wait()
		if len(p.streams) != 0 {
			t.Error("the stream was accepted")
		}
	})
}

func TestMiddlewareAndPropagatorsOfTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		var order []string
		wrap := func(name string) func(SubmitFunc) SubmitFunc {
			return func(next SubmitFunc) SubmitFunc {
				return func(ctx context.Context, w Work) (*Run, error) {
					order = append(order, name)
					return next(ctx, w)
				}
			}
		}
		c, _, done := serve(t, ClientConfig{Propagators: []Propagator{tenant{}}, Middleware: []func(SubmitFunc) SubmitFunc{wrap("outer"), wrap("inner")}, Token: "secret"}, p)
		defer done()
		ctx := context.WithValue(t.Context(), tenantKey{}, "acme")
		if _, err := c.Submit(ctx, NewWorkflow("x", WorkflowOptions{Headers: map[string]string{"a": "b"}})); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(order, []string{"outer", "inner"}) {
			t.Errorf("order: %v", order)
		}
		if h := p.submits[0].GetSubmissions()[0].GetHeaders(); h["tenant"] != "acme" || h["a"] != "b" {
			t.Errorf("headers: %v", h)
		}
	})
}

func TestBackoffDoublesWithinBounds(t *testing.T) {
	b := newBackoff()
	want := 50 * time.Millisecond
	for range 12 {
		if d := b.delay(); d < want/2 || d > want {
			t.Errorf("delay %v, want %v to %v", d, want/2, want)
		}
		want = min(2*want, 5*time.Second)
	}
	b.reset()
	if d := b.delay(); d > 50*time.Millisecond {
		t.Errorf("after reset: %v", d)
	}
}

func TestBadClientConfig(t *testing.T) {
	for _, addrs := range [][]string{nil, {"localhost:80"}, {"http://"}, {"ftp://x"}, {"http://ok:1", "://"}} {
		if _, err := NewClient(ClientConfig{Addrs: addrs}); err == nil {
			t.Errorf("%v was taken", addrs)
		}
	}
}
