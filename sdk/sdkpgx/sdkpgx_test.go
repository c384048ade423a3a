package sdkpgx

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/pgtest"
	"github.com/heddle-io/heddle/schema"
	heddle "github.com/heddle-io/heddle/sdk"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var echo = heddle.NewKind[string, string]("test.echo")

// database migrates an empty database and connects to it.
func database(t *testing.T, name string) *pgx.Conn {
	t.Helper()
	dsn := pgtest.DSN(t)
	if err := schema.Migrate(t.Context(), dsn, name); err != nil {
		t.Fatal(err)
	}
	return connect(t, dsn)
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// stored reads the submissions of a schema back, put together from their parts.
func stored(t *testing.T, conn *pgx.Conn, name string) map[string]*heddlev1.Submission {
	t.Helper()
	rows, err := conn.Query(t.Context(), `select workflow_id::text, part, parts, body from `+pgx.Identifier{name, "submissions"}.Sanitize()+` order by 1, 2`)
	if err != nil {
		t.Fatal(err)
	}
	bodies, counts := make(map[string][]byte), make(map[string]int32)
	var (
		id          string
		part, parts int32
		body        []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &part, &parts, &body}, func() error {
		if part != counts[id] {
			t.Errorf("part %d of %s comes after %d", part, id, counts[id])
		}
		counts[id]++
		bodies[id] = append(bodies[id], body...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]*heddlev1.Submission)
	for id, b := range bodies {
		out[id] = &heddlev1.Submission{}
		if err := proto.Unmarshal(b, out[id]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func begin(t *testing.T, conn *pgx.Conn) Tx {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func TestCommit(t *testing.T) {
	conn := database(t, "heddle")
	listener := connect(t, conn.Config().ConnString())
	if _, err := listener.Exec(t.Context(), "listen "+channel); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, conn)
	wf := heddle.NewWorkflow("order")
	a := wf.Add(echo.Job("a", heddle.JobOptions{Name: "a"}))
	wf.Add(echo.Job("b", heddle.JobOptions{Name: "b"})).After(a)
	graph, err := Submit(t.Context(), tx, wf)
	if err != nil {
		t.Fatal(err)
	}
	lone, err := Submit(t.Context(), tx, echo.Job("lone"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(stored(t, listener, "heddle")); n != 0 {
		t.Errorf("%d submissions are visible before the commit", n)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := listener.WaitForNotification(ctx); err != nil {
		t.Errorf("no notification: %v", err)
	}
	all := stored(t, listener, "heddle")
	if len(all) != 2 || len(all[graph.ID()].GetGraph().GetEdges()) != 1 || string(all[lone.ID()].GetJob().GetArgs()) != `"lone"` || all[lone.ID()].GetId() != lone.ID() {
		t.Errorf("stored: %v", all)
	}
	if _, err := graph.Wait(t.Context()); !errors.Is(err, heddle.ErrNoClient) {
		t.Errorf("Wait without a client: %v", err)
	}
}

func TestRollback(t *testing.T) {
	conn := database(t, "heddle")
	tx := begin(t, conn)
	if _, err := Submit(t.Context(), tx, echo.Job("x")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := stored(t, conn, "heddle"); len(all) != 0 {
		t.Errorf("stored: %v", all)
	}
}

func TestMistakesLeaveTheTransactionUsable(t *testing.T) {
	conn := database(t, "heddle")
	tx := begin(t, conn)
	if _, err := Submit(t.Context(), tx, heddle.Job{}); !errors.Is(err, heddle.ErrInvalid) {
		t.Errorf("a job without a kind: %v", err)
	}
	if _, err := tx.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if _, err := Submit(t.Context(), tx, echo.Job("x"), Options{Schema: "no such"}); err == nil || !strings.Contains(err.Error(), "no such") {
		t.Errorf("another schema: %v", err)
	}
	_ = tx.Rollback(t.Context())
}

func TestLargeSubmissionsAreCut(t *testing.T) {
	const name = `odd "schema"`
	conn := database(t, name)
	tx := begin(t, conn)
	wf := heddle.NewWorkflow("large")
	args := string(bytes.Repeat([]byte("x"), 300<<10))
	const n = 20 // 6 MiB: more than one round trip
	wf.AddAll(func(yield func(heddle.Job) bool) {
		for range n {
			if !yield(echo.Job(args)) {
				return
			}
		}
	})
	run, err := Submit(t.Context(), tx, wf, Options{Schema: name})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	nodes := stored(t, conn, name)[run.ID()].GetGraph().GetNodes()
	if len(nodes) != n || len(nodes[n-1].GetJob().GetArgs()) != len(args)+2 {
		t.Errorf("%d nodes", len(nodes))
	}
	var parts, most int
	err = conn.QueryRow(t.Context(), `select count(*), max(length(body)) from `+pgx.Identifier{name, "submissions"}.Sanitize()).Scan(&parts, &most)
	if err != nil || parts < 12 || most > partBytes {
		t.Errorf("%d parts of up to %d bytes: %v", parts, most, err)
	}
}

func TestSimpleProtocol(t *testing.T) {
	conn := database(t, "heddle")
	cfg := conn.Config().Copy()
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	simple, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer simple.Close(context.Background())
	tx := begin(t, simple)
	run, err := Submit(t.Context(), tx, echo.Job("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := stored(t, conn, "heddle"); string(all[run.ID()].GetJob().GetArgs()) != `"x"` {
		t.Errorf("stored: %v", all)
	}
}
