package pgembed

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A standby has what its primary has acknowledged, and takes writes once it is
// promoted, on another timeline.
func TestStandby(t *testing.T) {
	ctx := context.Background()
	run := func(dsn, sql string) (n int) {
		t.Helper()
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return n
	}
	dir, err := os.MkdirTemp("", "heddle-standby-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	primary, err := Start(ctx, Config{Dir: dir + "/1", Volatile: true, Settings: map[string]string{"synchronous_commit": "on"}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer primary.Stop(ctx)
	standby, err := Standby(ctx, Config{Dir: dir + "/2", Volatile: true, Logger: quiet}, primary)
	if err != nil {
		t.Fatal(err)
	}
	defer standby.Stop(ctx)
	if err := primary.WaitForStandby(ctx); err != nil {
		t.Fatal(err)
	}
	run(primary.DSN(), "SELECT 0 FROM pg_stat_replication WHERE sync_state = 'sync'")
	conn, err := pgx.Connect(ctx, primary.DSN())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "CREATE TABLE t AS SELECT 41 AS n"); err != nil {
		t.Fatal(err)
	}
	conn.Close(ctx)
	primary.Kill()
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	if n := run(standby.DSN(), "WITH u AS (UPDATE t SET n = n + 1 RETURNING n) SELECT n FROM u"); n != 42 {
		t.Errorf("the promoted standby has %d, want 42", n)
	}
}
