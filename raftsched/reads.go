package raftsched

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

const (
	loadStreams   = 256 // streams of one read
	loadsAtOnce   = 2   // reads of windows side by side
	walkPause     = 30 * time.Second
	clockFresh    = 30 * time.Second
	readFirstWait = 50 * time.Millisecond
	readMostWait  = 2 * time.Second
)

// reads are the dispatcher's reads of the database: what it wants, what is
// under way, and how long to leave a database alone that does not answer.
type reads struct {
	loads    []dispatch.Load // wanted, not yet begun
	loading  int
	sweeps   []dispatch.Load
	scan     *dispatch.Scan
	sweeping bool
	// A sweep looks for rows that nobody told of. They are gathered so that an
	// idle engine asks the database for all of them in one statement, less than
	// once a second.
	nextSweep time.Time
	// noWalk: until then there is too much to see in one statement.
	noWalk  time.Time
	routing bool

	failures int
	silent   time.Time // since when the database has not answered; zero: it does
	after    time.Time // nothing is read before
}

// databasePatience is how long a leader waits for a database that does not
// answer while another voter could lead, and might reach it.
const databasePatience = 5 * time.Second

var errSilentDatabase = errors.New("the database does not answer this node")

// read starts what the dispatcher wants and tells when to look again.
func (l *loop) read() (wake time.Time) {
	r := &l.reads
	if l.now.Before(r.after) {
		return r.after
	}
	now := l.clock.now()
	if !l.clock.known {
		now = 0
	}
	w := l.d.Wants(now)
	r.loads = append(r.loads, w.Loads...)
	r.sweeps = append(r.sweeps, w.Sweeps...)
	if w.Scan != nil {
		r.scan = w.Scan
	}
	if w.Routes && !r.routing {
		l.readRoutes()
	}
	for len(r.loads) > 0 && r.loading < loadsAtOnce {
		n := min(loadStreams, len(r.loads))
		loads := r.loads[:n:n]
		r.loads = r.loads[n:]
		l.load(loads)
	}
	if r.sweeping || len(r.sweeps) == 0 && r.scan == nil || l.d.Stats().Polls == 0 {
		return time.Time{} // nobody waits: the next poll looks again
	}
	if l.now.Before(r.nextSweep) {
		return r.nextSweep
	}
	l.sweep()
	return time.Time{}
}

// load reads the next rows of several streams.
func (l *loop) load(loads []dispatch.Load) {
	r := &l.reads
	r.loading++
	mark := l.d.Begin()
	asked := l.now
	l.r.spawn(func() {
		loaded, err := l.n.store.Load(l.r.ctx, loads)
		l.r.put(func(l *loop) {
			r.loading--
			if l.readDone(err) {
				l.clock.learn(asked, loaded)
			}
			l.d.Loaded(mark, loads, answers(loads, loaded, err))
		})
	})
}

// answers to loads, in their order; nil if the read failed.
func answers(loads []dispatch.Load, loaded []dispatch.Loaded, err error) []dispatch.Loaded {
	if err != nil || len(loaded) != len(loads) {
		return nil
	}
	return loaded
}

// readDone follows whether the database answers.
func (l *loop) readDone(err error) bool {
	r := &l.reads
	if err == nil {
		if r.failures > 0 {
			l.cfg.Logger.Info("database answers again", "epoch", l.r.epoch.Load())
		}
		r.failures, r.silent = 0, time.Time{}
		return true
	}
	if l.r.ctx.Err() == nil {
		if r.silent.IsZero() {
			r.silent = l.now
		}
		if _, none := l.n.successor(""); l.now.Sub(r.silent) >= databasePatience && none == nil {
			l.r.end(fmt.Errorf("%w: %w", errSilentDatabase, err))
		}
		if r.failures == 0 {
			l.cfg.Logger.Warn("database does not answer the dispatcher", "epoch", l.r.epoch.Load(), "error", err)
		}
		r.failures++
		r.after = l.now.Add(backoff(r.failures, readFirstWait, readMostWait))
	}
	return false
}

// sweep looks for rows and streams that no hint told of. While the ready index
// is short enough, one walk over it answers for all streams at once.
func (l *loop) sweep() {
	r := &l.reads
	sweeps, scan := r.sweeps, r.scan
	r.sweeps, r.scan = nil, nil
	r.sweeping = true
	r.nextSweep = l.now.Add(l.cfg.SweepInterval)
	mark := l.d.Begin()
	asked := l.now
	stale := !l.clock.known || l.now.Sub(l.clock.learned) > clockFresh
	walk := l.now.After(r.noWalk) && !(stale && len(sweeps) > 0)
	l.r.spawn(func() {
		s := l.lookAround(walk, sweeps, scan)
		l.r.put(func(l *loop) {
			r.sweeping = false
			if l.readDone(s.err) {
				l.clock.learn(asked, s.loaded)
			}
			if s.overflow {
				r.noWalk = l.now.Add(walkPause)
			}
			if len(sweeps) > 0 {
				l.d.Loaded(mark, sweeps, answers(sweeps, s.loaded, s.err))
			} else {
				l.d.End(mark)
			}
			if scan != nil {
				l.d.Found(*scan, s.lanes, s.err == nil)
			}
		})
	})
}

// sighting is what a sweep saw.
type sighting struct {
	loaded   []dispatch.Loaded       // answers to the sweeps
	lanes    []dispatch.LanePriority // streams that have rows
	overflow bool                    // one statement cannot see all
	err      error
}

// lookAround reads for a sweep: by one walk if walk, else stream by stream.
func (l *loop) lookAround(walk bool, sweeps []dispatch.Load, scan *dispatch.Scan) (s sighting) {
	ctx, store := l.r.ctx, l.n.store
	if walk {
		loaded, more, err := store.Walk(ctx, dispatch.LanePriority{}, true, l.cfg.Window, walkRows)
		if err != nil {
			return sighting{err: err}
		}
		if !more {
			s.loaded, s.lanes = sortWalk(loaded, sweeps)
			return s
		}
		s.overflow = true
	}
	if len(sweeps) > 0 {
		for rest := sweeps; len(rest) > 0; {
			part := rest[:min(loadStreams, len(rest))]
			rest = rest[len(part):]
			loaded, err := store.Load(ctx, part)
			if err != nil {
				return sighting{err: err, overflow: s.overflow}
			}
			s.loaded = append(s.loaded, loaded...)
		}
	}
	if scan != nil {
		s.lanes, s.err = store.Lanes(ctx, scan.After, scan.First, scan.Limit)
	}
	return s
}

// sortWalk makes the answers to sweeps from a walk that saw everything.
func sortWalk(walked []dispatch.Loaded, sweeps []dispatch.Load) (loaded []dispatch.Loaded, lanes []dispatch.LanePriority) {
	at := make(map[dispatch.LanePriority]int, len(walked))
	for i := range walked {
		at[walked[i].Lane] = i
		lanes = append(lanes, walked[i].Lane)
	}
	for _, s := range sweeps {
		i, ok := at[s.Lane]
		if !ok {
			loaded = append(loaded, dispatch.Loaded{Lane: s.Lane, End: true})
			continue
		}
		w := walked[i]
		behind, _ := slices.BinarySearchFunc(w.Rows, s.After, func(r dispatch.Row, after dispatch.Cursor) int {
			if (dispatch.Cursor{RunAt: r.RunAt, Job: r.Job}).Compare(after) <= 0 {
				return -1
			}
			return 1
		})
		w.Rows = w.Rows[behind:]
		if s.Limit > 0 && len(w.Rows) > s.Limit {
			w.Rows, w.End = w.Rows[:s.Limit], false
		}
		loaded = append(loaded, w)
	}
	return loaded, lanes
}

// readRoutes reads the dictionary again: a row named a route it did not have.
func (l *loop) readRoutes() {
	r := &l.reads
	r.routing = true
	l.r.spawn(func() {
		routes, err := l.n.store.Routes(l.r.ctx)
		l.r.put(func(l *loop) {
			r.routing = false
			if l.readDone(err) {
				l.setRoutes(routes)
			}
		})
	})
}

// reread reads the rows of leases that were released uncounted: they are never
// taken from memory, for another outcome may have been written.
func (l *loop) reread(leases []fsm.Lease) {
	if len(leases) == 0 {
		return
	}
	for i := range leases {
		l.d.Released(leases[i].Job)
	}
	mark := l.d.Begin()
	l.r.spawn(func() {
		facts, err := retry(l.r.ctx, func(ctx context.Context) ([]LeaseFact, error) { return l.n.store.Leases(ctx, leases) })
		if err != nil {
			return // the reign has ended, and its dispatcher with it
		}
		l.r.put(func(l *loop) {
			var rows []dispatch.Row
			for i := range facts {
				if facts[i].Row != nil {
					rows = append(rows, *facts[i].Row)
				}
			}
			l.d.Commit(mark, nil, nil, rows)
		})
	})
}

// retry asks until there is an answer or ctx ends.
func retry[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	for failures := 1; ; failures++ {
		v, err := ask(ctx)
		if err == nil || ctx.Err() != nil {
			return v, err
		}
		wait := time.NewTimer(backoff(failures, readFirstWait, readMostWait))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return v, ctx.Err()
		}
	}
}
