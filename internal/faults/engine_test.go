package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-io/heddle/engine"
	heddle "github.com/heddle-io/heddle/sdk"
)

// engineConfig of an engine process.
type engineConfig struct {
	Postgres string
	Dir      string
	Listen   string
	TTL      time.Duration
}

// engineMain is the engine process: what cmd/engine does, without its flags.
func engineMain() int {
	var c engineConfig
	partConfig(&c)
	go listen(func(string) {})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	config := engine.DefaultConfig()
	config.Postgres, config.DataDir, config.Listen, config.SessionTTL = c.Postgres, c.Dir, c.Listen, c.TTL
	config.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	config.Fatal = func(err error) { fail(err) }
	e, err := engine.New(config)
	if err == nil {
		err = e.Start(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready", e.Addr())
	<-ctx.Done()
	stopCtx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = e.Stop(stopCtx)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		fmt.Fprintln(os.Stderr, cause)
		return 3
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// server is an engine at an address that outlives its processes.
type server struct {
	t      testing.TB
	config engineConfig
	// process is the present one.
	*process
}

// startTime bounds the start of an engine on a busy machine.
const startTime = 30 * time.Second

// serve starts an engine and waits until it dispatches.
func serve(t testing.TB, dsn string, ttl time.Duration) *server {
	t.Helper()
	s := newServer(t, dsn, t.TempDir(), ttl)
	s.launch()
	return s
}

// newServer is an engine that is still to be launched.
func newServer(t testing.TB, dsn, dir string, ttl time.Duration) *server {
	return &server{t: t, config: engineConfig{Postgres: dsn, Dir: dir, Listen: freeAddr(t), TTL: ttl}}
}

// launch starts the engine's process and waits until it dispatches.
func (s *server) launch() {
	s.t.Helper()
	s.process = play(s.t, partEngine, "engine", s.config)
	s.hear("ready", startTime)
}

func (s *server) url() string { return "http://" + s.config.Listen }

// client gives a client of the SDK that patiently repeats its calls.
func (s *server) client(change func(*heddle.ClientConfig)) *heddle.Client {
	s.t.Helper()
	config := heddle.ClientConfig{Addrs: []string{s.url()}, RetryFor: time.Minute, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&config)
	}
	c, err := heddle.NewClient(config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// freeAddr picks a loopback address below the ports that systems give to
// outgoing connections: nobody takes it while its engine is down.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(10_000)))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}
