package engine

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/engine/api/wire"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// The paces of what people look at. Nothing is read while nobody does.
const (
	framePace    = time.Second
	sightPace    = 250 * time.Millisecond // of a workflow
	dayPace      = 10 * time.Second
	minutesPace  = 5 * time.Second
	failuresPace = 10 * time.Second
	queuesPace   = 2 * time.Second
	runningPace  = time.Second
	// lookAgain is how old a workflow's sight may get without news of a change;
	// sent at least every sendAgain.
	sightAge  = 5 * time.Second
	sendAgain = 10 * time.Second
	// sightIdle is how long a workflow's sight is kept for who comes back.
	sightIdle = time.Minute
	// What an overview has of each.
	overviewMinutes  = 60
	overviewFailures = 10
	overviewSlowest  = 5
	overviewRunning  = 10
	openSamples      = 60
)

// pageStore is what people look at in Postgres.
type pageStore interface {
	Totals(ctx context.Context) (*heddlev1.Totals, error)
	LastDay(ctx context.Context) (*heddlev1.Minute, error)
	LastMinutes(ctx context.Context, n int) ([]*heddlev1.Minute, error)
	Failures(ctx context.Context, req *heddlev1.StatsServiceFailuresRequest) (*heddlev1.StatsServiceFailuresResponse, error)
	Queues(ctx context.Context) ([]*heddlev1.Queue, error)
	Workflows(ctx context.Context, req *heddlev1.ListRequest) (*heddlev1.ListResponse, error)
	WorkflowGraph(ctx context.Context, id fsm.WorkflowID, maxCards int) (*heddlev1.Workflow, *heddlev1.GraphResponse, error)
}

// pageNode is what people look at beside Postgres.
type pageNode interface {
	Health() *heddlev1.Health
	// Workers counts the open sessions.
	Workers() int
	// Running counts leases by queue.
	Running() map[string]int
	// Rates of the last seconds, of which a node knows those it led.
	Rates() []*heddlev1.Rate
	// Leads: changes of workflows are told here as they are committed.
	Leads() bool
	Subscribe(id fsm.WorkflowID) api.Subscription
	// Now is the database's clock.
	Now() time.Time
}

// liveHub shows what changes. It reads each thing once for all who look at it;
// its goroutines are reads under way, for which wait waits.
type liveHub struct {
	store pageStore
	node  pageNode
	ctx   context.Context // of reads; ends with the engine
	wg    sync.WaitGroup

	totals   reading[*heddlev1.Totals]
	day      reading[*heddlev1.Minute]
	minutes  reading[[]*heddlev1.Minute]
	failures reading[[]*heddlev1.FailureGroup]
	slowest  reading[[]*heddlev1.Queue]
	running  reading[[]*heddlev1.Workflow]

	mu     sync.Mutex
	sights map[sightKey]*sight
	open   []*heddlev1.OpenSample
}

var _ api.Live = (*liveHub)(nil)

func newLiveHub(ctx context.Context, store pageStore, node pageNode) *liveHub {
	h := &liveHub{store: store, node: node, ctx: ctx, sights: make(map[sightKey]*sight)}
	h.totals = reading[*heddlev1.Totals]{pace: framePace, read: h.readTotals, work: h.work}
	h.day = reading[*heddlev1.Minute]{pace: dayPace, read: store.LastDay, work: h.work}
	h.minutes = reading[[]*heddlev1.Minute]{pace: minutesPace, work: h.work, read: func(ctx context.Context) ([]*heddlev1.Minute, error) {
		return store.LastMinutes(ctx, overviewMinutes)
	}}
	h.failures = reading[[]*heddlev1.FailureGroup]{pace: failuresPace, work: h.work, read: func(ctx context.Context) ([]*heddlev1.FailureGroup, error) {
		res, err := store.Failures(ctx, &heddlev1.StatsServiceFailuresRequest{Limit: overviewFailures})
		return res.GetGroups(), err
	}}
	h.slowest = reading[[]*heddlev1.Queue]{pace: queuesPace, work: h.work, read: h.readSlowest}
	h.running = reading[[]*heddlev1.Workflow]{pace: runningPace, work: h.work, read: func(ctx context.Context) ([]*heddlev1.Workflow, error) {
		res, err := store.Workflows(ctx, &heddlev1.ListRequest{States: []heddlev1.State{heddlev1.State_STATE_RUNNING}, PageSize: overviewRunning})
		return res.GetWorkflows(), err
	}}
	return h
}

// work runs a read in a goroutine of the hub's.
func (h *liveHub) work(read func(context.Context)) { h.wg.Go(func() { read(h.ctx) }) }

// wait waits for the reads under way, after ctx has ended and no call is left.
func (h *liveHub) wait() { h.wg.Wait() }

func (h *liveHub) readTotals(ctx context.Context) (*heddlev1.Totals, error) {
	t, err := h.store.Totals(ctx)
	if err != nil {
		return nil, err
	}
	day, err := h.day.recent(ctx)
	if err != nil {
		return nil, err
	}
	t.Workers = int32(h.node.Workers())
	t.Succeeded = &heddlev1.Count{N: day.GetSucceeded()}
	// Ends that no worker reported are in the history only; those beyond what is
	// counted there, in the statistics.
	for _, c := range []struct {
		count *heddlev1.Count
		sum   int64
	}{{t.Failed, day.GetFailed()}, {t.Cancelled, day.GetCancelled()}} {
		if c.count.GetMore() {
			c.count.N = max(c.count.N, c.sum)
		}
	}
	h.sample(t)
	return t, nil
}

// sample keeps one look at the open jobs per minute.
func (h *liveHub) sample(t *heddlev1.Totals) {
	at := h.node.Now().Truncate(time.Minute)
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.open); n > 0 && !h.open[n-1].GetAt().AsTime().Before(at) {
		return
	}
	h.open = append(h.open, &heddlev1.OpenSample{
		At: timestamppb.New(at), Available: t.GetAvailable().GetN(), Running: t.GetRunning().GetN(), Scheduled: t.GetScheduled().GetN(),
		Retryable: t.GetRetryable().GetN(), Blocked: t.GetBlocked().GetN(),
	})
	h.open = h.open[max(len(h.open)-openSamples, 0):]
}

func (h *liveHub) readSlowest(ctx context.Context) ([]*heddlev1.Queue, error) {
	all, err := h.store.Queues(ctx)
	if err != nil {
		return nil, err
	}
	running := h.node.Running()
	slow := all[:0]
	for _, q := range all {
		q.Running = int64(running[q.GetName()])
		if !q.GetMore() {
			q.Available = max(q.GetAvailable()-q.GetRunning(), 0)
		}
		if q.GetAvailable() > 0 && q.GetOldest() != nil {
			slow = append(slow, q)
		}
	}
	slices.SortFunc(slow, func(a, b *heddlev1.Queue) int {
		return cmp.Or(a.GetOldest().AsTime().Compare(b.GetOldest().AsTime()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return slow[:min(len(slow), overviewSlowest)], nil
}

func (h *liveHub) overview(ctx context.Context) (*heddlev1.Overview, error) {
	o := &heddlev1.Overview{Rates: h.node.Rates()}
	var err error
	if o.Minutes, err = h.minutes.recent(ctx); err != nil {
		return nil, err
	}
	if o.Failures, err = h.failures.recent(ctx); err != nil {
		return nil, err
	}
	if o.Slowest, err = h.slowest.recent(ctx); err != nil {
		return nil, err
	}
	if o.Running, err = h.running.recent(ctx); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	o.Open = slices.Clone(h.open)
	return o, nil
}

// Look implements api.Live.
func (h *liveHub) Look(ctx context.Context, view *heddlev1.View) (*heddlev1.Sight, error) {
	return h.look(ctx, view, time.Now().Add(-framePace))
}

// look gives a view; its workflow as it was at since or later.
func (h *liveHub) look(ctx context.Context, view *heddlev1.View, since time.Time) (*heddlev1.Sight, error) {
	s := &heddlev1.Sight{Health: h.node.Health()}
	var err error
	if s.Totals, err = h.totals.recent(ctx); err != nil {
		return nil, err
	}
	if view.GetOverview() {
		if s.Overview, err = h.overview(ctx); err != nil {
			return nil, err
		}
	}
	if view.GetWorkflowId() != "" {
		id, err := wire.WorkflowID("view.workflow_id", view.GetWorkflowId())
		if err != nil {
			return nil, err
		}
		if s.Workflow, s.Cursor, err = h.sightOf(id, int(view.GetMaxCards())).look(ctx, view.GetSince(), since); err != nil {
			return nil, err
		}
	}
	s.At = timestamppb.New(h.node.Now())
	return s, nil
}

// Watch implements api.Live.
func (h *liveHub) Watch(ctx context.Context, view *heddlev1.View, send func(*heddlev1.Sight) error) error {
	view = proto.CloneOf(view)
	var touched <-chan struct{}
	if view.GetWorkflowId() != "" {
		id, err := wire.WorkflowID("view.workflow_id", view.GetWorkflowId())
		if err != nil {
			return err
		}
		sub := h.node.Subscribe(id)
		defer sub.Stop()
		touched = sub.Touched
	}
	tick := time.NewTicker(framePace)
	defer tick.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	var last *heddlev1.Sight
	var sent time.Time
	since := time.Now().Add(-framePace)
	for {
		began := time.Now()
		s, err := h.look(ctx, view, since)
		if err != nil {
			return err
		}
		if time.Since(sent) >= sendAgain || news(last, s) {
			if err := send(s); err != nil {
				return err
			}
			sent, last = time.Now(), s
			if s.GetWorkflow() != nil {
				view.Since = s.GetCursor()
			}
		}
		// At most four times a second.
		pause.Reset(sightPace - min(time.Since(began), sightPace))
		select {
		case <-pause.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-touched:
			since = time.Now()
		case <-tick.C:
			since = time.Now().Add(-sightAge)
			if !h.node.Leads() {
				since = time.Now().Add(-framePace) // nobody tells
			}
		}
	}
}

// news reports whether a sight tells more than the last one that was sent.
func news(last, s *heddlev1.Sight) bool {
	if last == nil || last.GetCursor() != s.GetCursor() {
		return true
	}
	return !proto.Equal(last.GetTotals(), s.GetTotals()) || !proto.Equal(last.GetHealth(), s.GetHealth()) || !proto.Equal(last.GetOverview(), s.GetOverview())
}

// sightKey names what is read of a workflow.
type sightKey struct {
	id       fsm.WorkflowID
	maxCards int
}

// sight is a workflow that somebody looks at.
type sight struct {
	reading reading[*sightState]
	used    time.Time // under the hub's lock
}

// sightState is one state of it. cursor rises with each change; changed says at
// which cursor each card last did.
type sightState struct {
	workflow *heddlev1.Workflow
	cards    []*heddlev1.CardCounts
	changed  []uint64
	first    uint64 // the lowest cursor of this sight
	cursor   uint64
}

// sightOf finds the sight of a workflow or begins one. Those that nobody has
// asked for lately are dropped.
func (h *liveHub) sightOf(id fsm.WorkflowID, maxCards int) *sight {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(h.sights, func(_ sightKey, s *sight) bool { return now.Sub(s.used) > sightIdle })
	k := sightKey{id, maxCards}
	s := h.sights[k]
	if s == nil {
		s = &sight{}
		// Random, so that a cursor of another sight is none of this one's.
		first := rand.Uint64()>>2 + 1
		var before *sightState
		s.reading = reading[*sightState]{pace: sightPace, work: h.work, read: func(ctx context.Context) (*sightState, error) {
			w, g, err := h.store.WorkflowGraph(ctx, id, maxCards)
			if err != nil {
				return nil, err
			}
			before = nextState(before, w, g, first)
			return before, nil
		}}
		h.sights[k] = s
	}
	s.used = now
	return s
}

// nextState compares what was read with the state before; nil: there is none.
func nextState(before *sightState, w *heddlev1.Workflow, g *heddlev1.GraphResponse, first uint64) *sightState {
	next := &sightState{workflow: w, first: first, cursor: first, changed: make([]uint64, len(g.GetCards()))}
	changed := before == nil
	if before != nil {
		next.cursor = before.cursor + 1
		changed = !proto.Equal(before.workflow, w) || len(before.cards) != len(g.GetCards())
	}
	for i, c := range g.GetCards() {
		card := &heddlev1.CardCounts{Group: c.GetGroup(), Counts: c.GetCounts(), State: c.GetState()}
		next.cards = append(next.cards, card)
		next.changed[i] = next.cursor
		// Another number of nodes may be another graph: all is sent.
		if before != nil && before.workflow.GetNodes() == w.GetNodes() && i < len(before.cards) && proto.Equal(before.cards[i], card) {
			next.changed[i] = before.changed[i]
		} else {
			changed = true
		}
	}
	if !changed {
		next.cursor = before.cursor
	}
	return next
}

// look gives what changed behind a cursor, in a state that was read at since or
// later, and the state's cursor.
func (s *sight) look(ctx context.Context, cursor uint64, since time.Time) (*heddlev1.WorkflowSight, uint64, error) {
	state, _, err := s.reading.get(ctx, since)
	if err != nil {
		return nil, 0, err
	}
	if cursor < state.first || cursor > state.cursor {
		cursor = 0 // of another sight
	}
	out := &heddlev1.WorkflowSight{Workflow: state.workflow, GraphVersion: state.workflow.GetNodes()}
	for i, c := range state.cards {
		if state.changed[i] > cursor {
			out.Cards = append(out.Cards, c)
		}
	}
	return out, state.cursor, nil
}
