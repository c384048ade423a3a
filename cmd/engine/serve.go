package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/heddle-io/heddle/engine"
	"github.com/heddle-io/heddle/internal/pgembed"
)

// stopTime bounds a clean end; a supervisor's patience ends about then too.
const stopTime = 20 * time.Second

// stopGrace is how long an end may take beyond that.
const stopGrace = 3 * time.Second

const serveSynopsis = `serve --postgres URL --data-dir DIR [flags]

As one of three nodes:

  engine serve --postgres URL --data-dir DIR --node-id a --listen 10.0.0.1:7400 \
    --peers 10.0.0.1:7400,10.0.0.2:7400,10.0.0.3:7400 --cluster-expect 3 \
    --tls-cert a.pem --tls-key a.key --tls-ca ca.pem`

// serve runs an engine on a given Postgres until ctx ends.
func (p program) serve(ctx context.Context, args []string) error {
	c, log := engine.DefaultConfig(), logFlags{}
	fs := p.flags("serve", serveSynopsis)
	engineFlags(fs, &c, &log)
	fs.StringVar(&c.Postgres, "postgres", "", "`URL` of the database, as postgres://user:password@host:5432/database")
	fs.StringVar(&c.Schema, "schema", c.Schema, "Postgres schema of the tables")
	fs.StringVar(&c.DataDir, "data-dir", "", "`directory` of the scheduler's log")
	conns := fs.Int("max-conns", int(c.MaxConns), "connections to Postgres")
	clusterMember(fs, &c)
	fs.BoolVar(&c.Adopt, "adopt", false, "take over a database whose engine's data directory is lost for good; what was running then runs again")
	migrate := fs.Bool("migrate", true, "bring the tables up to date at start")
	if err := p.parse(fs, args); err != nil {
		return err
	}
	if err := p.noArguments(fs); err != nil {
		return err
	}
	var missing []error
	if c.Postgres == "" {
		missing = append(missing, fmt.Errorf("--postgres (or %s) is required", variable("postgres")))
	}
	if c.DataDir == "" {
		missing = append(missing, fmt.Errorf("--data-dir (or %s) is required", variable("data-dir")))
	}
	if len(missing) > 0 {
		return errors.Join(missing...)
	}
	logger, err := log.logger(p.err)
	if err != nil {
		return err
	}
	c.MaxConns, c.SkipMigrate, c.Logger = int32(min(*conns, 1<<20)), !*migrate, logger
	if err := check(c); err != nil {
		return err
	}
	return p.engine(ctx, c, "")
}

// dev runs an engine and a Postgres of its own until ctx ends.
func (p program) dev(ctx context.Context, args []string) error {
	c, log := engine.DefaultConfig(), logFlags{}
	fs := p.flags("dev", "dev [flags]")
	engineFlags(fs, &c, &log)
	dir := fs.String("data-dir", defaultDataDir(), "`directory` of the database and the scheduler's log")
	port := fs.Int("postgres-port", 0, "port of the embedded PostgreSQL on 127.0.0.1; 0 picks a free one")
	ephemeral := fs.Bool("ephemeral", false, "keep nothing: a fresh directory, removed at the end")
	if err := p.parse(fs, args); err != nil {
		return err
	}
	if err := p.noArguments(fs); err != nil {
		return err
	}
	logger, err := log.logger(p.err)
	if err != nil {
		return err
	}
	known := c // all but what is known once Postgres runs
	known.Postgres, known.Ephemeral = "postgres://127.0.0.1/heddle", true
	if err := check(known); err != nil {
		return err
	}
	if *ephemeral {
		if *dir, err = os.MkdirTemp("", "heddle-dev-"); err != nil {
			return err
		}
		defer os.RemoveAll(*dir)
		// As root, Postgres runs as another user, who has to get in.
		if err := os.Chmod(*dir, 0o755); err != nil {
			return err
		}
	}
	if *dir == "" {
		return errors.New("--data-dir is empty, and this user has no home directory to put it in")
	}
	abs, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "starting PostgreSQL in %s\n", filepath.Join(abs, "postgres"))
	pg, err := pgembed.Start(ctx, pgembed.Config{Dir: filepath.Join(abs, "postgres"), Port: *port, Volatile: *ephemeral, Logger: logger})
	if err != nil {
		return err
	}
	// The demo's worker has no token, and its jobs cannot be submitted to an
	// engine that takes no changes.
	if c.Tokens == "" && !c.ReadOnly {
		if c.Demo, err = demo(); err != nil {
			return err
		}
	}
	c.Postgres, c.DataDir, c.Ephemeral, c.Logger = pg.DSN(), filepath.Join(abs, "engine"), *ephemeral, logger
	err = p.engine(ctx, c, pg.DSN())
	if stopErr := pg.Stop(context.WithoutCancel(ctx)); stopErr != nil {
		err = errors.Join(err, stopErr)
	}
	return err
}

// defaultDataDir is below the user's home, "" if there is none. Root's home is
// closed to the user as whom root runs Postgres.
func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/heddle"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "heddle")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "share", "heddle")
}

// engine runs one engine until ctx ends or it stops itself.
func (p program) engine(ctx context.Context, c engine.Config, embedded string) error {
	c.Version = buildVersion()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	c.Fatal = func(err error) { fail(err) }
	e, err := engine.New(c)
	if err != nil {
		return err
	}
	if err := e.Start(ctx); err != nil {
		switch cause := context.Cause(ctx); {
		case !errors.Is(err, context.Canceled):
			return err
		case !errors.Is(cause, context.Canceled):
			return cause // it stopped itself before it was ready
		}
		return nil // asked to stop before it was ready
	}
	p.greet(e.URL(), embedded, len(c.Peers) > 0)
	var worker sync.WaitGroup
	if c.Demo != nil {
		worker.Go(func() {
			if err := workDemo(ctx, e.URL(), c.Logger); err != nil && ctx.Err() == nil {
				c.Logger.Warn("the worker of the demo ended", "error", err)
			}
		})
	}
	<-ctx.Done()
	worker.Wait()
	cause := context.Cause(ctx)
	c.Logger.Info("stopping", slog.Duration("within", stopTime))
	err = stopWithin(context.WithoutCancel(ctx), stopTime, e.Stop)
	if !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}

// stopWithin stops, and gives up on what does not come to its end: a COMMIT cannot
// be broken off, and a database that has frozen must not keep the process.
func stopWithin(ctx context.Context, within time.Duration, stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- stop(ctx) }()
	late := time.NewTimer(within + stopGrace)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return fmt.Errorf("the engine has not stopped within %v and is given up: workers report again what was not written", within+stopGrace)
	}
}

// greet prints where the API is, and what to do next.
func (p program) greet(url, embedded string, member bool) {
	fmt.Fprintf(p.out, "heddle %[1]s is ready\n\n  admin page  %[2]s/\n  API         %[2]s\n", buildVersion(), url)
	if embedded != "" {
		fmt.Fprintf(p.out, "  PostgreSQL  %s\n", embedded)
	}
	if member {
		fmt.Fprintf(p.out, "\nthe nodes of the cluster, and what they wait for,\n\n  engine cluster status --engine %s\n", url)
	}
	fmt.Fprintf(p.out, `
next: submit a job,

  curl -s %[1]s/heddle.v1.WorkflowService/Submit -H 'Content-Type: application/json' \
    -d '{"submissions": [{"job": {"kind": "http", "argsJson": "{\"url\": \"%[1]s/healthz\"}"}}]}'

see it wait for a worker,

  curl -s %[1]s/heddle.v1.JobService/List -H 'Content-Type: application/json' -d '{}'

and start one that serves the kind "http":

  go run ./cmd/worker --engine %[1]s

Ctrl-C stops it.
`, url)
}
