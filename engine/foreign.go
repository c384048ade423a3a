package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/heddle-io/heddle/engine/store"
)

// ErrForeign is returned by Start when the database belongs to another cluster,
// as to the engine of another data directory; see Config.Adopt. A node that has
// others starts all the same, says so, and hands out no jobs.
var ErrForeign = store.ErrForeign

const (
	// foreignLook is the time between two looks at whose database it is.
	foreignLook = time.Second
	// foreignLogEvery is the time between two lines of the log about it.
	foreignLogEvery = time.Minute
	// adoptTime is how long after its start an engine takes over a database that
	// belongs to others, if it was told to.
	adoptTime = 5 * time.Minute
)

// foreign deals with a database that another cluster owns.
type foreign struct {
	log    *slog.Logger
	disown func(ctx context.Context, owner *store.ForeignError) error
	found  chan error // gets the first refusal, and holds it

	mu     sync.Mutex
	adopt  time.Time // until when the database is taken from its owner
	now    *store.ForeignError
	logged time.Time
}

func (f *foreign) init(e *Engine) {
	f.log, f.found = e.log, make(chan error, 1)
	f.disown = func(ctx context.Context, err *store.ForeignError) error {
		_, failed := e.store.Disown(ctx, err.Owner)
		return failed
	}
	if e.cfg.Adopt || e.cfg.Ephemeral {
		f.adopt = time.Now().Add(adoptTime)
	}
}

// settle takes the outcome of a Takeover. again says that it shall be tried
// again: the database has been taken from its owner, or may have been meanwhile.
// There is nothing to gain by giving the leadership to another node, so the one
// that has it waits; ctx ends when it loses it.
func (f *foreign) settle(ctx context.Context, err error) (again bool) {
	var foreign *store.ForeignError
	if !errors.As(err, &foreign) {
		f.over(err == nil)
		return false
	}
	if f.adopts() {
		err := f.disown(ctx, foreign)
		if err == nil {
			f.log.Warn("database taken from its owner", "owner", foreign.Owner.String())
			return true
		}
		f.log.Error("database not taken from its owner", "owner", foreign.Owner.String(), "error", err)
	}
	f.refused(foreign)
	if again = wait(ctx, nil, foreignLook); !again {
		f.over(false)
	}
	return again
}

// adopts tells, once, that the database shall be taken from its owner.
func (f *foreign) adopts() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	is := time.Now().Before(f.adopt)
	f.adopt = time.Time{}
	return is
}

func (f *foreign) refused(err *store.ForeignError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = err
	select {
	case f.found <- err:
	default:
	}
	if now := time.Now(); now.Sub(f.logged) >= foreignLogEvery {
		f.logged = now
		f.log.Error("no jobs are handed out: the database belongs to another cluster", "owner", err.Owner.String(), "cluster", err.Cluster.String())
	}
}

// over: the database is this cluster's, or this node does not want it any more.
func (f *foreign) over(taken bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = nil
	if taken {
		f.adopt, f.logged = time.Time{}, time.Time{}
	}
}

// trouble says what is wrong and what to do; "": nothing.
func (f *foreign) trouble() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now == nil {
		return ""
	}
	return fmt.Sprintf("%v: give this cluster a database of its own, or, if the other cluster is gone for good, run \"engine cluster adopt --owner %s\": what was running there then runs again", f.now, f.now.Owner)
}
