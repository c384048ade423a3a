package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/internal/gen/heddle/v1"
	heddle "github.com/heddle-io/heddle/sdk"
)

// finished is a row of the history.
type finished struct {
	job
	batch   *int32
	attempt int
	outcome heddle.Outcome
	args    task
	error   string
}

// tables is what the database says at one moment.
type tables struct {
	finished map[job]*finished
	// open are the jobs that have not ended.
	open map[job]string
	// tries counts the rows of attempts by how they ended.
	tries   map[job]map[int16]int
	batches map[job]*batch
	edges   []edge
	// cascades under way.
	cascades int
}

// How attempts end that do not finish their job.
const (
	howFailed   = 1
	howLost     = 2
	howReleased = 4
	howTimeout  = 5
)

// batch is a row of batches, or of workflows as node 0.
type batch struct {
	parent, lo, hi                      int32
	state                               int16
	outcome                             heddle.Outcome
	total                               int
	succeeded, failed, cancelled, skips int
}

type edge struct {
	workflow      string
	parent, child int32
	on            heddle.Outcome
}

// readTables reads all of it in one snapshot.
func readTables(t testing.TB, dsn string) *tables {
	t.Helper()
	ctx := context.Background()
	conn := dial(t, dsn)
	defer conn.Close(ctx)
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	s := &tables{
		finished: make(map[job]*finished), open: make(map[job]string),
		tries: make(map[job]map[int16]int), batches: make(map[job]*batch),
	}
	each(t, tx, "SELECT workflow_id, node, batch, attempt, outcome, args, coalesce(error, '') FROM finished_jobs", func(rows pgx.Rows) error {
		var f finished
		var id uuid.UUID
		var args []byte
		if err := rows.Scan(&id, &f.node, &f.batch, &f.attempt, &f.outcome, &args, &f.error); err != nil {
			return err
		}
		f.workflow = id.String()
		if len(args) > 0 {
			if err := json.Unmarshal(args, &f.args); err != nil {
				return fmt.Errorf("args of %v: %w", f.job, err)
			}
		}
		s.finished[f.job] = &f
		return nil
	})
	each(t, tx, `SELECT workflow_id, node, format('state %s need %s slack %s run_at %s attempt %s', state, need, slack, run_at, attempt) FROM jobs`, func(rows pgx.Rows) error {
		var id uuid.UUID
		var node int32
		var text string
		if err := rows.Scan(&id, &node, &text); err != nil {
			return err
		}
		s.open[job{id.String(), node}] = text
		return nil
	})
	each(t, tx, "SELECT workflow_id, node, how, count(*) FROM attempts GROUP BY 1, 2, 3", func(rows pgx.Rows) error {
		var id uuid.UUID
		var node int32
		var how int16
		var n int
		if err := rows.Scan(&id, &node, &how, &n); err != nil {
			return err
		}
		j := job{id.String(), node}
		if s.tries[j] == nil {
			s.tries[j] = make(map[int16]int)
		}
		s.tries[j][how] = n
		return nil
	})
	each(t, tx, `SELECT id, 0, -1, 1, next_node - 1, state, outcome, total, succeeded, failed, cancelled, skipped FROM workflows
	             UNION ALL
	             SELECT workflow_id, node, parent, lo, hi, state, outcome, total, succeeded, failed, cancelled, skipped FROM batches`, func(rows pgx.Rows) error {
		var id uuid.UUID
		var node int32
		var b batch
		if err := rows.Scan(&id, &node, &b.parent, &b.lo, &b.hi, &b.state, &b.outcome, &b.total, &b.succeeded, &b.failed, &b.cancelled, &b.skips); err != nil {
			return err
		}
		s.batches[job{id.String(), node}] = &b
		return nil
	})
	each(t, tx, "SELECT workflow_id, parent, child, on_set FROM edges", func(rows pgx.Rows) error {
		var id uuid.UUID
		var e edge
		if err := rows.Scan(&id, &e.parent, &e.child, &e.on); err != nil {
			return err
		}
		e.workflow = id.String()
		s.edges = append(s.edges, e)
		return nil
	})
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM cascades").Scan(&s.cascades); err != nil {
		t.Fatal(err)
	}
	return s
}

func dial(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["search_path"] = "heddle"
	conn, err := pgx.ConnectConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func each(t testing.TB, tx pgx.Tx, sql string, row func(pgx.Rows) error) {
	t.Helper()
	rows, err := tx.Query(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// settle waits until nothing is open any more (I12).
func settle(t testing.TB, dsn string, within time.Duration) {
	t.Helper()
	ctx := context.Background()
	conn := dial(t, dsn)
	defer conn.Close(ctx)
	left := -1
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		err := conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM workflows WHERE state <> 2)
			+ (SELECT count(*) FROM batches WHERE state <> 2) + (SELECT count(*) FROM cascades)`).Scan(&left)
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late.C:
			s, shown := readTables(t, dsn), 0
			for j, text := range s.open {
				if shown++; shown <= 10 {
					t.Logf("open: %v: %s", j, text)
				}
			}
			for j, b := range s.batches {
				if b.state != 2 {
					t.Logf("batch not ended: %v: %+v", j, *b)
				}
			}
			t.Fatalf("after %v, %d rows are still open (I12)", within, left)
		}
	}
}

// oracle judges a test from its event log and the tables, after everything has
// settled.
type oracle struct {
	t      testing.TB
	events []event
	tables *tables
	subs   []*submission
	// killed names the workers whose processes were killed: what they held was
	// lost with them.
	killed map[string]bool

	faults int
}

// judge checks all it can.
func judge(t testing.TB, dsn string, v *events, subs []*submission, killed ...string) {
	t.Helper()
	o := &oracle{t: t, events: v.read(), tables: readTables(t, dsn), subs: subs, killed: make(map[string]bool)}
	for _, name := range killed {
		o.killed[name] = true
	}
	o.nothingLost()
	o.oneRow()
	o.countersOfBatches()
	o.acknowledgedOnce()
	o.attemptsCounted()
	o.neverTwiceAtOnce()
	o.parentsFirst()
	t.Logf("judged %d submissions, %d jobs, %d events", len(subs), len(o.tables.finished), len(o.events))
}

// fault reports a violation; a flood of them is cut.
func (o *oracle) fault(format string, args ...any) {
	o.t.Helper()
	if o.faults++; o.faults <= 20 {
		o.t.Errorf(format, args...)
	} else {
		o.t.Fail()
	}
}

// nothingLost: each acknowledged submission exists entirely and has ended as
// it must; one that was not acknowledged exists entirely or not at all (I8).
func (o *oracle) nothingLost() {
	jobs := make(map[string]int)
	for j := range o.tables.finished {
		jobs[j.workflow]++
	}
	for _, s := range o.subs {
		n := jobs[s.id]
		if !s.acked && n == 0 {
			continue
		}
		if n != s.jobs {
			o.fault("workflow %s (acknowledged: %v) has %d finished jobs, want %d (I8)", s.id, s.acked, n, s.jobs)
			continue
		}
		var outcome heddle.Outcome
		if s.lone {
			outcome = o.tables.finished[job{s.id, 1}].outcome
		} else if root := o.tables.batches[job{s.id, 0}]; root != nil {
			outcome = root.outcome
		}
		if outcome != s.want {
			o.fault("workflow %s ended %v, want %v", s.id, outcome, s.want)
		}
	}
}

// oneRow: a job is open or finished, and only one of them (I1); after settling
// nothing is open (I12).
func (o *oracle) oneRow() {
	for j, text := range o.tables.open {
		if o.tables.finished[j] != nil {
			o.fault("job %v is open and finished (I1)", j)
		} else {
			o.fault("job %v is open for ever: %s (I12)", j, text)
		}
	}
	if o.tables.cascades != 0 {
		o.fault("%d cascades are left", o.tables.cascades)
	}
}

// countersOfBatches: they equal the members by outcome (I3).
func (o *oracle) countersOfBatches() {
	count := make(map[job]*batch)
	in := func(workflow string, parent int32) *batch {
		at := job{workflow, parent}
		if count[at] == nil {
			count[at] = &batch{}
		}
		return count[at]
	}
	add := func(b *batch, outcome heddle.Outcome) {
		b.total++
		switch outcome {
		case heddle.Succeeded:
			b.succeeded++
		case heddle.Failed:
			b.failed++
		case heddle.Cancelled:
			b.cancelled++
		case heddle.Skipped:
			b.skips++
		}
	}
	for j, f := range o.tables.finished {
		if f.batch != nil {
			add(in(j.workflow, *f.batch), f.outcome)
		}
	}
	for at, b := range o.tables.batches {
		if at.node != 0 {
			add(in(at.workflow, b.parent), b.outcome)
		}
	}
	for at, b := range o.tables.batches {
		have, want := *b, batch{}
		if c := count[at]; c != nil {
			want = *c
		}
		have.parent, have.lo, have.hi, have.state, have.outcome = 0, 0, 0, 0, 0
		if have != want {
			o.fault("batch %v counts %+v, its members are %+v (I3)", at, have, want)
		}
	}
}

// acknowledgedOnce: after a final end was acknowledged, the job was not granted
// again (I9). A lease is the log index of its grant, so this needs no clock.
func (o *oracle) acknowledgedOnce() {
	final := make(map[job]uint64)
	for i := range o.events {
		e := &o.events[i]
		if e.What != "ack" || e.Status != ackDone {
			continue
		}
		switch e.Ending {
		case heddlev1.Ending_ENDING_SUCCEEDED.String(), heddlev1.Ending_ENDING_FAILED_NO_RETRY.String():
			if before, twice := final[e.job()]; twice && before != e.Lease {
				o.fault("job %v was acknowledged as finished under leases %d and %d (I9)", e.job(), before, e.Lease)
			}
			final[e.job()] = e.Lease
			if o.tables.finished[e.job()] == nil {
				o.fault("job %v was acknowledged as finished, and is not in the history (I9)", e.job())
			}
		}
	}
	for i := range o.events {
		e := &o.events[i]
		if lease, ended := final[e.job()]; ended && e.What == "grant" && e.Lease > lease {
			o.fault("job %v was granted (lease %d) after its end was acknowledged (lease %d) (I9)", e.job(), e.Lease, lease)
		}
	}
}

// attemptsCounted: the attempts charged to a job are its reported failures and
// the sessions lost with it, and none else (I7). What must have failed is known
// from its arguments; a session can only be lost by killing its worker.
func (o *oracle) attemptsCounted() {
	starts := make(map[job]int)
	doomed := make(map[job]int) // starts on workers that were killed
	for i := range o.events {
		if e := &o.events[i]; e.What == "start" {
			starts[e.job()]++
			if o.killed[e.Worker] {
				doomed[e.job()]++
			}
		}
	}
	for j, f := range o.tables.finished {
		tries := o.tables.tries[j]
		lost, released := tries[howLost], tries[howReleased]
		counted := tries[howFailed] + lost + tries[howTimeout]
		if f.outcome == heddle.Skipped {
			if f.attempt != 0 || starts[j] != 0 {
				o.fault("skipped job %v has %d attempts and %d starts", j, f.attempt, starts[j])
			}
			continue
		}
		// The last attempt is the one that finished it; a job that was lost for
		// the last time has no other.
		if f.attempt != counted+1 {
			o.fault("job %v ended at attempt %d with %d counted before (%v) (I7)", j, f.attempt, counted, tries)
		}
		if f.args.Poison || f.args.Big > 0 {
			continue // they end otherwise than by what their arguments say
		}
		planned := f.args.Fail
		if f.args.Dead {
			planned = 0
		}
		if tries[howFailed] != planned || tries[howTimeout] != 0 {
			o.fault("job %v was charged %v, its handler failed %d times (I7)", j, tries, planned)
		}
		if lost > doomed[j] && len(o.killed) == 0 {
			o.fault("job %v was lost %d times, and no worker was killed (I7)", j, lost)
		}
		// Every start ends in an outcome that is written somewhere, but for those
		// that died with their worker.
		if n := starts[j] - doomed[j]; n > counted-lost+released+1 || n+doomed[j] < counted-lost+1 {
			o.fault("job %v started %d times (%d on killed workers), with attempts %v", j, starts[j], doomed[j], tries)
		}
	}
}

// neverTwiceAtOnce: a start comes after the end of the start before, unless
// that one died with its worker (I5).
func (o *oracle) neverTwiceAtOnce() {
	running := make(map[job]string)
	for i := range o.events {
		e := &o.events[i]
		switch e.What {
		case "start":
			if on, is := running[e.job()]; is && !o.killed[on] {
				o.fault("job %v started on %s while it ran on %s (I5)", e.job(), e.Worker, on)
			}
			running[e.job()] = e.Worker
		case "end":
			if running[e.job()] == e.Worker {
				delete(running, e.job())
			}
		}
	}
}

// parentsFirst: no start before the last end of every parent (I4).
func (o *oracle) parentsFirst() {
	first, last := make(map[job]int64), make(map[job]int64)
	for i := range o.events {
		switch e := &o.events[i]; e.What {
		case "start":
			if _, seen := first[e.job()]; !seen {
				first[e.job()] = e.At
			}
		case "end":
			last[e.job()] = e.At
		}
	}
	byWorkflow := make(map[string][]int32)
	for j := range first {
		byWorkflow[j.workflow] = append(byWorkflow[j.workflow], j.node)
	}
	// The jobs inside a node: itself, or the members of a batch.
	within := func(workflow string, node int32) []int32 {
		b := o.tables.batches[job{workflow, node}]
		if b == nil {
			return []int32{node}
		}
		return slices.DeleteFunc(slices.Clone(byWorkflow[workflow]), func(n int32) bool { return n < b.lo || n > b.hi })
	}
	for _, e := range o.tables.edges {
		var ended int64
		for _, n := range within(e.workflow, e.parent) {
			ended = max(ended, last[job{e.workflow, n}])
		}
		for _, n := range within(e.workflow, e.child) {
			if at, started := first[job{e.workflow, n}]; started && at < ended {
				o.fault("job %s/%d started %v before its parent %d ended (I4)", e.workflow, n, time.Duration(ended-at), e.parent)
			}
		}
	}
}

// longestPause is the longest time without a start while there was work.
func longestPause(all []event) time.Duration {
	var before, longest int64
	for i := range all {
		if all[i].What != "start" {
			continue
		}
		if before != 0 {
			longest = max(longest, all[i].At-before)
		}
		before = all[i].At
	}
	return time.Duration(longest)
}

// leaseCounts gives how often each job of a worker was started.
func startedBy(all []event, worker string) []job {
	jobs := make(map[job]bool)
	for i := range all {
		if all[i].What == "start" && all[i].Worker == worker {
			jobs[all[i].job()] = true
		}
	}
	return slices.SortedFunc(maps.Keys(jobs), func(a, b job) int {
		if a.workflow != b.workflow {
			if a.workflow < b.workflow {
				return -1
			}
			return 1
		}
		return int(a.node - b.node)
	})
}
