package engine

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/heddle-io/heddle/internal/enginetest"
	"github.com/heddle-io/heddle/internal/pgtest"
)

// testWriter sends the log to the test's output.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p[:max(len(p)-1, 0)])
	return len(p), nil
}

func testConfig(t testing.TB, dsn string) Config {
	c := DefaultConfig()
	c.Postgres, c.DataDir, c.Listen = dsn, t.TempDir(), "127.0.0.1:0"
	c.SessionTTL = 2 * time.Second
	c.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	return c
}

// startEngine starts an engine and stops it at the test's end, unless the test
// has done so.
func startEngine(t testing.TB, c Config) *Engine {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := e.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopEngine(t, e) })
	return e
}

func stopEngine(t testing.TB, e *Engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := e.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// newEngine is an engine on a fresh database, with a client.
func newEngine(t testing.TB, change func(*Config)) (*Engine, *enginetest.Client) {
	t.Helper()
	c := testConfig(t, pgtest.DSN(t))
	if change != nil {
		change(&c)
	}
	e := startEngine(t, c)
	return e, enginetest.Dial(t, e.Addr())
}

// restart stops an engine and starts another one at the same address with the
// same data.
func restart(t testing.TB, e *Engine, c Config) *Engine {
	t.Helper()
	c.Listen = e.Addr()
	stopEngine(t, e)
	return startEngine(t, c)
}
