package pgembed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby makes a copy of a running server in cfg.Dir, which must be empty or
// missing, and runs it as a server that follows that one. The other server
// takes part in replication with its defaults. Promote makes it a server of its
// own; until then it can be read.
func Standby(ctx context.Context, cfg Config, of *Server) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("pgembed: directory %q: %w", cfg.Dir, err)
	}
	cfg.Dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("pgembed: create directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, lock: lock, port: cfg.Port, bin: of.bin, password: of.password}
	if s.cred, err = unprivileged(dir); err == nil {
		if err = s.copy(ctx, of); err == nil {
			err = s.Launch(ctx)
		}
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("pgembed: standby: %w", err)
	}
	return s, nil
}

// copy makes the data directory from that of a running server.
func (s *Server) copy(ctx context.Context, of *Server) error {
	if _, err := os.Stat(s.data()); err == nil {
		return fmt.Errorf("%s is there already", s.data())
	}
	if err := os.Mkdir(s.data(), 0o700); err != nil {
		return err
	}
	if s.cred != nil {
		if err := os.Chown(s.data(), int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(s.cfg.Dir, "password"), []byte(s.password+"\n"), 0o600); err != nil {
		return err
	}
	from := url.URL{Scheme: "postgres", User: url.UserPassword(role, of.password), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(of.port)), Path: "/"}
	args := []string{"-D", s.data(), "-d", from.String(), "-R", "-X", "stream", "-c", "fast"}
	if s.cfg.Volatile {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "pg_basebackup"+exe()), args...)
	cmd.SysProcAttr = childAttr(s.cred)
	cmd.Dir = s.cfg.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("pg_basebackup: %w: %s", err, lastLine(out)), os.RemoveAll(s.data()))
	}
	return nil
}

// Promote makes a standby a server that can be written, on a timeline of its
// own, and returns when it can. The server it has followed is not asked.
func (s *Server) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.dsn("postgres"))
	if err != nil {
		return fmt.Errorf("pgembed: promote: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var done bool
	if err := conn.QueryRow(ctx, "select pg_promote(true, 60)").Scan(&done); err != nil {
		return fmt.Errorf("pgembed: promote: %w", err)
	}
	if !done {
		return errors.New("pgembed: the standby was not promoted within 60 s")
	}
	return nil
}

// WaitForStandby makes every COMMIT wait for a standby from now on, and returns
// once one follows.
func (s *Server) WaitForStandby(ctx context.Context) error {
	return s.synchronous(ctx, "*", "select exists (select from pg_stat_replication where sync_state = 'sync')")
}

// WaitForNobody ends what WaitForStandby began: COMMITs that wait are answered.
func (s *Server) WaitForNobody(ctx context.Context) error {
	return s.synchronous(ctx, "", "select true")
}

func (s *Server) synchronous(ctx context.Context, names, until string) error {
	conn, err := pgx.Connect(ctx, s.dsn("postgres"))
	if err != nil {
		return fmt.Errorf("pgembed: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{"alter system set synchronous_standby_names = '" + names + "'", "select pg_reload_conf()"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("pgembed: %s: %w", sql, err)
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for done := false; !done; {
		if err := conn.QueryRow(ctx, until).Scan(&done); err != nil {
			return fmt.Errorf("pgembed: %s: %w", until, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("pgembed: no standby follows: %w", ctx.Err())
		}
	}
	return nil
}

// Addr is the server's address, as host:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }
