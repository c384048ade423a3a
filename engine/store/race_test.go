package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/pgtest"
	"github.com/heddle-io/heddle/raftsched/fsm"
	"github.com/heddle-io/heddle/schema"
)

// gate holds every transaction that inserts into a table until it is opened.
type gate struct {
	t    testing.TB
	s    *Store
	conn *pgx.Conn
}

const gateKey = 4242

// closeGate shuts the gate on a table; it opens at the end of the test.
func closeGate(t testing.TB, s *Store, table string) *gate {
	t.Helper()
	ctx := context.Background()
	exec(t, s, `CREATE OR REPLACE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4242); RETURN NEW; END $$`)
	exec(t, s, `CREATE OR REPLACE TRIGGER gate BEFORE INSERT ON `+table+` FOR EACH ROW EXECUTE FUNCTION gate()`)
	conn, err := pgx.Connect(ctx, s.config.DSN)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, gateKey); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(ctx) })
	return &gate{t: t, s: s, conn: conn}
}

func (g *gate) open() {
	g.t.Helper()
	if _, err := g.conn.Exec(context.Background(), `SELECT pg_advisory_unlock($1)`, gateKey); err != nil {
		g.t.Fatal(err)
	}
}

// waiting blocks until n sessions of the database wait for a lock.
func waiting(t testing.TB, s *Store, n int64) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for queryInt(t, s, `SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.datname = current_database()`) < n {
		if time.Now().After(deadline) {
			t.Fatalf("no %d sessions that wait for a lock", n)
		}
	}
}

// C7: a repeated Submit of a lone job while a flush moves it.
func TestSubmitAgainWhileFlushed(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	sub := lone("mail")
	row := submitOne(t, s, sub).Ready[0]
	g := closeGate(t, s, "finished_jobs")
	var wg sync.WaitGroup
	wg.Go(func() { mustFlush(t, s, reign, finish(row, model.EndSucceeded)) })
	waiting(t, s, 1)
	wg.Go(func() {
		out := s.Submit(context.Background(), []model.Submission{sub})
		if out[0].Err != nil || out[0].Created {
			t.Errorf("repeat: %+v", out[0])
		}
	})
	waiting(t, s, 2)
	g.open()
	wg.Wait()
	if jobs, done := queryInt(t, s, `SELECT count(*) FROM jobs`), queryInt(t, s, `SELECT count(*) FROM finished_jobs`); jobs != 0 || done != 1 {
		t.Errorf("%d open and %d finished rows", jobs, done)
	}
}

// C8: an append of a continuation to a parent that is finishing, in both lock
// orders, to a graph and to a lone job.
func TestAppendWhileFlushed(t *testing.T) {
	for _, alone := range []bool{false, true} {
		for _, first := range []string{"append", "flush"} {
			t.Run(fmt.Sprintf("lone %v, %s first", alone, first), func(t *testing.T) {
				s := openStore(t)
				reign := newReign(t, s)
				sub := lone("a")
				if !alone {
					sub = graphOf([]model.NewNode{job("a"), job("b")})
				}
				row := submitOne(t, s, sub).Ready[0]
				var wg sync.WaitGroup
				flush := func() { mustFlush(t, s, reign, finish(row, model.EndSucceeded)) }
				add := func() {
					_, _, created, _, err := s.Append(context.Background(), AppendRequest{ID: sub.ID, Chunk: model.Chunk{
						Nodes: []model.NewNode{job("c")}, Edges: []dag.Edge{{Parent: 1, Child: -1, On: dag.Succeeded}},
					}})
					if err != nil || !created {
						t.Errorf("append: %v, created %v", err, created)
					}
				}
				table, one, two := "edges", add, flush
				if first == "flush" {
					table, one, two = "finished_jobs", flush, add
				}
				g := closeGate(t, s, table)
				wg.Go(one)
				waiting(t, s, 1)
				wg.Go(two)
				waiting(t, s, 2)
				g.open()
				wg.Wait()
				if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE workflow_id = $1 AND node > $2 AND state = 1`, sub.ID, len(sub.Nodes)); n != 1 {
					t.Errorf("%d continuations were released", n)
				}
				if n := queryInt(t, s, `SELECT succeeded FROM workflows WHERE id = $1 AND state = 1`, sub.ID); n != 1 {
					t.Errorf("%d members succeeded", n)
				}
			})
		}
	}
}

// Two appends and a flush meet on a lone job; nobody deadlocks.
func TestAppendsMeetOnALoneJob(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	sub := lone("a")
	row := submitOne(t, s, sub).Ready[0]
	g := closeGate(t, s, "edges")
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			_, _, _, _, err := s.Append(context.Background(), AppendRequest{ID: sub.ID, Chunk: model.Chunk{
				Nodes: []model.NewNode{job("c")}, Edges: []dag.Edge{{Parent: 1, Child: -1, On: dag.Succeeded}},
			}})
			if err != nil {
				t.Errorf("append: %v", err)
			}
		})
	}
	waiting(t, s, 2)
	wg.Go(func() { mustFlush(t, s, reign, finish(row, model.EndSucceeded)) })
	waiting(t, s, 3)
	g.open()
	wg.Wait()
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE workflow_id = $1 AND state = 1`, sub.ID); n != 2 {
		t.Errorf("%d continuations were released", n)
	}
}

func TestTakeover(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	reign := newReign(t, s)
	if _, err := s.Takeover(ctx, fsm.WorkflowID{2}, 8); !errors.Is(err, ErrForeign) {
		t.Errorf("another cluster: %v", err)
	}
	for _, epoch := range []uint64{6, 7} {
		if floor, err := s.Takeover(ctx, fsm.WorkflowID{1}, epoch); err != nil || floor != 7 {
			t.Errorf("epoch %d: floor %d, %v", epoch, floor, err)
		}
	}
	row := submitOne(t, s, lone("a")).Ready[0]
	if floor, err := s.Takeover(ctx, fsm.WorkflowID{1}, 9); err != nil || floor != 0 {
		t.Fatalf("epoch 9: floor %d, %v", floor, err)
	}
	graph := submitOne(t, s, graphOf([]model.NewNode{job("a"), job("b")}))
	for _, items := range [][]model.Finish{{finish(row, model.EndSucceeded)}, {finish(graph.Ready[0], model.EndFailed)}, {finish(row, model.EndSucceeded), finish(graph.Ready[0], model.EndRetry)}} {
		if _, _, err := s.Flush(ctx, reign, items); !errors.Is(err, ErrFenced) {
			t.Errorf("a flush of the old reign: %v", err)
		}
	}
	if _, err := s.Cancel(ctx, reign, graph.ID, 0, false, nil); !errors.Is(err, ErrFenced) {
		t.Errorf("a cancel of the old reign: %v", err)
	}
	promoted := model.Reign{Epoch: 9, Timeline: reign.Timeline + 1}
	if _, _, err := s.Flush(ctx, promoted, []model.Finish{finish(row, model.EndSucceeded)}); !errors.Is(err, ErrFenced) {
		t.Errorf("a flush on another timeline: %v", err)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE turn = 0 AND coalesce(flags, 0) & 32 = 0`); n != 3 {
		t.Errorf("%d of 3 rows are as before", n)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM finished_jobs`); n != 0 {
		t.Errorf("%d finished rows", n)
	}
}

// A takeover waits for the transactions of the older reign (I6).
func TestTakeoverWaitsForAFlush(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	row := submitOne(t, s, lone("a")).Ready[0]
	g := closeGate(t, s, "finished_jobs")
	var wg sync.WaitGroup
	wg.Go(func() { mustFlush(t, s, reign, finish(row, model.EndSucceeded)) })
	waiting(t, s, 1)
	wg.Go(func() {
		if floor, err := s.Takeover(context.Background(), fsm.WorkflowID{1}, 8); err != nil || floor != 0 {
			t.Errorf("floor %d, %v", floor, err)
		}
		if n := queryInt(t, s, `SELECT count(*) FROM finished_jobs`); n != 1 {
			t.Error("the takeover did not wait for the flush")
		}
	})
	waiting(t, s, 2)
	g.open()
	wg.Wait()
}

// A transaction of an older reign that is stuck is ended, and changes nothing.
func TestTakeoverEndsAStuckFlush(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	row := submitOne(t, s, lone("a")).Ready[0]
	closeGate(t, s, "finished_jobs")
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := s.Flush(context.Background(), reign, []model.Finish{finish(row, model.EndSucceeded)}); !errors.Is(err, model.ErrDoubt) {
			t.Errorf("the stuck flush: %v", err)
		}
	})
	waiting(t, s, 1)
	// The lock of another database's fence, and other advisory locks of this
	// one, are nobody's business: the gate's holder must live.
	if floor, err := s.Takeover(context.Background(), fsm.WorkflowID{1}, 8); err != nil || floor != 0 {
		t.Errorf("floor %d, %v", floor, err)
	}
	wg.Wait()
	if n := queryInt(t, s, `SELECT count(*) FROM jobs`); n != 1 {
		t.Errorf("%d open rows", n)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242 AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); n != 1 {
		t.Error("a session that does not hold the fence was ended")
	}
}

// C9 and C10, on heddle_fence itself, under a role whose transactions are
// repeatable read unless told otherwise.
func TestFenceFunction(t *testing.T) {
	ctx := context.Background()
	admin := pgtest.DSN(t)
	role := "fence_" + fmt.Sprint(time.Now().UnixNano())
	pgtest.Exec(t, admin, "CREATE ROLE "+role+" LOGIN SUPERUSER PASSWORD 'fence'")
	t.Cleanup(func() { pgtest.Exec(t, admin, "DROP ROLE "+role) })
	dsn := pgtest.DSN(t) // dropped first, with what the role owns in it
	if err := schema.Migrate(ctx, dsn, ""); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, admin, "ALTER ROLE "+role+" SET default_transaction_isolation = 'repeatable read'")
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "fence")
	s, err := Open(ctx, Config{DSN: u.String()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reign := newReign(t, s)
	var isolation string
	if err := s.flush.QueryRow(ctx, `SHOW transaction_isolation`).Scan(&isolation); err != nil || isolation != "read committed" {
		t.Errorf("the pool is %s, %v", isolation, err)
	}
	row := submitOne(t, s, lone("a")).Ready[0]

	// C9: a fence that waited for a takeover reads the epoch of after it.
	tx, err := s.main.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(lock_key) FROM fence`); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, `UPDATE fence SET epoch = 8`); err != nil {
		t.Fatal(err)
	}
	// Also on a connection that forgot to ask for read committed.
	raw, err := pgx.Connect(ctx, u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close(ctx)
	if _, err := raw.Exec(ctx, `SET search_path = heddle`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := s.Flush(ctx, reign, []model.Finish{finish(row, model.EndSucceeded)}); !errors.Is(err, ErrFenced) {
			t.Errorf("the flush: %v", err)
		}
	})
	wg.Go(func() {
		// C10: what is queued behind the fence does not run, and nothing of it
		// is committed.
		batch := &pgx.Batch{}
		batch.Queue(beginSQL)
		batch.Queue(`SELECT heddle_fence($1, $2)`, int64(reign.Epoch), reign.Timeline)
		batch.Queue(`DELETE FROM jobs`)
		batch.Queue(commitSQL)
		if err := raw.SendBatch(ctx, batch).Close(); sqlState(err) != codeFenced {
			t.Errorf("the pipeline: %v", err)
		}
	})
	waiting(t, s, 2)
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE turn = 0`); n != 1 {
		t.Errorf("%d open rows", n)
	}
}

// C11: no standby confirms. A COMMIT whose wait is cancelled answers success
// with a warning, one whose session is ended answers with its end: both are in
// doubt, though their rows can be seen; and so is a flush that only finds them.
func TestCommitWithoutTheStandby(t *testing.T) {
	server := pgtest.Server(t, false, map[string]string{"synchronous_standby_names": "nobody", "synchronous_commit": "local"})
	ctx := context.Background()
	if err := schema.Migrate(ctx, server.DSN(), ""); err != nil {
		t.Fatal(err)
	}
	open := func(dsn string) *Store {
		s, err := Open(ctx, Config{DSN: dsn})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	local := open(server.DSN())
	u, err := url.Parse(server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("synchronous_commit", "on")
	u.RawQuery = q.Encode()
	s := open(u.String())
	reign := newReign(t, local)
	out := submitOne(t, local, graphOf([]model.NewNode{job("a"), job("b")}))
	single := submitOne(t, local, lone("c")).Ready[0]
	flushes := [][]model.Finish{{finish(single, model.EndSucceeded)}, {finish(out.Ready[0], model.EndFailed)}}
	for round, end := range []string{"pg_cancel_backend", "pg_cancel_backend", "pg_terminate_backend"} {
		for _, items := range flushes {
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, _, err := s.Flush(ctx, reign, items); !errors.Is(err, model.ErrDoubt) {
					t.Errorf("round %d, %s: %v", round, end, err)
				}
			})
			deadline := time.Now().Add(20 * time.Second)
			for queryInt(t, local, `SELECT count(*) FROM (SELECT `+end+`(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query <> '') x`) == 0 {
				if time.Now().After(deadline) {
					t.Fatal("no COMMIT waits for the standby")
				}
			}
			wg.Wait()
		}
	}
	if n := queryInt(t, local, `SELECT count(*) FROM finished_jobs`); n != 2 {
		t.Fatalf("%d rows can be seen", n)
	}
	for _, items := range flushes {
		mustFlush(t, local, reign, items...)
	}
	if n := queryInt(t, local, `SELECT failed FROM workflows WHERE id = $1`, out.ID); n != 1 {
		t.Errorf("the end was counted %d times", n)
	}
}
