package schema_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/internal/pgtest"
	"github.com/heddle-io/heddle/schema"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func connect(t *testing.T, dsn, name string) *pgx.Conn {
	t.Helper()
	ctx := context.Background()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["search_path"] = name
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(ctx) })
	return conn
}

func value[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// TestMigrateAtOnce starts several nodes on an empty database.
func TestMigrateAtOnce(t *testing.T) {
	dsn := pgtest.DSN(t)
	ctx := context.Background()
	var wg sync.WaitGroup
	applied := make([]int, 6)
	for i := range applied {
		wg.Go(func() {
			steps, err := schema.Up(ctx, dsn, "")
			if err != nil {
				t.Error(err)
			}
			applied[i] = len(steps)
		})
	}
	wg.Wait()
	all, err := schema.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, n := range applied {
		sum += n
	}
	if sum != len(all) {
		t.Errorf("%v migrations applied, want %d by one node", applied, len(all))
	}
	conn := connect(t, dsn, "heddle")
	if err := schema.Check(ctx, conn); err != nil {
		t.Error(err)
	}
}

func TestUpDownStatus(t *testing.T) {
	dsn := pgtest.DSN(t)
	ctx := context.Background()
	all, err := schema.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	status := func() (applied int) {
		states, err := schema.Status(ctx, dsn, "other")
		if err != nil {
			t.Fatal(err)
		}
		if len(states) != len(all) {
			t.Fatalf("%d states of %d migrations", len(states), len(all))
		}
		for _, s := range states {
			if !s.AppliedAt.IsZero() {
				applied++
			}
		}
		return applied
	}
	if n := status(); n != 0 {
		t.Errorf("%d applied on an empty database", n)
	}
	for range 2 {
		if err := schema.Migrate(ctx, dsn, "other"); err != nil {
			t.Fatal(err)
		}
		if n := status(); n != len(all) {
			t.Errorf("%d of %d applied", n, len(all))
		}
		down, err := schema.Down(ctx, dsn, "other", 1)
		if err != nil || len(down) != 1 || down[0].Version != len(all) {
			t.Fatalf("down: %v, %v", down, err)
		}
		conn := connect(t, dsn, "other")
		if err := schema.Check(ctx, conn); !errors.Is(err, schema.ErrOlder) {
			t.Errorf("check of an old schema: %v", err)
		}
		if down, err = schema.Down(ctx, dsn, "other", 100); err != nil || len(down) != len(all)-1 {
			t.Fatalf("down to nothing: %v, %v", down, err)
		}
		left := value[int64](t, conn, `SELECT count(*) FROM pg_class WHERE relnamespace = 'other'::regnamespace AND relkind IN ('r', 'p', 'v')`)
		if left != 1 { // schema_migrations
			t.Errorf("%d tables left", left)
		}
	}
}

func TestNewerIsRefused(t *testing.T) {
	dsn := pgtest.DSN(t)
	ctx := context.Background()
	if err := schema.Migrate(ctx, dsn, ""); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn, "heddle")
	if _, err := conn.Exec(ctx, `INSERT INTO schema_migrations (version, name) VALUES (999, 'from the future')`); err != nil {
		t.Fatal(err)
	}
	if err := schema.Migrate(ctx, dsn, ""); !errors.Is(err, schema.ErrNewer) || !strings.Contains(err.Error(), "999") {
		t.Errorf("migrate: %v", err)
	}
	if err := schema.Check(ctx, conn); !errors.Is(err, schema.ErrNewer) {
		t.Errorf("check: %v", err)
	}
}

func TestTwoSchemasInOneDatabase(t *testing.T) {
	dsn := pgtest.DSN(t)
	ctx := context.Background()
	for _, name := range []string{"one", "two words"} {
		if err := schema.Migrate(ctx, dsn, name); err != nil {
			t.Fatal(err)
		}
		conn := connect(t, dsn, pgx.Identifier{name}.Sanitize())
		if _, err := conn.Exec(ctx, `SELECT heddle_ensure_partitions('2026-11-20', '2026-11-21')`); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := value[int64](t, conn, `SELECT count(*) FROM finished_jobs`); n != 0 {
			t.Errorf("%s: %d rows", name, n)
		}
	}
}

func TestPartitionsAtOnce(t *testing.T) {
	dsn := pgtest.DSN(t)
	ctx := context.Background()
	if err := schema.Migrate(ctx, dsn, ""); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	made := make([]int32, 6)
	for i := range made {
		conn := connect(t, dsn, "heddle")
		wg.Go(func() {
			if err := conn.QueryRow(ctx, `SELECT heddle_ensure_partitions('2026-11-20', '2026-11-22')`).Scan(&made[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sum := int32(0)
	for _, n := range made {
		sum += n
	}
	if sum != 12 {
		t.Errorf("%v tables made, want 12 in all", made)
	}
	conn := connect(t, dsn, "heddle")
	bounds := value[string](t, conn, `SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'finished_jobs_20261120'`)
	want := "FOR VALUES FROM ('01a1f640-bc00-0000-0000-000000000000') TO ('01a1fb67-1800-0000-0000-000000000000')"
	if bounds != want {
		t.Errorf("bounds %s, want %s", bounds, want)
	}
	lz4 := value[bool](t, conn, `SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'`)
	compression := value[string](t, conn, `SELECT attcompression::text FROM pg_attribute WHERE attrelid = 'payloads_20261120'::regclass AND attname = 'body'`)
	if lz4 != (compression == "l") {
		t.Errorf("compression %q although lz4 is %v", compression, lz4)
	}
	if n := value[int64](t, conn, `SELECT count(*) FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid WHERE c.relkind = 'r' AND c.reloptions @> '{autovacuum_freeze_min_age=0}'`); n != 12 {
		t.Errorf("%d partitions with their settings", n)
	}
}

// TestPartitionsBlockNobody makes partitions while a reader and a writer of
// the history keep their transactions open.
func TestPartitionsBlockNobody(t *testing.T) {
	dsn := pgtest.DSN(t)
	ctx := context.Background()
	if err := schema.Migrate(ctx, dsn, ""); err != nil {
		t.Fatal(err)
	}
	user := connect(t, dsn, "heddle")
	for _, sql := range []string{
		`SELECT heddle_ensure_partitions('2026-11-20', '2026-11-20')`,
		`BEGIN`,
		`SELECT count(*) FROM finished_jobs`,
		`INSERT INTO edges (workflow_id, parent, child) VALUES ('01a1f640-bc00-7000-8000-000000000001', 1, 2)`,
	} {
		if _, err := user.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	maker := connect(t, dsn, "heddle")
	if _, err := maker.Exec(ctx, `SET lock_timeout = '2s'`); err != nil {
		t.Fatal(err)
	}
	if _, err := maker.Exec(ctx, `SELECT heddle_ensure_partitions('2026-11-21', '2026-11-23')`); err != nil {
		t.Error(err)
	}
	if _, err := user.Exec(ctx, `COMMIT`); err != nil {
		t.Error(err)
	}
}

func TestEveryMigrationHasBothWays(t *testing.T) {
	all, err := schema.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range all {
		if m.Version != i+1 || m.Name == "" || m.Up == "" || m.Down == "" {
			t.Errorf("migration %d: %+v", i+1, m)
		}
		for _, sql := range []string{m.Up, m.Down} {
			if !strings.HasPrefix(sql, "-- ") || !strings.Contains(strings.SplitAfterN(sql, ";", 2)[0], "Takes ") {
				t.Errorf("migration %d: its header does not say which lock it takes", m.Version)
			}
		}
	}
}

func ExampleMigrations() {
	all, _ := schema.Migrations()
	fmt.Println(all[0].Version, all[0].Name)
	// Output: 1 create tables
}
