package store

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// explainer notes the plan of every statement before it runs.
type explainer struct {
	to    db.DBTX
	t     testing.TB
	plans []string
}

func (e *explainer) explain(sql string, args []any) {
	e.t.Helper()
	rows, err := e.to.Query(context.Background(), "EXPLAIN "+sql, args...)
	if err != nil {
		e.t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		e.t.Fatal(err)
	}
	e.plans = append(e.plans, strings.Join(lines, "\n"))
}

func (e *explainer) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	e.explain(sql, args)
	return e.to.Exec(ctx, sql, args...)
}

func (e *explainer) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	e.explain(sql, args)
	return e.to.Query(ctx, sql, args...)
}

func (e *explainer) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	e.explain(sql, args)
	return e.to.QueryRow(ctx, sql, args...)
}

// take gives the plans noted since the last call.
func (e *explainer) take() string {
	defer func() { e.plans = nil }()
	return strings.Join(e.plans, "\n\n")
}

// large fills a store by SQL: jobs most of which are blocked, a history most of
// which succeeded, workflows most of which have ended. The statistics of jobs are
// left as they are on a busy server: none.
func large(t testing.TB, s *Store) {
	t.Helper()
	submitOne(t, s, lone("mail"))
	id := `(lpad(to_hex((extract(epoch FROM now()) * 1000)::int8 - %s), 12, '0') || '70008000' || lpad(to_hex(g), 12, '0'))::uuid`
	exec(t, s, `INSERT INTO workflows (id, created_at, finished_at, next_node, total, state, outcome)
		SELECT `+fmt.Sprintf(id, "g")+`, now(), now(), 2, 1, CASE WHEN g < 10 THEN 1 ELSE 2 END, 1 FROM generate_series(1, 20000) g`)
	exec(t, s, `INSERT INTO jobs (workflow_id, run_at, node, route, batch, state, priority, max_attempts)
		SELECT `+fmt.Sprintf(id, "100")+`, now() - interval '1 minute', 1, 1, 0, CASE WHEN g % 1000 = 0 THEN 1 ELSE 0 END, 2, 10 FROM generate_series(1, 60000) g`)
	exec(t, s, `INSERT INTO finished_jobs (workflow_id, run_at, finished_at, node, route, turn, outcome, priority, attempt, max_attempts, key, error)
		SELECT `+fmt.Sprintf(id, "g")+`, now(), now() - g * interval '1 second', 1, 1, 1, CASE WHEN g % 50 = 0 THEN 2 ELSE 1 END, 2, 1, 10, '', 'x' FROM generate_series(1, 60000) g`)
	exec(t, s, `ANALYZE finished_jobs`)
	exec(t, s, `ANALYZE workflows`)
}

// The page's lists are read in the order of the index that is meant for them: no
// table is read whole, and nothing is collected to be sorted.
func TestPlans(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	large(t, s)
	e := &explainer{to: s.read, t: t}
	s.rdb = db.New(e)
	list := func(states ...heddlev1.State) func() error {
		return func() error {
			_, err := s.Jobs(ctx, &heddlev1.JobServiceListRequest{States: states})
			return err
		}
	}
	whole := regexp.MustCompile(`Seq Scan on (jobs|finished_jobs|workflows|batches|edges|attempts)`)
	for name, c := range map[string]struct {
		read func() error
		want []string
		sort bool
	}{
		"all jobs":       {list(), []string{"jobs_pkey", "finished_jobs_[0-9]*_pkey"}, false},
		"succeeded jobs": {list(heddlev1.State_STATE_SUCCEEDED), []string{"Index Scan Backward using finished_jobs_[0-9]*_pkey"}, false},
		"failed jobs":    {list(heddlev1.State_STATE_FAILED), []string{"Index Scan Backward using finished_jobs_[0-9]*_outcome"}, false},
		"available jobs": {list(heddlev1.State_STATE_AVAILABLE), []string{"using jobs_ready"}, false},
		"retryable jobs": {list(heddlev1.State_STATE_RETRYABLE), []string{"Backward using jobs_ready"}, false},
		"running workflows": {func() error {
			_, err := s.Workflows(ctx, &heddlev1.ListRequest{States: []heddlev1.State{heddlev1.State_STATE_RUNNING}})
			return err
		}, []string{"Backward using workflows_running"}, false},
		"running batches": {func() error {
			_, err := s.Batches(ctx, &heddlev1.BatchServiceListRequest{States: []heddlev1.State{heddlev1.State_STATE_RUNNING}})
			return err
		}, []string{"Backward using workflows_running", "batches_pkey"}, false},
		"failures": {func() error {
			_, err := s.Failures(ctx, &heddlev1.StatsServiceFailuresRequest{})
			return err
		}, []string{"Backward using finished_jobs_[0-9]*_outcome"}, false},
		"totals": {func() error {
			_, err := s.Totals(ctx)
			return err
		}, []string{"Index Only Scan Backward using jobs_ready", "workflows_running", "using finished_jobs_[0-9]*_outcome", "jobs_pkey"}, true},
	} {
		if err := c.read(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		plan := e.take()
		for _, want := range c.want {
			if !regexp.MustCompile(want).MatchString(plan) {
				t.Errorf("%s: no %q in\n%s", name, want, plan)
			}
		}
		if whole.MatchString(plan) || !c.sort && strings.Contains(plan, "Sort Key") && !strings.Contains(plan, "Merge Append") {
			t.Errorf("%s: a table is read whole, or sorted, in\n%s", name, plan)
		}
	}
}

// A statement of the page's is given up after a time, and cannot write.
func TestReadPoolIsBounded(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	short, err := Open(ctx, Config{DSN: s.config.DSN, ReadTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer short.Close()
	if _, err := short.read.Exec(ctx, `SELECT pg_sleep(10)`); sqlState(err) != "57014" {
		t.Errorf("a long statement: %v", err)
	}
	if _, err := short.read.Exec(ctx, `DELETE FROM jobs`); sqlState(err) != "25006" {
		t.Errorf("a write: %v", err)
	}
	// Whoever holds all connections of the page holds up nobody else.
	held := 0
	for range int(short.read.Config().MaxConns) {
		conn, err := short.read.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		held++
	}
	if out := short.Submit(ctx, []model.Submission{lone("mail")}); out[0].Err != nil || held != 4 {
		t.Errorf("%d connections held, submit: %v", held, out[0].Err)
	}
}
