package faults

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	heddle "github.com/heddle-io/heddle/sdk"
)

// finished is a row of the history.
type finished struct {
	job
	batch   *int32
	attempt int
	outcome heddle.Outcome
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
}

// How attempts end that do not finish their job.
const (
	howLost     = 2
	howReleased = 4
)

// batch is a row of batches, or of workflows as node 0.
type batch struct {
	parent, lo, hi                      int32
	state                               int16
	outcome                             heddle.Outcome
	total                               int
	succeeded, failed, cancelled, skips int
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
	each(t, tx, "SELECT workflow_id, node, batch, attempt, outcome, coalesce(error, '') FROM finished_jobs", func(rows pgx.Rows) error {
		var f finished
		var id uuid.UUID
		if err := rows.Scan(&id, &f.Node, &f.batch, &f.attempt, &f.outcome, &f.error); err != nil {
			return err
		}
		f.Workflow = id.String()
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
		s.open[job{Workflow: id.String(), Node: node}] = text
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
		j := job{Workflow: id.String(), Node: node}
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
		s.batches[job{Workflow: id.String(), Node: node}] = &b
		return nil
	})
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
