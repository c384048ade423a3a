package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// LeaseFact is what Postgres says of a leased job.
type LeaseFact struct {
	Lease fsm.Lease
	// Held: the row is there and its turn is the lease's: the lease stands.
	Held bool
	// Row of the job, when it is still among the open jobs and available.
	Row *dispatch.Row
}

// Sizes of what one statement reads.
const (
	walkChunk  = 5_000
	leaseChunk = 5_000
)

// Load reads the next rows of several streams in one round trip. Now of the
// answers is the database's clock before the read's snapshot.
func (s *Store) Load(ctx context.Context, loads []dispatch.Load) ([]dispatch.Loaded, error) {
	if len(loads) == 0 {
		return nil, nil
	}
	p := db.LoadReadyParams{}
	for i, l := range loads {
		p.Ords = append(p.Ords, int32(i))
		p.Routes = append(p.Routes, l.Lane.Route)
		p.Keys = append(p.Keys, l.Lane.Key)
		p.Priorities = append(p.Priorities, l.Lane.Priority)
		p.RunAts = append(p.RunAts, cursorTime(l.After.RunAt))
		p.Ids = append(p.Ids, l.After.Job.Workflow)
		p.Nodes = append(p.Nodes, l.After.Job.Node)
		p.Lims = append(p.Lims, int32(min(l.Limit, math.MaxInt32)))
	}
	loaded := make([]dispatch.Loaded, len(loads))
	var now int64
	batch := &pgx.Batch{}
	batch.Queue(db.DatabaseNowSQL).Query(s.timeOf(&now))
	batch.Queue(db.LoadReadySQL, p.Ords, p.Routes, p.Keys, p.Priorities, p.RunAts, p.Ids, p.Nodes, p.Lims).Query(func(rows pgx.Rows) error {
		return each(rows, func(r raw) {
			l := &loaded[r.int4(0)]
			l.Rows = append(l.Rows, r.ready())
		})
	})
	if err := s.flush.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("load windows: %w", err)
	}
	for i := range loaded {
		loaded[i].Lane = loads[i].Lane
		loaded[i].End = len(loaded[i].Rows) < loads[i].Limit
		loaded[i].Now = now
	}
	return loaded, nil
}

// timeOf reads the database's time, for the caller and the store's clock.
func (s *Store) timeOf(now *int64) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		return each(rows, func(r raw) {
			*now = r.time(0)
			s.clock.set(time.UnixMicro(*now), time.Now())
		})
	}
}

// cursorTime is the bound of a cursor: unlike in a row, 0 is a time.
func cursorTime(micros int64) pgTime {
	return pgTime{Time: time.UnixMicro(micros).UTC(), Valid: true}
}

// Walk reads the ready index in order from behind after: the first perLane
// rows of each stream, until about limit rows are read. more says that streams
// may lie behind the last one.
func (s *Store) Walk(ctx context.Context, after dispatch.LanePriority, first bool, perLane, limit int) (loaded []dispatch.Loaded, more bool, err error) {
	w := walk{perLane: perLane, limit: limit}
	if first {
		after = dispatch.LanePriority{Lane: dispatch.Lane{Route: math.MinInt32}}
	}
	chunk := max(min(walkChunk, limit), perLane+1)
	streams := func() (string, []any) {
		return db.WalkStreamsSQL, []any{after.Route, after.Key, after.Priority, int32(chunk)}
	}
	sql, args := streams()
	for {
		var now int64
		read := 0
		batch := &pgx.Batch{}
		batch.Queue(db.DatabaseNowSQL).Query(s.timeOf(&now))
		batch.Queue(sql, args...).Query(func(rows pgx.Rows) error {
			return each(rows, func(r raw) {
				read++
				w.row(r, now)
			})
		})
		if err := s.flush.SendBatch(ctx, batch).Close(); err != nil {
			return nil, false, fmt.Errorf("walk the ready jobs: %w", err)
		}
		switch {
		case w.done:
			return w.loaded, true, nil
		case read < chunk:
			w.end()
			return w.loaded, false, nil
		}
		last := &w.loaded[len(w.loaded)-1]
		if len(last.Rows) < perLane {
			r := &last.Rows[len(last.Rows)-1]
			sql, args = db.WalkRowsSQL, []any{r.Lane.Route, r.Lane.Key, r.Priority, cursorTime(r.RunAt), r.Job.Workflow, r.Job.Node, int32(chunk)}
			continue
		}
		if w.total >= limit {
			return w.loaded, true, nil
		}
		after = last.Lane
		sql, args = streams()
	}
}

// walk collects the rows of a Walk, which come stream by stream.
type walk struct {
	perLane, limit int
	loaded         []dispatch.Loaded
	total          int
	done           bool // the limit is reached; the last stream is complete
}

func (w *walk) row(r raw, now int64) {
	if w.done {
		return
	}
	lane := dispatch.LanePriority{Lane: dispatch.Lane{Route: r.int4(3), Key: r.text(4)}, Priority: r.int2(5)}
	if n := len(w.loaded); n == 0 || w.loaded[n-1].Lane != lane {
		w.end()
		if w.total >= w.limit {
			w.done = true
			return
		}
		w.loaded = append(w.loaded, dispatch.Loaded{Lane: lane, Now: now})
	}
	last := &w.loaded[len(w.loaded)-1]
	if len(last.Rows) < w.perLane {
		last.Rows = append(last.Rows, r.ready())
		w.total++
	} else {
		last.End = false
	}
}

// end closes the last stream: nothing lies behind the rows it has, unless it
// was cut.
func (w *walk) end() {
	if n := len(w.loaded); n > 0 && len(w.loaded[n-1].Rows) < w.perLane {
		w.loaded[n-1].End = true
	}
}

// Lanes finds streams that have rows by a loose scan from behind after, in
// order, at most limit.
func (s *Store) Lanes(ctx context.Context, after dispatch.LanePriority, first bool, limit int) ([]dispatch.LanePriority, error) {
	if first {
		after = dispatch.LanePriority{Lane: dispatch.Lane{Route: math.MinInt32}}
	}
	rows, err := s.fdb.FindStreams(ctx, db.FindStreamsParams{Route: after.Route, Key: after.Key, Priority: after.Priority, Lim: int32(min(limit, math.MaxInt32))})
	if err != nil {
		return nil, fmt.Errorf("find streams: %w", err)
	}
	lanes := make([]dispatch.LanePriority, len(rows))
	for i, r := range rows {
		lanes[i] = dispatch.LanePriority{Lane: dispatch.Lane{Route: r.Route, Key: r.Key}, Priority: r.Priority}
	}
	return lanes, nil
}

// Leases reads the rows of leased jobs, in the order given.
func (s *Store) Leases(ctx context.Context, leases []fsm.Lease) ([]LeaseFact, error) {
	facts := make([]LeaseFact, len(leases))
	for start := 0; start < len(leases); start += leaseChunk {
		p := db.LeasedRowsParams{}
		for i, l := range leases[start:min(start+leaseChunk, len(leases))] {
			p.Ords = append(p.Ords, int32(start+i))
			p.Ids = append(p.Ids, l.Job.Workflow)
			p.Nodes = append(p.Nodes, l.Job.Node)
			facts[start+i].Lease = l
		}
		rows, err := s.flush.Query(ctx, db.LeasedRowsSQL, p.Ords, p.Ids, p.Nodes)
		if err == nil {
			err = each(rows, func(r raw) {
				row := r.ready()
				f := &facts[r.int4(0)]
				f.Row = &row
				f.Held = row.Turn == f.Lease.Turn
			})
		}
		if err != nil {
			return nil, fmt.Errorf("read the rows of leases: %w", err)
		}
	}
	return facts, nil
}

// Paused reads which queues and workflows are paused.
func (s *Store) Paused(ctx context.Context) (queues []string, workflows []fsm.WorkflowID, err error) {
	queues, err = s.fdb.PausedQueues(ctx)
	if err == nil {
		workflows, err = s.fdb.PausedWorkflows(ctx)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read what is paused: %w", err)
	}
	return queues, workflows, nil
}

// Payloads reads the arguments of jobs whose rows do not carry them, in the
// order given; nil where there are none.
func (s *Store) Payloads(ctx context.Context, jobs []fsm.JobID) ([][]byte, error) {
	p := db.ArgsOfParams{}
	for i, j := range jobs {
		p.Ords = append(p.Ords, int32(i))
		p.Ids = append(p.Ids, j.Workflow)
		p.Nodes = append(p.Nodes, j.Node)
	}
	rows, err := s.fdb.ArgsOf(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("read payloads: %w", err)
	}
	bodies := make([][]byte, len(jobs))
	for _, r := range rows {
		bodies[r.Ord] = r.Body
	}
	return bodies, nil
}

// ArgsInPayloads tells from a row's flags whether Payloads has its args.
func (s *Store) ArgsInPayloads(flags int32) bool { return flags&FlagArgsInPayloads != 0 }

// ExpiredJob is a job whose wait in its queue, or whose deadline, is over.
type ExpiredJob struct {
	Job    fsm.JobID
	Turn   int32
	Batch  int32 // -1: a lone job
	Flags  int32
	Reason string // "deadline" or "wait in the queue"
}

// Expired lists jobs whose time is over, the oldest first, leased ones among
// them, and when the next one follows (zero: none in sight). While a workflow
// is paused the waits of its jobs do not end.
func (s *Store) Expired(ctx context.Context, limit int) (jobs []ExpiredJob, next time.Time, err error) {
	rows, err := s.fdb.ExpiredJobs(ctx, int32(min(limit, math.MaxInt32)))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("find expired jobs: %w", err)
	}
	for _, r := range rows {
		j := ExpiredJob{Job: fsm.JobID{Workflow: r.WorkflowID, Node: r.Node}, Turn: r.Turn, Batch: -1, Reason: "wait in the queue"}
		if r.Batch != nil {
			j.Batch = *r.Batch
		}
		if r.Flags != nil {
			j.Flags = *r.Flags
		}
		if r.Deadline {
			j.Reason = "deadline"
		}
		jobs = append(jobs, j)
	}
	times, err := s.fdb.NextExpiry(ctx)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, time.Time{}, fmt.Errorf("find the next expiry: %w", err)
	}
	if len(times) > 0 {
		next = times[0].Time
	}
	return jobs, next, nil
}
