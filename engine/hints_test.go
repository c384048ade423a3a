package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-io/heddle/engine/api"
	"github.com/heddle-io/heddle/raftsched/dispatch"
)

// placed is a Leadership of which the test says who leads.
type placed struct {
	mu      sync.Mutex
	place   api.Place
	changed chan struct{}
}

func (p *placed) Leader() (*api.Place, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	place := p.place
	return &place, p.changed
}

func (p *placed) set(place api.Place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.place = place
	close(p.changed)
	p.changed = make(chan struct{})
}

func laneOf(route int32) []dispatch.LanePriority {
	return []dispatch.LanePriority{{Lane: dispatch.Lane{Route: route}}}
}

// One hint is on its way at a time; what comes meanwhile goes together, each
// lane once. One that fails is not sent again, unless another node leads by then.
func TestHintsAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type told struct {
			leader string
			hint   api.Hint
			after  time.Duration
		}
		began := time.Now()
		var got []told
		var own []api.Hint
		p := &placed{changed: make(chan struct{})}
		h := hints{
			leadership: p, log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1),
			own: func(hint api.Hint) { own = append(own, hint) },
			tell: func(ctx context.Context, leader string, hint api.Hint) error {
				got = append(got, told{leader, hint, time.Since(began)})
				if leader == "http://mute" {
					<-ctx.Done()
					return ctx.Err()
				}
				time.Sleep(time.Second)
				return errors.New("refused")
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { h.run(ctx) })
		defer wg.Wait()
		defer cancel()

		h.add(api.Hint{Lanes: laneOf(1)})
		synctest.Wait()
		if len(got) != 0 {
			t.Fatalf("told without a leader: %v", got)
		}
		p.set(api.Place{API: "http://a"})
		synctest.Wait()
		for i := range int32(100) {
			h.add(api.Hint{Lanes: laneOf(i % 3), Cascades: i == 7, Expires: int64(1000 - i)})
		}
		h.add(api.Hint{})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if len(got) != 2 || len(got[0].hint.Lanes) != 1 || len(got[1].hint.Lanes) != 3 || !got[1].hint.Cascades || got[1].hint.Expires != 901 || got[1].after != time.Second {
			t.Fatalf("told %+v", got)
		}
		// A leader that hangs does not pile up memory here, and when another one
		// leads that one is told at once, also of what the first was asked to hear.
		p.set(api.Place{API: "http://mute"})
		h.add(api.Hint{Lanes: laneOf(3 * hintLanes)})
		synctest.Wait()
		for i := range int32(2 * hintLanes) {
			h.add(api.Hint{Lanes: laneOf(i)})
		}
		if n := len(h.take().Lanes); n != hintLanes {
			t.Fatalf("%d lanes are kept for the next hint, want %d", n, hintLanes)
		}
		p.set(api.Place{API: "http://b"})
		synctest.Wait()
		if len(got) != 4 || got[3].leader != "http://b" || len(got[3].hint.Lanes) != 1 || got[3].after != got[2].after {
			t.Fatalf("told %d hints, the last %+v", len(got), got[len(got)-1])
		}
		time.Sleep(2 * time.Second)
		p.set(api.Place{Leads: true})
		h.add(api.Hint{Lanes: laneOf(5)})
		synctest.Wait()
		if len(own) != 1 || len(own[0].Lanes) != 1 || len(got) != 4 {
			t.Errorf("as the leader itself: %v", own)
		}
	})
}
