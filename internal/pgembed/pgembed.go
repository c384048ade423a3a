// Package pgembed runs a PostgreSQL server of the program's own, kept in a data
// directory: for `engine dev`, the examples and the tests. It owns the server
// process it starts (one child, one goroutine that waits for it) and the files
// below Config.Dir. Binaries come from the machine, else they are downloaded.
// As root it runs the server as an unprivileged user, since PostgreSQL refuses
// to run as root.
package pgembed

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config says where and how the server runs.
type Config struct {
	// Dir holds the data, the password and the server's log. It is created if
	// missing and found again by a later start. Required.
	Dir string
	// Port on 127.0.0.1. 0: a free one, another at each start.
	Port int
	// Settings of postgresql.conf that differ from the defaults.
	Settings map[string]string
	// Volatile skips every fsync: for tests and throw-away data only.
	Volatile bool
	// Logger; nil: slog.Default.
	Logger *slog.Logger
}

// ErrInUse is returned by Start when another live process holds Dir.
var ErrInUse = errors.New("data directory is in use")

const (
	role     = "heddle"
	database = "heddle"
	// startTimeout includes crash recovery of a large log.
	startTimeout = 2 * time.Minute
	stopTimeout  = 30 * time.Second
)

// Server is a running server.
type Server struct {
	cfg      Config
	bin      string
	cred     *syscall.Credential
	lock     *os.File
	password string
	port     int
	cmd      *exec.Cmd
	exited   chan struct{} // closed when the process of cmd has ended
}

// Start runs the server and returns when it accepts connections. A server that
// an earlier process left behind in Dir when it crashed is stopped first.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("pgembed: Dir is empty")
	}
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
	s := &Server{cfg: cfg, lock: lock, port: cfg.Port}
	if err := s.start(ctx); err != nil {
		lock.Close()
		return nil, fmt.Errorf("pgembed: %w", err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	if s.bin, err = binaries(ctx, filepath.Join(cache, "heddle")); err != nil {
		return err
	}
	if s.cred, err = unprivileged(s.cfg.Dir); err != nil {
		return err
	}
	if err := s.stopOrphan(ctx); err != nil {
		return err
	}
	if err := s.initialise(ctx); err != nil {
		return err
	}
	return s.Launch(ctx)
}

func (s *Server) data() string { return filepath.Join(s.cfg.Dir, "data") }

// initialise creates the cluster, unless it is there. It is made under another
// name and renamed when complete, so that a crash leaves no half of one.
func (s *Server) initialise(ctx context.Context) error {
	pwfile := filepath.Join(s.cfg.Dir, "password")
	if _, err := os.Stat(filepath.Join(s.data(), "PG_VERSION")); err == nil {
		pw, err := os.ReadFile(pwfile)
		if err != nil {
			return fmt.Errorf("read the password of the data directory: %w", err)
		}
		s.password = strings.TrimSpace(string(pw))
		return nil
	}
	var secret [16]byte
	rand.Read(secret[:])
	s.password = hex.EncodeToString(secret[:])
	if err := os.WriteFile(pwfile, []byte(s.password+"\n"), 0o600); err != nil {
		return err
	}
	fresh := filepath.Join(s.cfg.Dir, "data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if s.cred != nil {
		for _, p := range []string{fresh, pwfile} {
			if err := os.Chown(p, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
				return err
			}
		}
	}
	args := []string{"-D", fresh, "-U", role, "-A", "scram-sha-256", "--pwfile", pwfile, "-E", "UTF8", "--no-locale"}
	if s.cfg.Volatile {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"+exe()), args...)
	cmd.SysProcAttr = childAttr(s.cred)
	cmd.Dir = s.cfg.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, lastLine(out))
	}
	if s.cred != nil { // initdb needed it; from here on it is read as root
		if err := os.Chown(pwfile, 0, 0); err != nil {
			return err
		}
	}
	return os.Rename(fresh, s.data())
}

// errLeftovers: processes of a server that was killed have not ended yet.
var errLeftovers = errors.New("processes of the server before it are still there")

// Launch starts the process on a cluster that was stopped or killed: Start
// calls it; tests call it after Kill. The port stays the same. After a kill the
// backends that were left behind end by themselves in a moment, which it waits
// for.
func (s *Server) Launch(ctx context.Context) error {
	leftovers := time.NewTimer(stopTimeout)
	defer leftovers.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.launch(ctx)
		if !errors.Is(err, errLeftovers) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		case <-leftovers.C:
			return err
		}
	}
}

func (s *Server) launch(ctx context.Context) error {
	if s.port == 0 {
		port, err := freePort()
		if err != nil {
			return err
		}
		s.port = port
	}
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(s.port),
		"unix_socket_directories": "",
		"max_connections":         "200",
		"shared_buffers":          "256MB",
		"max_wal_size":            "4GB",
		"wal_compression":         "on",
		"logging_collector":       "off",
		"log_checkpoints":         "off",
	}
	if s.cfg.Volatile {
		settings["fsync"], settings["synchronous_commit"], settings["full_page_writes"] = "off", "off", "off"
		settings["shared_buffers"] = "64MB"
	}
	for k, v := range s.cfg.Settings {
		settings[k] = v
	}
	args := []string{"-D", s.data()}
	for k, v := range settings {
		args = append(args, "-c", k+"="+v)
	}
	logPath := filepath.Join(s.cfg.Dir, "postgres.log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	before, err := logFile.Stat()
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.bin, "postgres"+exe()), args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Dir = s.data()
	cmd.SysProcAttr = childAttr(s.cred)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }() // ends with the process, which Stop and Kill wait for
	s.cmd, s.exited = cmd, exited
	if err := s.ready(ctx, logPath, before.Size()); err != nil {
		s.signal(syscall.SIGQUIT)
		<-exited
		return err
	}
	s.cfg.Logger.Debug("postgres started", "dir", s.cfg.Dir, "port", s.port)
	return nil
}

// ready waits until the server takes connections and its database exists. What
// this start has to say stands in the log from the offset on.
func (s *Server) ready(ctx context.Context, logPath string, from int64) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.dsn("postgres"))
		if err == nil {
			defer conn.Close(ctx)
			var exists bool
			if err := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", database).Scan(&exists); err != nil {
				return err
			}
			if !exists {
				_, err = conn.Exec(ctx, "create database "+database)
			}
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("postgres did not become ready: %w (%w)", ctx.Err(), err)
		case <-s.exited:
			out, _ := os.ReadFile(logPath)
			out = out[min(from, int64(len(out))):]
			if bytes.Contains(out, []byte("pre-existing shared memory block")) {
				return errLeftovers
			}
			return fmt.Errorf("postgres ended while starting: %s", lastLine(out))
		case <-tick.C:
		}
	}
}

// DSN names the server's database "heddle" as a URL.
func (s *Server) DSN() string { return s.dsn(database) }

func (s *Server) dsn(db string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, s.password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + db, RawQuery: "sslmode=disable"}
	return u.String()
}

// Pid of the server process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Stop ends the server: sessions are disconnected, data is flushed. After
// 30 s, or when ctx ends, it is ended at once and recovers at the next start.
func (s *Server) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	defer s.lock.Close()
	s.signal(syscall.SIGINT)
	select {
	case <-s.exited:
		return nil
	case <-ctx.Done():
		s.signal(syscall.SIGQUIT)
		<-s.exited
		return fmt.Errorf("pgembed: stop: %w", ctx.Err())
	}
}

// Kill ends the server as a crash would. Launch starts it again; Stop may
// still be called.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	<-s.exited
}

func (s *Server) signal(sig syscall.Signal) {
	_ = s.cmd.Process.Signal(sig) // an error means that it has ended already
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
