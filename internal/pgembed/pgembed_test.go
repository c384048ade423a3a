package pgembed

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dir is a directory that another user may enter, removed at the end.
func dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("", "heddle-pgembed-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	return d
}

func execSQL(t *testing.T, s *Server, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func start(t *testing.T, d string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Config{Dir: d, Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestSecondStartFindsTheData(t *testing.T) {
	d := dir(t)
	s := start(t, d)
	execSQL(t, s, "create table kept (n int)")
	if _, err := Start(t.Context(), Config{Dir: d, Volatile: true}); !errors.Is(err, ErrInUse) {
		t.Fatalf("start in a directory in use: %v", err)
	}
	stop(t, s)
	s = start(t, d)
	execSQL(t, s, "insert into kept values (1)")
	stop(t, s)
}

// A program that is killed leaves its server running and its lock free. The
// next start must stop that server and take over.
func TestOrphanIsStopped(t *testing.T) {
	d := dir(t)
	s := start(t, d)
	execSQL(t, s, "create table kept (n int)")
	s.lock.Close() // as the system does for a killed program
	next := start(t, d)
	<-s.exited
	execSQL(t, next, "insert into kept values (1)")
	stop(t, next)
}

func TestCrashedServerIsLaunchedAgain(t *testing.T) {
	s := start(t, dir(t))
	execSQL(t, s, "create table kept (n int)")
	conn, err := pgx.Connect(t.Context(), s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	busy := make(chan struct{})
	go func() { // a backend that does not look up while it computes
		defer close(busy)
		_, _ = conn.Exec(t.Context(), "select count(*) from generate_series(1, 20000000)")
	}()
	waiting := "select 1 from pg_stat_activity where state = 'active' and query like '%generate_series%' and pid <> pg_backend_pid()"
	watch, err := pgx.Connect(t.Context(), s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close(context.Background())
	for one := 0; one == 0; {
		_ = watch.QueryRow(t.Context(), waiting).Scan(&one)
	}
	s.Kill()
	<-busy
	if err := s.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	execSQL(t, s, "select 1")
	stop(t, s)
}

// A pid file of a crash that names a live process which is no server of ours
// must neither block the start nor cost that process its life.
func TestForeignPidIsLeftAlone(t *testing.T) {
	d := dir(t)
	s := start(t, d)
	stop(t, s)
	pid := []byte("1\n" + filepath.Join(d, "data") + "\n")
	file := filepath.Join(d, "data", "postmaster.pid")
	if err := os.WriteFile(file, pid, 0o600); err != nil {
		t.Fatal(err)
	}
	if s.cred != nil {
		if err := os.Chown(file, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	s = start(t, d)
	stop(t, s)
}

func TestUnreachableDirectoryIsRefusedToRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		if cred, err := unprivileged(t.TempDir()); err != nil || cred != nil {
			t.Fatalf("unprivileged() = %v, %v for an ordinary user", cred, err)
		}
		return
	}
	d := dir(t)
	if err := os.Chmod(d, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Config{Dir: d}); err == nil {
		t.Fatal("started in a directory the server's user cannot enter")
	}
	if cred, _ := unprivileged("/"); cred == nil || cred.Uid == 0 {
		t.Fatalf("root would run postgres as %v", cred)
	}
}
