package oracle

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/internal/pgtest"
	"github.com/heddle-io/heddle/schema"
)

// migrated gives a connection to fresh tables and their DSN.
func migrated(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	ctx := context.Background()
	if err := schema.Migrate(ctx, dsn, "heddle"); err != nil {
		t.Fatal(err)
	}
	conn, err := dial(ctx, dsn, "heddle")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(ctx) })
	return conn
}

// sane is a graph in the middle: job 1 succeeded, job 2 failed, 3 waits for
// both and for any of 1 and 4, which is ready; batch 5 with the member 6 waits
// for 4. The batch 7 has run, with its one member 8.
const sane = `
INSERT INTO routes (queue, kind) VALUES ('q', 'k');
CREATE TABLE history PARTITION OF finished_jobs FOR VALUES FROM ('00000000-0000-0000-0000-000000000000') TO ('ffffffff-ffff-ffff-ffff-ffffffffffff');
CREATE TABLE ties PARTITION OF edges FOR VALUES FROM ('00000000-0000-0000-0000-000000000000') TO ('ffffffff-ffff-ffff-ffff-ffffffffffff');
INSERT INTO workflows (id, created_at, next_node, total, succeeded, failed, state) VALUES ('01890a5d-ac96-774b-bcce-b302099a8000', now(), 9, 6, 2, 1, 1);
INSERT INTO batches (workflow_id, node, parent, lo, hi, need, total, state) VALUES ('01890a5d-ac96-774b-bcce-b302099a8000', 5, 0, 6, 6, 1, 1, 0);
INSERT INTO batches (workflow_id, node, parent, lo, hi, total, succeeded, state, outcome) VALUES ('01890a5d-ac96-774b-bcce-b302099a8000', 7, 0, 8, 8, 1, 1, 2, 1);
INSERT INTO finished_jobs (workflow_id, run_at, finished_at, node, route, turn, batch, outcome, priority, attempt, max_attempts, key)
SELECT '01890a5d-ac96-774b-bcce-b302099a8000', now(), now(), n, 1, 1, b, o, 2, 1, 1, '' FROM (VALUES (1, 0, 1), (2, 0, 2), (8, 7, 1)) v(n, b, o);
INSERT INTO jobs (workflow_id, run_at, node, route, batch, state, priority, max_attempts, need, slack, join_k)
SELECT '01890a5d-ac96-774b-bcce-b302099a8000', now(), n, 1, b, s, 2, 1, need, slack, k
  FROM (VALUES (3, 0, 0, 1, NULL::int4, NULL::int4), (4, 0, 1, NULL, NULL, NULL), (6, 5, 0, NULL, NULL, NULL)) v(n, b, s, need, slack, k);
INSERT INTO edges (workflow_id, parent, child, on_set)
SELECT '01890a5d-ac96-774b-bcce-b302099a8000', p, c, o FROM (VALUES (1, 3, 1), (2, 3, 2), (4, 3, 1), (4, 5, 1)) v(p, c, o);
`

// The statements find what is put into sane tables, and nothing in those.
func TestCheckBites(t *testing.T) {
	ctx := context.Background()
	conn := migrated(t, pgtest.DSN(t))
	if _, err := conn.Exec(ctx, sane); err != nil {
		t.Fatal(err)
	}
	for _, scope := range []Scope{Running, Everything} {
		if found, err := Check(ctx, conn, scope); err != nil || len(found) != 0 {
			t.Fatalf("sane tables: %v, %v", found, err)
		}
	}
	for what, c := range map[string]struct {
		invariant, subject string
		harm               string
		scope              Scope
	}{
		"open and finished": {"I1", "/1", `INSERT INTO jobs (workflow_id, run_at, node, route, batch, state, priority, max_attempts) SELECT workflow_id, now(), 1, 1, 0, 1, 2, 1 FROM edges LIMIT 1`, Running},
		"need too high":     {"I2", "/3", `UPDATE jobs SET need = 2 WHERE node = 3`, Running},
		"need too low":      {"I2", "/3", `UPDATE jobs SET need = 0 WHERE node = 3`, Running},
		"slack too high":    {"I2", "/3", `UPDATE jobs SET slack = 1 WHERE node = 3`, Running},
		"a batch's need":    {"I2", "/5", `UPDATE batches SET need = 2 WHERE node = 5`, Running},
		"a join's need":     {"I2", "/3", `UPDATE jobs SET join_k = 1 WHERE node = 3`, Running},
		"a dead edge":       {"I2", "/3", `UPDATE edges SET on_set = 1 WHERE parent = 2`, Running},
		"ready and blocked": {"I2", "/6", `UPDATE batches SET state = 1 WHERE node = 5`, Running},
		"one too many":      {"I3", "/0", `UPDATE workflows SET succeeded = 3`, Running},
		"a member lost":     {"I3", "/7", `DELETE FROM finished_jobs WHERE node = 8`, Running},
		"ended too early":   {"I3", "/5", `UPDATE batches SET state = 2, outcome = 1 WHERE node = 5`, Running},
		"not ended":         {"I3", "/7", `UPDATE batches SET state = 1, outcome = 0 WHERE node = 7`, Running},
		"in ended ones too": {"I3", "/0", `UPDATE workflows SET state = 2, outcome = 1`, Everything},
		"a job left":        {"I12", "/4", `SELECT`, Ended},
		"a batch left":      {"I12", "/5", `SELECT`, Ended},
		"a workflow left":   {"I12", "/0", `SELECT`, Ended},
		"a cascade left":    {"I12", "/7", `INSERT INTO cascades (workflow_id, node, kind, cursor) SELECT workflow_id, 7, 1, 8 FROM edges LIMIT 1`, Ended},
	} {
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, c.harm); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		found, err := Check(ctx, tx, c.scope)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !slices.ContainsFunc(found, func(v Violation) bool {
			return v.Invariant == c.invariant && v.Subject == graphID.String()+c.subject
		}) {
			t.Errorf("%s: nothing about %s of %s in %v", what, c.invariant, c.subject, found)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// A cascade under way makes no violation: its members are not settled.
func TestCheckLeavesCascadesAlone(t *testing.T) {
	ctx := context.Background()
	conn := migrated(t, pgtest.DSN(t))
	if _, err := conn.Exec(ctx, sane+`UPDATE workflows SET succeeded = 3; INSERT INTO cascades (workflow_id, node, kind, cursor) SELECT workflow_id, 7, 1, 8 FROM edges LIMIT 1`); err != nil {
		t.Fatal(err)
	}
	if found, err := Check(ctx, conn, Everything); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

// A reign that writes after the next one has taken over is found by the commit
// times; the fence itself still refuses.
func TestWatchFenceBites(t *testing.T) {
	ctx := context.Background()
	pg := pgtest.Server(t, false, map[string]string{"track_commit_timestamp": "on"})
	conn := migrated(t, pg.DSN())
	for range 2 { // an engine that starts again is watched on
		if err := WatchFence(ctx, pg.DSN(), "heddle"); err != nil {
			t.Fatal(err)
		}
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	check := func() []Violation {
		t.Helper()
		found, err := checkFence(ctx, conn)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for _, sql := range []string{
		"UPDATE fence SET epoch = 3", "SELECT heddle_fence(3, heddle_timeline())", "SELECT heddle_fence(3, heddle_timeline())",
		"UPDATE fence SET epoch = 5", "SELECT heddle_fence(5, heddle_timeline())",
	} {
		exec(sql)
	}
	if found := check(); len(found) != 0 {
		t.Errorf("sound reigns: %v", found)
	}
	if _, err := conn.Exec(ctx, "SELECT heddle_fence(3, heddle_timeline())"); err == nil {
		t.Error("the fence let an older reign pass")
	}
	exec("CREATE OR REPLACE FUNCTION oracle_fence_of(want_epoch int8, want_timeline int4) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$")
	exec("SELECT heddle_fence(3, heddle_timeline())")
	found := check()
	if len(found) != 1 || found[0].Invariant != "I6" || found[0].Subject != "epoch 3" {
		t.Errorf("a write of epoch 3 after 5: %v", found)
	}
}
