package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/internal/pgembed"
)

// postgres is the one server that all peers share, with default durability.
type postgres struct {
	server *pgembed.Server
	dir    string
	n      int
}

func startPostgres(ctx context.Context) (*postgres, error) {
	dir, err := os.MkdirTemp("", "heddle-bench-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	s, err := pgembed.Start(ctx, pgembed.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler), Settings: map[string]string{
		"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "15min", "max_connections": "300", "wal_compression": "off",
	}})
	if err != nil {
		return nil, err
	}
	return &postgres{server: s, dir: dir}, nil
}

func (p *postgres) stop() {
	if err := p.server.Stop(context.Background()); err != nil {
		slog.Error("stop postgres", "error", err)
	}
	os.RemoveAll(p.dir)
}

// database creates a fresh one; drop removes it.
func (p *postgres) database(ctx context.Context) (dsn string, drop func(), err error) {
	p.n++
	name := fmt.Sprintf("bench_%d", p.n)
	if err := p.exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", nil, err
	}
	u, err := url.Parse(p.server.DSN())
	if err != nil {
		return "", nil, err
	}
	u.Path = "/" + name
	return u.String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := p.exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			slog.Error("drop database", "error", err)
		}
		if err := p.exec(ctx, "CHECKPOINT"); err != nil { // so that no peer pays for another's dirty pages
			slog.Error("checkpoint", "error", err)
		}
	}, nil
}

func (p *postgres) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, p.server.DSN())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// wal is the position in the log, in bytes.
func (p *postgres) wal(ctx context.Context) (int64, error) {
	conn, err := pgx.Connect(ctx, p.server.DSN())
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	var at int64
	err = conn.QueryRow(ctx, "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::int8").Scan(&at)
	return at, err
}
