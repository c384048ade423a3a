package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

const (
	// watchPoll is how often the ends of watched workflows are looked for that
	// no local commit told of.
	watchPoll = 2 * time.Second
	// watchAlone is the same while this node does not lead: no commit that is
	// worth watching tells of itself then. Such watchers are those who came while
	// no leader was known; all others are at the leader.
	watchAlone = 500 * time.Millisecond
	// watchBatch bounds one such query.
	watchBatch = 1000
)

// watchHub tells subscribers of changes of their workflows. Commits of this
// node wake them directly. What another node, or an earlier reign, committed is
// found by one query for all watched workflows together, asked only while
// someone watches. Its one goroutine is run.
type watchHub struct {
	log     *slog.Logger
	ended   func(context.Context, []fsm.WorkflowID) (map[fsm.WorkflowID]dag.Outcome, error)
	leading func() bool
	some    chan struct{} // holds a value when the first subscriber comes

	mu   sync.Mutex
	subs map[fsm.WorkflowID]map[*subscriber]struct{}
}

type subscriber struct{ touched, ended chan struct{} }

func newWatchHub(log *slog.Logger, leading func() bool, ended func(context.Context, []fsm.WorkflowID) (map[fsm.WorkflowID]dag.Outcome, error)) *watchHub {
	return &watchHub{log: log, ended: ended, leading: leading, some: make(chan struct{}, 1), subs: make(map[fsm.WorkflowID]map[*subscriber]struct{})}
}

// Subscribe implements api.Watcher.
func (h *watchHub) Subscribe(id fsm.WorkflowID) api.Subscription {
	s := &subscriber{touched: make(chan struct{}, 1), ended: make(chan struct{}, 1)}
	h.mu.Lock()
	if h.subs[id] == nil {
		h.subs[id] = make(map[*subscriber]struct{}, 1)
	}
	h.subs[id][s] = struct{}{}
	h.mu.Unlock()
	put(h.some)
	return api.Subscription{Touched: s.touched, Ended: s.ended, Stop: func() { h.stop(id, s) }}
}

func (h *watchHub) stop(id fsm.WorkflowID, s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs[id], s)
	if len(h.subs[id]) == 0 {
		delete(h.subs, id)
	}
}

// tell wakes the subscribers of workflows that were touched or have ended.
func (h *watchHub) tell(touched, ended []fsm.WorkflowID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subs) == 0 {
		return
	}
	for _, id := range touched {
		for s := range h.subs[id] {
			put(s.touched)
		}
	}
	for _, id := range ended {
		for s := range h.subs[id] {
			put(s.touched)
			put(s.ended)
		}
	}
}

// tellAll wakes everyone: something may have been missed.
func (h *watchHub) tellAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, subs := range h.subs {
		for s := range subs {
			put(s.touched)
		}
	}
}

func (h *watchHub) watched() []fsm.WorkflowID {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]fsm.WorkflowID, 0, len(h.subs))
	for id := range h.subs {
		ids = append(ids, id)
	}
	return ids
}

func (h *watchHub) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.some:
		}
		if !h.poll(ctx) {
			return
		}
	}
}

// poll looks for ends until nobody watches; false says that ctx has ended.
func (h *watchHub) poll(ctx context.Context) bool {
	tick := time.NewTicker(watchAlone)
	defer tick.Stop()
	failing, last := false, time.Now()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		ids := h.watched()
		if len(ids) == 0 {
			return true
		}
		leading := h.leading()
		if leading && time.Since(last) < watchPoll {
			continue
		}
		last = time.Now()
		if !leading {
			h.tell(ids, nil)
		}
		for len(ids) > 0 {
			n := min(len(ids), watchBatch)
			ended, err := h.ended(ctx, ids[:n])
			if err != nil {
				if !failing && ctx.Err() == nil {
					h.log.Warn("watched workflows cannot be read", "error", err)
				}
				failing = true
				break
			}
			failing = false
			over := make([]fsm.WorkflowID, 0, len(ended))
			for id := range ended {
				over = append(over, id)
			}
			h.tell(nil, over)
			ids = ids[n:]
		}
	}
}

// put leaves a value in a channel of one, unless one is there.
func put(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
