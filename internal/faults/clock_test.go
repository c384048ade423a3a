package faults

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/heddle-io/heddle/internal/oracle"
	"github.com/heddle-io/heddle/internal/pgtest"
	heddle "github.com/heddle-io/heddle/sdk"
)

// turnableClock gives a fresh database whose clock can be set: the functions
// that tell the time there are replaced by ones that add a step. It gives the
// database, and how to set the step.
func turnableClock(t testing.TB) (dsn string, set func(step time.Duration)) {
	t.Helper()
	dsn = pgtest.DSN(t)
	for _, sql := range []string{
		"CREATE SCHEMA turned",
		"CREATE TABLE turned.clock (step interval NOT NULL)",
		"INSERT INTO turned.clock VALUES ('0')",
	} {
		pgtest.Exec(t, dsn, sql)
	}
	for _, f := range []string{"now", "clock_timestamp", "statement_timestamp", "transaction_timestamp"} {
		volatility := "STABLE"
		if f == "clock_timestamp" {
			volatility = "VOLATILE"
		}
		pgtest.Exec(t, dsn, fmt.Sprintf("ALTER FUNCTION pg_catalog.%s() RENAME TO true_%s", f, f))
		pgtest.Exec(t, dsn, fmt.Sprintf(
			"CREATE FUNCTION pg_catalog.%s() RETURNS timestamptz LANGUAGE sql %s AS 'SELECT pg_catalog.true_%s() + step FROM turned.clock'", f, volatility, f))
	}
	return dsn, func(step time.Duration) {
		t.Helper()
		pgtest.Exec(t, dsn, "UPDATE turned.clock SET step = make_interval(secs => $1)", step.Seconds())
	}
}

// The clock of the database goes back under load, twice. What became due before
// may wait for as long as the clock was set back; nothing is lost, nothing runs
// twice, and nothing that was delayed starts early.
func TestDatabaseClockGoesBack(t *testing.T) {
	t.Parallel()
	dsn, set := turnableClock(t)
	s := serve(t, dsn, 10*time.Second)
	v := newEvents(t)
	c := s.client(nil)
	hire(t, s, v, "a", 20, nil)
	l := newLoad(t, c, 9)

	const back, delay = 1500 * time.Millisecond, time.Second
	submitted := time.Now()
	delayed, err := c.Submit(t.Context(), taskKind.Job(task{}, heddle.JobOptions{Delay: delay}))
	if err != nil {
		t.Fatal(err)
	}
	l.acked(l.add(&submission{lone: true, jobs: 1, want: heddle.Succeeded}), delayed.ID())
	l.begin(40)
	for i := range 2 {
		l.reach(v, (i+1)*300)
		set(time.Duration(i+1) * -back)
	}
	l.finish()
	settle(t, dsn, patience)
	took := time.Since(submitted)
	judge(t, dsn, v, l.submitted())
	for _, e := range v.read() {
		if e.What == oracle.Start && e.Workflow == delayed.ID() && time.Unix(0, e.At).Sub(submitted) < delay {
			t.Errorf("the delayed job started %v after its submission, want at least %v", time.Unix(0, e.At).Sub(submitted), delay)
		}
	}
	// New work starts at once by the clock as it is now.
	begin := time.Now()
	run, err := c.Submit(t.Context(), taskKind.Job(task{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("all ended %v after the first submission; a job submitted then took %v", took, time.Since(begin))
	var behind bool
	conn := dial(t, dsn)
	defer conn.Close(t.Context())
	err = conn.QueryRow(t.Context(), "SELECT true_now() - finished_at > $2 FROM finished_jobs WHERE workflow_id = $1", run.ID(), 2*back-time.Second).Scan(&behind)
	if err != nil || !behind {
		t.Errorf("the clock that the engine wrote by was not set back: %v", err)
	}
	// What nobody has looked at waits a little longer than the step at most.
	var later []*heddle.Run
	for range 5 {
		run, err := c.Submit(t.Context(), taskKind.Job(task{}, heddle.JobOptions{Queue: "later"}))
		if err != nil {
			t.Fatal(err)
		}
		later = append(later, run)
	}
	set(-3 * back)
	begin = time.Now()
	hire(t, s, v, "b", 20, func(c *workerConfig) { c.Queues = []string{"later"} })
	for _, run := range later {
		if o, err := run.Wait(t.Context()); err != nil || o != heddle.Succeeded {
			t.Errorf("a job that was due before the clock went back: %v, %v", o, err)
		}
	}
	if took := time.Since(begin); took > back+10*time.Second {
		t.Errorf("jobs waited %v after the clock had gone back by %v", took, back)
	}
	// The engine starts on a database whose clock is behind what it wrote.
	s.kill()
	set(-4 * back)
	s.launch()
	if _, err := taskKind.Call(t.Context(), c, task{}); err != nil {
		t.Fatal(err)
	}
}

// The clocks of submitters do not matter up to a day; beyond, their ids are
// refused, for they name partitions that do not exist.
func TestClocksOfSubmitters(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	s := serve(t, dsn, 10*time.Second)
	v := newEvents(t)
	hire(t, s, v, "a", 5, nil)
	var subs []*submission
	for _, off := range []time.Duration{0, -time.Hour, time.Hour, -23 * time.Hour, 23 * time.Hour, -25 * time.Hour, 25 * time.Hour} {
		id := idAt(time.Now().Add(off))
		body := fmt.Sprintf(`{"submissions": [{"id": %q, "job": {"kind": "task", "argsJson": "{}"}}]}`, id)
		a := s.post(t, "WorkflowService/Submit", body)
		if off > 24*time.Hour || off < -24*time.Hour {
			a.refused(t, fmt.Sprintf("a submitter whose clock is off by %v", off), "invalid_argument", id)
			continue
		}
		if len(a.Results) != 1 || !a.Results[0].Created {
			t.Errorf("a submitter whose clock is off by %v: %+v", off, a)
		}
		subs = append(subs, &submission{id: id, acked: true, lone: true, jobs: 1, want: heddle.Succeeded})
	}
	settle(t, dsn, patience)
	judge(t, dsn, v, subs)
}

// idAt makes the id that a submitter with that clock makes.
func idAt(at time.Time) string {
	id := uuid.Must(uuid.NewV7())
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(id[:6], ms[2:])
	return id.String()
}
