// Package schema owns Heddle's tables: the numbered migrations, embedded, and
// the code that applies them. Every node runs Migrate when it starts; nodes
// that start at once take turns by an advisory lock of the database. The
// package starts no goroutine and holds no connection between calls.
package schema

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed *.sql
var files embed.FS

// Default is the name of the Postgres schema that holds Heddle's tables.
const Default = "heddle"

// MinServer is the oldest PostgreSQL that works, as server_version_num.
const MinServer = 150000

// ErrNewer: the database was migrated by a newer program.
var ErrNewer = errors.New("the database is newer than this program")

// ErrOlder: the database lacks migrations that this program needs.
var ErrOlder = errors.New("the database is older than this program")

// Migration is one numbered step.
type Migration struct {
	Version  int
	Name     string // imperative, as in "create tables"
	Up, Down string
}

// State tells whether a migration has been applied.
type State struct {
	Migration
	// AppliedAt is zero while it is not.
	AppliedAt time.Time
}

// Migrations lists the embedded steps in order.
func Migrations() ([]Migration, error) {
	names, err := fs.Glob(files, "*.up.sql")
	if err != nil {
		return nil, err
	}
	steps := make([]Migration, 0, len(names))
	for i, up := range names {
		base := strings.TrimSuffix(up, ".up.sql")
		number, name, _ := strings.Cut(base, "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("migration %s: want number %04d", up, i+1)
		}
		upSQL, err := files.ReadFile(up)
		if err != nil {
			return nil, err
		}
		downSQL, err := files.ReadFile(base + ".down.sql")
		if err != nil {
			return nil, err
		}
		steps = append(steps, Migration{Version: version, Name: strings.ReplaceAll(name, "_", " "), Up: string(upSQL), Down: string(downSQL)})
	}
	return steps, nil
}

// Migrate brings the Postgres schema named schema (empty: Default) to this
// program's version and creates it if it is missing. It is safe to call from
// several nodes at once, and cheap when there is nothing to do. A database
// that is newer gives ErrNewer and is left alone.
func Migrate(ctx context.Context, dsn, schema string) error {
	_, err := Up(ctx, dsn, schema)
	return err
}

// Up applies every missing migration in one transaction and returns them.
func Up(ctx context.Context, dsn, schema string) ([]Migration, error) {
	var done []Migration
	err := inTx(ctx, dsn, schema, true, func(tx pgx.Tx, steps []Migration, applied int) error {
		for _, m := range steps[applied:] {
			if err := run(ctx, tx, m.Up); err != nil {
				return fmt.Errorf("migration %d (%s): %w", m.Version, m.Name, err)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO schema_migrations (version, name) VALUES ($1, $2)`, m.Version, m.Name); err != nil {
				return err
			}
			done = append(done, m)
		}
		return nil
	})
	return done, err
}

// Down takes the last n migrations back in one transaction and returns them,
// newest first. Taking the first one back removes every table with its data.
func Down(ctx context.Context, dsn, schema string, n int) ([]Migration, error) {
	var done []Migration
	err := inTx(ctx, dsn, schema, false, func(tx pgx.Tx, steps []Migration, applied int) error {
		for ; n > 0 && applied > 0; n, applied = n-1, applied-1 {
			m := steps[applied-1]
			if err := run(ctx, tx, m.Down); err != nil {
				return fmt.Errorf("migration %d (%s) back: %w", m.Version, m.Name, err)
			}
			if _, err := tx.Exec(ctx, `DELETE FROM schema_migrations WHERE version = $1`, m.Version); err != nil {
				return err
			}
			done = append(done, m)
		}
		return nil
	})
	return done, err
}

// Status lists all migrations with the time each was applied.
func Status(ctx context.Context, dsn, schema string) ([]State, error) {
	var states []State
	err := inTx(ctx, dsn, schema, false, func(tx pgx.Tx, steps []Migration, applied int) error {
		at := map[int]time.Time{}
		if applied > 0 {
			rows, err := tx.Query(ctx, `SELECT version, applied_at FROM schema_migrations`)
			if err != nil {
				return err
			}
			var version int
			var when time.Time
			if _, err := pgx.ForEachRow(rows, []any{&version, &when}, func() error { at[version] = when; return nil }); err != nil {
				return err
			}
		}
		for _, m := range steps {
			states = append(states, State{Migration: m, AppliedAt: at[m.Version]})
		}
		return nil
	})
	return states, err
}

// Querier is what Check needs of a connection or pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Check compares the version found through q, whose search_path begins with
// Heddle's schema, with this program's: nil, ErrNewer or ErrOlder.
func Check(ctx context.Context, q Querier) error {
	steps, err := Migrations()
	if err != nil {
		return err
	}
	if err := checkServer(ctx, q); err != nil {
		return err
	}
	var schema string
	var there bool
	if err := q.QueryRow(ctx, `SELECT coalesce(current_schema()::text, ''), to_regclass('schema_migrations') IS NOT NULL`).Scan(&schema, &there); err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("the database has no tables of Heddle yet: run the migrations: %w", ErrOlder)
	}
	version, err := readVersion(ctx, q)
	if err != nil {
		return err
	}
	return compare(schema, version, len(steps))
}

func compare(schema string, version, known int) error {
	switch {
	case version > known:
		return fmt.Errorf("schema %q is at version %d, this program knows up to %d: run a newer program: %w", schema, version, known, ErrNewer)
	case version < known:
		return fmt.Errorf("schema %q is at version %d, this program needs %d: run the migrations: %w", schema, version, known, ErrOlder)
	}
	return nil
}

func checkServer(ctx context.Context, q Querier) error {
	var number int
	var text string
	if err := q.QueryRow(ctx, `SELECT current_setting('server_version_num')::int4, current_setting('server_version')`).Scan(&number, &text); err != nil {
		return err
	}
	if number < MinServer {
		return fmt.Errorf("postgres %s is too old: version %d or later is needed", text, MinServer/10000)
	}
	return nil
}

func readVersion(ctx context.Context, q Querier) (int, error) {
	var version int
	err := q.QueryRow(ctx, `SELECT COALESCE(max(version), 0) FROM schema_migrations`).Scan(&version)
	return version, err
}

// inTx runs work in one transaction that holds the migration lock of this
// schema, with the number of migrations applied so far. create makes the
// Postgres schema and the version table where they are missing.
func inTx(ctx context.Context, dsn, schema string, create bool, work func(tx pgx.Tx, steps []Migration, applied int) error) error {
	if schema == "" {
		schema = Default
	}
	steps, err := Migrations()
	if err != nil {
		return err
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("postgres dsn: %w", err)
	}
	config.RuntimeParams["search_path"] = pgx.Identifier{schema}.Sanitize()
	config.RuntimeParams["default_transaction_isolation"] = "read committed"
	config.RuntimeParams["client_min_messages"] = "warning"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := checkServer(ctx, conn); err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('heddle migrate ' || $1, 0))`, schema); err != nil {
			return err
		}
		var hasSchema bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, schema).Scan(&hasSchema); err != nil {
			return err
		}
		if create && !hasSchema {
			if _, err := tx.Exec(ctx, `CREATE SCHEMA `+pgx.Identifier{schema}.Sanitize()); err != nil {
				return err
			}
		}
		var hasTable bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass('schema_migrations') IS NOT NULL`).Scan(&hasTable); err != nil {
			return err
		}
		applied := 0
		switch {
		case hasTable:
			if applied, err = readVersion(ctx, tx); err != nil {
				return err
			}
		case create:
			if err := run(ctx, tx, `CREATE TABLE schema_migrations (version int4 PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`); err != nil {
				return err
			}
		}
		if applied > len(steps) {
			return compare(schema, applied, len(steps))
		}
		return work(tx, steps, applied)
	})
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// run sends several statements as one simple query.
func run(ctx context.Context, tx pgx.Tx, sql string) error {
	_, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll()
	return err
}
