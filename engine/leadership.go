package engine

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/heddle-io/heddle/engine/api"
)

// leadership is what this node knows of who leads, in the form in which calls
// are routed by it. Its one goroutine is run.
type leadership struct {
	e    *Engine
	poke chan struct{} // holds one: look again

	mu      sync.Mutex
	place   *api.Place
	taking  *api.Place    // the same while this node takes over
	changed chan struct{} // closed when place is replaced
	leader  string        // id of who led last
	end     context.CancelFunc
}

var _ api.Leadership = (*leadership)(nil)

func (l *leadership) init(e *Engine) {
	l.e, l.poke, l.changed = e, make(chan struct{}, 1), make(chan struct{})
	l.place = &api.Place{}
	l.place.Term, l.end = context.WithCancel(context.Background())
	l.taking = l.place
}

// Leader implements api.Leadership. The start of a takeover is no news by
// itself: it is looked for.
func (l *leadership) Leader() (*api.Place, <-chan struct{}) {
	l.mu.Lock()
	place, taking, changed := l.place, l.taking, l.changed
	l.mu.Unlock()
	if !place.Ready {
		if epoch, _ := l.e.node.Leader(); epoch != 0 {
			return taking, changed
		}
	}
	return place, changed
}

// run follows the changes until ctx ends.
func (l *leadership) run(ctx context.Context) {
	for {
		changed := l.e.node.Changed()
		l.look()
		select {
		case <-changed:
		case <-l.poke:
		case <-ctx.Done():
			return
		}
	}
}

// look finds out who leads, and tells of it if that is new.
func (l *leadership) look() {
	own := l.e.cfg.NodeID
	leader, known := l.e.node.LeaderHint()
	p := api.Place{Self: l.e.cluster.api}
	switch _, ready := l.e.node.Leader(); {
	case ready:
		p.Leads, p.Ready, leader.ID = true, true, own
	case known && leader.ID != own:
		p.API = leader.APIAddr
	default:
		leader.ID = ""
	}
	p.Members = l.members()

	l.mu.Lock()
	defer l.mu.Unlock()
	p.Term = l.place.Term
	if *l.place == p {
		return
	}
	if leader.ID != "" && leader.ID != l.leader {
		l.end()
		p.Term, l.end = context.WithCancel(context.Background())
		l.leader = leader.ID
	}
	taking := p
	taking.Leads, taking.API = true, ""
	l.place, l.taking = &p, &taking
	close(l.changed)
	l.changed = make(chan struct{})
}

// members lists the APIs of all nodes, if there are several.
func (l *leadership) members() string {
	var urls []string
	for _, m := range l.e.node.Status().Members {
		if m.APIAddr != "" {
			urls = append(urls, m.APIAddr)
		}
	}
	if len(urls) < 2 {
		return ""
	}
	slices.Sort(urls)
	return strings.Join(urls, ",")
}

// known reports whether some node leads.
func (l *leadership) known() bool {
	place, _ := l.Leader()
	return place.Ready || place.API != ""
}
