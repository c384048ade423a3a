package store

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/pgtest"
	"github.com/heddle-io/heddle/schema"
)

// TestSubmitCommitInDoubt is C11 for submissions: the standby is away, COMMIT
// waits. A cancelled wait answers success with a warning, a killed one loses
// the connection; neither is an acknowledgement. Only a COMMIT that was
// replicated answers, and the job is there once.
func TestSubmitCommitInDoubt(t *testing.T) {
	server := pgtest.Server(t, true, nil)
	ctx := context.Background()
	if err := schema.Migrate(ctx, server.DSN(), ""); err != nil {
		t.Fatal(err)
	}
	s, err := Open(ctx, Config{DSN: server.DSN()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// New routes and partitions commit, and would wait, on their own.
	submitOne(t, s, graphOf([]model.NewNode{job("mail"), job("a"), job("b"), job("c")}))
	admin, err := pgx.Connect(ctx, server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctx)
	standby := func(names string) {
		t.Helper()
		for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'", "SELECT pg_reload_conf()"} {
			if _, err := admin.Exec(ctx, sql); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "the setting to be read", func() bool {
			var now string
			if err := admin.QueryRow(ctx, "SHOW synchronous_standby_names").Scan(&now); err != nil {
				t.Fatal(err)
			}
			return now == names
		})
	}
	waiting := func() (pid int32) {
		until(t, "a COMMIT to wait for the standby", func() bool {
			err := admin.QueryRow(ctx, `SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'`).Scan(&pid)
			return err == nil
		})
		return pid
	}
	gone := func(query string, pid int32) {
		if _, err := admin.Exec(ctx, query, pid); err != nil {
			t.Fatal(err)
		}
		until(t, "that wait to end", func() bool {
			var n int
			err := admin.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $1`, pid).Scan(&n)
			return err == nil && n == 0
		})
	}
	// The setting counts once the checkpointer has read it: a COMMIT of our own
	// tells.
	standbyAway := func() {
		standby("nobody")
		until(t, "the server to want a standby", func() bool {
			probe, err := pgx.Connect(ctx, server.DSN())
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := probe.Exec(ctx, `SELECT pg_logical_emit_message(true, 'probe', '')`)
				ended <- err
			}()
			waits := false
			until(t, "the probe", func() bool {
				var pid int32
				waits = admin.QueryRow(ctx, `SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'`).Scan(&pid) == nil
				if waits {
					gone(`SELECT pg_terminate_backend($1)`, pid)
				}
				return waits || len(ended) > 0
			})
			<-ended
			probe.Close(ctx)
			return waits
		})
	}
	for _, c := range []struct {
		name string
		sub  model.Submission
	}{
		{"lone", lone("mail")},
		{"graph", graphOf([]model.NewNode{job("a"), batch("b"), in(2, job("c"))})},
	} {
		standbyAway()
		done := make(chan model.Submitted, 1)
		go func() { done <- s.Submit(ctx, []model.Submission{c.sub})[0] }()
		gone(`SELECT pg_cancel_backend($1)`, waiting())
		gone(`SELECT pg_terminate_backend($1)`, waiting())
		waiting()
		select {
		case out := <-done:
			t.Errorf("%s: answered while nothing is replicated: %+v", c.name, out)
		default:
		}
		standby("")
		out := <-done
		if out.Err != nil || !out.Created || len(out.Lanes) == 0 {
			t.Errorf("%s: %+v", c.name, out)
		}
		if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE workflow_id = $1`, c.sub.ID); n != int64(len(c.sub.Nodes)+1)/2 {
			t.Errorf("%s: %d jobs", c.name, n)
		}
	}
	standbyAway()
	header := model.Submission{ID: newID(), Name: "stream"}
	streamed := make(chan error, 1)
	go func() {
		_, err := s.SubmitStream(ctx, header, chunks([]model.NewNode{job("a"), job("b")}, nil, 1, io.EOF))
		streamed <- err
	}()
	gone(`SELECT pg_terminate_backend($1)`, waiting())
	waiting()
	standby("")
	if err := <-streamed; err != nil {
		t.Errorf("stream: %v", err)
	}
}

// until polls a condition of another process.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if condition() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

func TestCommitOutcome(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	conn, err := s.main.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	c := conn.Conn().PgConn()
	for _, test := range []struct {
		name  string
		err   error
		doubt bool
	}{
		{"refused", &pgconn.PgError{Severity: "ERROR", Code: "23505"}, false},
		{"deferred constraint", &pgconn.PgError{Severity: "ERROR", Code: "23503"}, false},
		{"rolled back", pgx.ErrTxCommitRollback, false},
		{"lost", io.ErrUnexpectedEOF, true},
		{"cancelled", context.Canceled, true},
		{"killed", &pgconn.PgError{Severity: "FATAL", Code: "57P01"}, true},
		{"shutdown", &pgconn.PgError{Severity: "ERROR", Code: "57014"}, true},
	} {
		err := commitOutcome(c, test.err)
		if errors.Is(err, model.ErrDoubt) != test.doubt || !errors.Is(err, test.err) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if err := commitOutcome(c, nil); err != nil {
		t.Error(err)
	}
	if _, err := conn.Exec(ctx, `DO $$ BEGIN RAISE WARNING 'not replicated'; END $$`); err != nil {
		t.Fatal(err)
	}
	if err := commitOutcome(c, nil); !errors.Is(err, model.ErrDoubt) {
		t.Errorf("warned: %v", err)
	}
	if err := commitOutcome(c, nil); err != nil {
		t.Errorf("after the warning was taken: %v", err)
	}
}

// TestSubmitAfterItsConnectionsWereKilled: what was certainly not written is
// written on a new connection.
func TestSubmitAfterItsConnectionsWereKilled(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	for range 3 {
		submitOne(t, s, lone("warm"))
		exec(t, s, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		if out := s.Submit(ctx, []model.Submission{lone("mail"), graphOf([]model.NewNode{job("a")})}); out[0].Err != nil || out[1].Err != nil {
			t.Errorf("%+v", out)
		}
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs`); n != 9 {
		t.Errorf("%d jobs", n)
	}
}
