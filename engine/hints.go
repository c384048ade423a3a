package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/api"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/raftsched/dispatch"
)

const (
	// hintTime bounds one hint: later than that the leader has found the rows by
	// itself.
	hintTime = 2 * time.Second
	// hintLanes bounds how many lanes are gathered for the next hint; what they
	// are too many for is found by itself as well.
	hintLanes = 10_000
)

// hints tell the leader of what this node has committed while another one leads.
// They are wake-ups and nothing more: what the leader is not told of, it finds
// within two seconds (I10). One is on its way at a time; what comes meanwhile
// goes with the next one, so that nobody waits for it and none piles up. Its
// goroutine is run, which waits for the one that tells.
type hints struct {
	leadership api.Leadership
	tell       func(ctx context.Context, leader string, hint api.Hint) error
	own        func(api.Hint) // this node leads meanwhile
	log        *slog.Logger
	wake       chan struct{} // holds one

	mu   sync.Mutex
	next gathered
}

// gathered is a hint that grows.
type gathered struct {
	lanes map[dispatch.LanePriority]struct{}
	rest  api.Hint // without lanes
}

func (h *hints) init(e *Engine) {
	h.leadership, h.tell, h.own, h.log = &e.leadership, e.tellLeader, e.hinted, e.log
	h.wake = make(chan struct{}, 1)
}

// add has the leader told.
func (h *hints) add(hint api.Hint) {
	h.mu.Lock()
	if h.next.lanes == nil {
		h.next.lanes = make(map[dispatch.LanePriority]struct{})
	}
	for _, lane := range hint.Lanes {
		if len(h.next.lanes) >= hintLanes {
			break
		}
		h.next.lanes[lane] = struct{}{}
	}
	r := &h.next.rest
	r.Cascades = r.Cascades || hint.Cascades
	if hint.Expires != 0 && (r.Expires == 0 || hint.Expires < r.Expires) {
		r.Expires = hint.Expires
	}
	h.mu.Unlock()
	put(h.wake)
}

// none: there is nothing to tell.
func (h *hints) none() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.next.lanes) == 0 && !h.next.rest.Cascades && h.next.rest.Expires == 0
}

// take gives what was gathered.
func (h *hints) take() api.Hint {
	h.mu.Lock()
	defer h.mu.Unlock()
	hint := h.next.rest
	for lane := range h.next.lanes {
		hint.Lanes = append(hint.Lanes, lane)
	}
	h.next = gathered{}
	return hint
}

// run sends until ctx ends.
func (h *hints) run(ctx context.Context) {
	for {
		select {
		case <-h.wake:
		case <-ctx.Done():
			return
		}
		for sent := h.none(); !sent; {
			place, changed := h.leadership.Leader()
			switch {
			case place.Leads:
				h.own(h.take())
				sent = true
			case place.API != "":
				sent = h.send(ctx, place.API, changed)
			default:
				select {
				case <-changed:
				case <-ctx.Done():
					return
				}
			}
		}
	}
}

// send tells the leader once, as long as it leads: one that stops may leave the
// call unanswered, while its successor knows nothing of the rows. It reports
// whether that is all there is to do. A leader that stays and cannot be reached
// finds the rows by itself.
func (h *hints) send(ctx context.Context, leader string, changed <-chan struct{}) bool {
	ctx, cancel := context.WithTimeout(ctx, hintTime)
	defer cancel()
	hint, told := h.take(), make(chan error, 1)
	go func() { told <- h.tell(ctx, leader, hint) }()
	for {
		select {
		case <-changed:
			var place *api.Place
			if place, changed = h.leadership.Leader(); !leads(place, leader) {
				cancel()
			}
		case err := <-told:
			if err == nil {
				return true
			}
			h.log.Debug("leader not told of new rows", "leader", leader, "error", err)
			if place, _ := h.leadership.Leader(); leads(place, leader) {
				return true
			}
			h.add(hint)
			return false
		}
	}
}

// leads: the node at this address is still taken for the leader.
func leads(place *api.Place, leader string) bool { return !place.Leads && place.API == leader }

// tellLeader brings a hint to the leader.
func (e *Engine) tellLeader(ctx context.Context, leader string, hint api.Hint) error {
	msg := &heddlev1.PeerServiceHintRequest{Cascades: hint.Cascades, ExpiresUs: hint.Expires, Lanes: make([]*heddlev1.Lane, len(hint.Lanes))}
	for i, l := range hint.Lanes {
		msg.Lanes[i] = &heddlev1.Lane{Route: l.Lane.Route, Key: l.Lane.Key, Priority: int32(l.Priority)}
	}
	_, err := e.cluster.peers.at(leader).Hint(ctx, connect.NewRequest(msg))
	return err
}

// hinted takes a hint, as the leader.
func (e *Engine) hinted(hint api.Hint) {
	e.node.Hint(hint.Lanes)
	if hint.Cascades {
		put(e.leader.cascades)
	}
	e.leader.expectAt(hint.Expires)
}
