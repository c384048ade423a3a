// Package pgtest gives tests a real PostgreSQL. One server serves all tests of
// a test binary, a fresh database each; a test that must hurt its server gets
// one of its own. A package that uses it calls Main from its TestMain.
package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/internal/pgembed"
)

// Env names a superuser's DSN of a server to use instead of starting one.
const Env = "HEDDLE_TEST_POSTGRES"

var shared struct {
	sync.Mutex
	main   bool
	dsn    string
	server *pgembed.Server
	dir    string
}

// Main runs the tests of a package and stops the server they shared. It
// returns the exit code for os.Exit.
func Main(m *testing.M) int {
	shared.main = true
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Stop(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			code = 1
		}
		os.RemoveAll(shared.dir)
	}
	return code
}

// DSN creates an empty database for this test and drops it at its end.
func DSN(t testing.TB) string {
	t.Helper()
	admin := sharedDSN(t)
	var id [6]byte
	rand.Read(id[:])
	name := "test_" + hex.EncodeToString(id[:])
	Exec(t, admin, "CREATE DATABASE "+name)
	t.Cleanup(func() { Exec(t, admin, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// Exec runs one statement on a connection of its own.
func Exec(t testing.TB, dsn, sql string, args ...any) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func sharedDSN(t testing.TB) string {
	shared.Lock()
	defer shared.Unlock()
	if shared.dsn != "" {
		return shared.dsn
	}
	if dsn := os.Getenv(Env); dsn != "" {
		shared.dsn = dsn
		return dsn
	}
	if !shared.main {
		t.Fatal("pgtest: the package's TestMain must call pgtest.Main")
	}
	dir := tempDir(t)
	s, err := pgembed.Start(context.Background(), pgembed.Config{Dir: dir, Volatile: true, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	shared.server, shared.dir, shared.dsn = s, dir, s.DSN()
	return shared.dsn
}

// Server starts a server for this test alone, stopped at its end. With
// durable it syncs its writes, as a server in production does.
func Server(t testing.TB, durable bool, settings map[string]string) *pgembed.Server {
	t.Helper()
	dir := tempDir(t)
	s, err := pgembed.Start(context.Background(), pgembed.Config{Dir: dir, Volatile: !durable, Settings: settings, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return s
}

// tempDir differs from t.TempDir in that another user may enter it: as root,
// the server runs as one.
func tempDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "heddle-pgtest-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
