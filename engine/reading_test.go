package engine

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-io/heddle/engine/api"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// newReading reads how often it was read before; a read takes took.
func newReading(took time.Duration) *reading[int] {
	n := 0
	return &reading[int]{pace: time.Second, work: func(f func(context.Context)) { go f(context.Background()) }, read: func(context.Context) (int, error) {
		time.Sleep(took)
		n++
		return n, nil
	}}
}

func TestReadingIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReading(10 * time.Millisecond)
		var wg sync.WaitGroup
		begin := time.Now()
		for range 50 {
			wg.Go(func() {
				for range 100 {
					if v, began, err := r.get(t.Context(), time.Now()); err != nil || v == 0 || time.Since(began) > 2*time.Second {
						t.Errorf("got %d of %v, %v", v, began, err)
					}
				}
			})
		}
		wg.Wait()
		// Each waits for a read that begins after it asked: one a second, for all.
		if passed := time.Since(begin); r.reads > 101 || passed < 99*time.Second || passed > 102*time.Second {
			t.Errorf("%d reads in %v", r.reads, passed)
		}
		reads := r.reads
		time.Sleep(time.Hour)
		if r.reads != reads {
			t.Errorf("%d reads while nobody asked", r.reads-reads)
		}
	})
}

func TestReadingOfAnAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReading(0)
		first, _ := r.recent(t.Context())
		time.Sleep(500 * time.Millisecond)
		if v, _ := r.recent(t.Context()); v != first {
			t.Errorf("got %d half a second later", v)
		}
		if v, _, _ := r.get(t.Context(), time.Now().Add(-time.Minute)); v != first {
			t.Errorf("got %d, though any was good enough", v)
		}
		time.Sleep(time.Second)
		if v, _ := r.recent(t.Context()); v != first+1 {
			t.Errorf("got %d a second and a half later", v)
		}
		time.Sleep(time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, _, err := r.get(ctx, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for the pace: %v", err)
		}
	})
}

// A reading that takes long is read less often: its share of the time is bounded.
func TestReadingThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReading(200 * time.Millisecond)
		begin := time.Now()
		for time.Since(begin) < time.Minute {
			if _, err := r.recent(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if r.reads < 14 || r.reads > 16 {
			t.Errorf("%d reads of 200 ms in a minute", r.reads)
		}
	})
}

// fakePage is a database and a node to look at.
type fakePage struct {
	mu        sync.Mutex
	totals    int // reads
	workflows int
	nodes     int32
	counts    []*heddlev1.Counts // of the cards
	hub       *watchHub
	leads     bool
	rates     int32
}

func (f *fakePage) Totals(context.Context) (*heddlev1.Totals, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.totals++
	return &heddlev1.Totals{Failed: &heddlev1.Count{N: 10_000, More: true}, Cancelled: &heddlev1.Count{N: 1}}, nil
}

func (f *fakePage) LastDay(context.Context) (*heddlev1.Minute, error) {
	return &heddlev1.Minute{Succeeded: 5, Failed: 12_000, Cancelled: 9}, nil
}

func (f *fakePage) LastMinutes(_ context.Context, n int) ([]*heddlev1.Minute, error) {
	return make([]*heddlev1.Minute, n), nil
}

func (f *fakePage) Failures(context.Context, *heddlev1.StatsServiceFailuresRequest) (*heddlev1.StatsServiceFailuresResponse, error) {
	return &heddlev1.StatsServiceFailuresResponse{Groups: []*heddlev1.FailureGroup{{Kind: "k"}}}, nil
}

func (f *fakePage) Queues(context.Context) ([]*heddlev1.Queue, error) {
	return []*heddlev1.Queue{{Name: "idle"}}, nil
}

func (f *fakePage) Workflows(context.Context, *heddlev1.ListRequest) (*heddlev1.ListResponse, error) {
	return &heddlev1.ListResponse{}, nil
}

func (f *fakePage) WorkflowGraph(_ context.Context, id fsm.WorkflowID, _ int) (*heddlev1.Workflow, *heddlev1.GraphResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.workflows++
	g := &heddlev1.GraphResponse{}
	for i, c := range f.counts {
		g.Cards = append(g.Cards, &heddlev1.Card{Group: int32(i), Counts: proto.CloneOf(c)})
	}
	return &heddlev1.Workflow{Id: id.String(), Nodes: f.nodes}, g, nil
}

func (f *fakePage) Health() *heddlev1.Health { return &heddlev1.Health{Node: "n"} }
func (f *fakePage) Workers() int             { return 2 }
func (f *fakePage) Running() map[string]int  { return nil }
func (f *fakePage) Leads() bool              { return f.leads }
func (f *fakePage) Now() time.Time           { return time.Now() }

func (f *fakePage) Rates() []*heddlev1.Rate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []*heddlev1.Rate{{Second: 1, Succeeded: f.rates}}
}

func (f *fakePage) Subscribe(id fsm.WorkflowID) api.Subscription { return f.hub.Subscribe(id) }

// touch changes a card, and tells.
func (f *fakePage) touch(card int) {
	f.mu.Lock()
	f.counts[card].Succeeded++
	f.mu.Unlock()
	f.hub.tell([]fsm.WorkflowID{{}}, nil)
}

func (f *fakePage) read() (totals, workflows int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.totals, f.workflows
}

func newFakePage(t *testing.T) (*fakePage, *liveHub) {
	f := &fakePage{nodes: 3, leads: true, hub: newWatchHub(nil, nil, nil), counts: []*heddlev1.Counts{{Total: 1}, {Total: 2}, {Total: 3}}}
	return f, newLiveHub(t.Context(), f, f)
}

// sights collects what one watcher gets.
type sights struct {
	mu  sync.Mutex
	all []*heddlev1.Sight
}

func (s *sights) send(m *heddlev1.Sight) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, m)
	return nil
}

func (s *sights) take() []*heddlev1.Sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.all = nil }()
	return s.all
}

const nobodys = "00000000-0000-0000-0000-000000000000"

// However many watch, each thing is read once; changes come at most four times a
// second, and only what has changed; nothing is read when nobody looks.
func TestWatchersShareReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := newFakePage(t)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		watchers := make([]*sights, 40)
		for i := range watchers {
			watchers[i] = &sights{}
			wg.Go(func() {
				_ = h.Watch(ctx, &heddlev1.View{WorkflowId: nobodys, MaxCards: 400}, watchers[i].send)
			})
		}
		time.Sleep(100 * time.Millisecond)
		for i, w := range watchers {
			if got := w.take(); len(got) != 1 || len(got[0].GetWorkflow().GetCards()) != 3 || got[0].GetWorkflow().GetGraphVersion() != 3 ||
				got[0].GetTotals().GetWorkers() != 2 || got[0].GetTotals().GetFailed().GetN() != 12_000 || got[0].GetTotals().GetCancelled().GetN() != 1 {
				t.Fatalf("watcher %d got %v at once", i, got)
			}
		}
		totals, workflows := f.read()
		for range 500 {
			f.touch(1)
			time.Sleep(20 * time.Millisecond)
		}
		synctest.Wait()
		moreTotals, moreWorkflows := f.read()
		if moreTotals-totals > 12 || moreWorkflows-workflows > 42 || moreWorkflows-workflows < 38 {
			t.Errorf("in 10 s of changes %d reads of the totals, %d of the workflow", moreTotals-totals, moreWorkflows-workflows)
		}
		for i, w := range watchers {
			got := w.take()
			if len(got) < 30 || len(got) > 42 {
				t.Errorf("watcher %d got %d sights in 10 s", i, len(got))
			}
			for _, s := range got {
				if cards := s.GetWorkflow().GetCards(); len(cards) != 1 || cards[0].GetGroup() != 1 {
					t.Errorf("watcher %d got %v", i, s.GetWorkflow())
				}
			}
		}
		time.Sleep(25 * time.Second) // without news
		for i, w := range watchers {
			if got := w.take(); len(got) < 2 || len(got) > 4 {
				t.Errorf("watcher %d got %d sights in 25 s without news", i, len(got))
			}
		}
		cancel()
		wg.Wait()
		totals, workflows = f.read()
		time.Sleep(time.Hour)
		if a, b := f.read(); a != totals || b != workflows {
			t.Error("something was read while nobody looked")
		}
		h.wait()
	})
}

// Who comes back with a cursor gets what changed since; with one that this hub does
// not know, everything.
func TestLookBehindACursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := newFakePage(t)
		look := func(since uint64) *heddlev1.Sight {
			t.Helper()
			s, err := h.Look(t.Context(), &heddlev1.View{WorkflowId: nobodys, MaxCards: 400, Since: since})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			return s
		}
		first := look(0)
		f.touch(2)
		second := look(first.GetCursor())
		if cards := second.GetWorkflow().GetCards(); len(cards) != 1 || cards[0].GetGroup() != 2 || cards[0].GetCounts().GetSucceeded() != 1 {
			t.Errorf("behind the first: %v", cards)
		}
		if s := look(second.GetCursor()); len(s.GetWorkflow().GetCards()) != 0 || s.GetCursor() != second.GetCursor() {
			t.Errorf("without a change: %v", s.GetWorkflow())
		}
		f.touch(0)
		if cards := look(first.GetCursor()).GetWorkflow().GetCards(); len(cards) != 2 {
			t.Errorf("behind the first, after two changes: %v", cards)
		}
		if cards := look(12345).GetWorkflow().GetCards(); len(cards) != 3 {
			t.Errorf("behind a cursor of somebody else's: %v", cards)
		}
		f.mu.Lock()
		f.nodes, f.counts = 4, append(f.counts, &heddlev1.Counts{Total: 1})
		f.mu.Unlock()
		if s := look(second.GetCursor()); len(s.GetWorkflow().GetCards()) != 4 || s.GetWorkflow().GetGraphVersion() != 4 {
			t.Errorf("of a graph that has grown: %v", s.GetWorkflow())
		}
		// Forgotten after a minute: a cursor means nothing any more.
		last := look(0)
		time.Sleep(2 * time.Minute)
		if s := look(last.GetCursor()); len(s.GetWorkflow().GetCards()) != 4 {
			t.Errorf("after two minutes: %v", s.GetWorkflow())
		}
	})
}

// Without leadership nobody tells of changes: they are looked for every second.
func TestWatchOnAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := newFakePage(t)
		f.leads = false
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := &sights{}
		go func() { _ = h.Watch(ctx, &heddlev1.View{WorkflowId: nobodys, MaxCards: 400, Overview: true}, got.send) }()
		time.Sleep(100 * time.Millisecond)
		if s := got.take(); len(s) != 1 || len(s[0].GetOverview().GetMinutes()) != overviewMinutes || len(s[0].GetOverview().GetFailures()) != 1 || len(s[0].GetOverview().GetOpen()) != 1 {
			t.Fatalf("got %v at once", s)
		}
		f.mu.Lock()
		f.counts[0].Failed++
		f.mu.Unlock()
		time.Sleep(2 * time.Second)
		if s := got.take(); len(s) != 1 || len(s[0].GetWorkflow().GetCards()) != 1 {
			t.Errorf("two seconds after a change: %v", s)
		}
		f.mu.Lock()
		f.rates++
		f.mu.Unlock()
		time.Sleep(2 * time.Second)
		if s := got.take(); len(s) != 1 || len(s[0].GetWorkflow().GetCards()) != 0 || s[0].GetOverview().GetRates()[0].GetSucceeded() != 1 {
			t.Errorf("two seconds after another rate: %v", s)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		all := got.take()
		if n := len(all[len(all)-1].GetOverview().GetOpen()); n != 11 {
			t.Errorf("%d samples in ten minutes", n)
		}
		cancel()
		synctest.Wait()
	})
}
