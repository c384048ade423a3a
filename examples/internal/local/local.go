// Package local runs what the examples need in their own process: a Postgres
// and an engine, both on loopback, both gone at the end.
package local

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/heddle-io/heddle/engine"
	"github.com/heddle-io/heddle/internal/pgembed"
)

// Local is a running engine with its Postgres.
type Local struct {
	// URL of the engine's API, as "http://127.0.0.1:41234".
	URL string
	// DSN of the database; the engine's tables are in the schema "heddle", the
	// rest is free for the example's own.
	DSN string

	dir      string
	postgres *pgembed.Server
	engine   *engine.Engine
}

// Start runs both in a new directory below the system's temporary one. listen
// is the engine's address; port 0 picks one. A worker that is silent for ttl
// is lost; 0: the default.
func Start(ctx context.Context, listen string, ttl time.Duration) (l *Local, err error) {
	l = &Local{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Stop())
			l = nil
		}
	}()
	if l.dir, err = os.MkdirTemp("", "heddle-example-"); err != nil {
		return l, err
	}
	// Run by root, the server belongs to another user, who must get in.
	if err = os.Chmod(l.dir, 0o755); err != nil {
		return l, err
	}
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if l.postgres, err = pgembed.Start(ctx, pgembed.Config{Dir: filepath.Join(l.dir, "postgres"), Logger: quiet}); err != nil {
		return l, err
	}
	l.DSN = l.postgres.DSN()
	cfg := engine.DefaultConfig()
	cfg.Postgres, cfg.DataDir, cfg.Listen, cfg.Logger = l.DSN, filepath.Join(l.dir, "engine"), listen, quiet
	if ttl > 0 {
		cfg.SessionTTL = ttl
	}
	e, err := engine.New(cfg)
	if err != nil {
		return l, err
	}
	if err = e.Start(ctx); err != nil {
		return l, err
	}
	l.engine, l.URL = e, "http://"+e.Addr()
	return l, nil
}

// Stop ends both and removes their data.
func (l *Local) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	if l.engine != nil {
		errs = append(errs, l.engine.Stop(ctx))
	}
	if l.postgres != nil {
		errs = append(errs, l.postgres.Stop(ctx))
	}
	if l.dir != "" {
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}
