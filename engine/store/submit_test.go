package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/pgtest"
	"github.com/heddle-io/heddle/raftsched/fsm"
	"github.com/heddle-io/heddle/schema"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// openStore opens a migrated store on a database of its own.
func openStore(t testing.TB) *Store {
	t.Helper()
	dsn := pgtest.DSN(t)
	ctx := context.Background()
	if err := schema.Migrate(ctx, dsn, ""); err != nil {
		t.Fatal(err)
	}
	s, err := Open(ctx, Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// newID makes a UUIDv7 of now.
func newID() fsm.WorkflowID { return idAt(time.Now()) }

func idAt(at time.Time) fsm.WorkflowID {
	id := firstID(at)
	rand.Read(id[6:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

func job(kind string) model.NewNode {
	return model.NewNode{Job: &model.Job{Kind: kind, Queue: "default", MaxAttempts: 10, Args: []byte(`{}`)}}
}

func named(name string, n model.NewNode) model.NewNode { n.Name = name; return n }

func in(batch dag.ID, n model.NewNode) model.NewNode { n.Container = batch; return n }

func batch(name string) model.NewNode { return model.NewNode{Name: name, Batch: &model.NewBatch{}} }

func lone(kind string) model.Submission {
	return model.Submission{ID: newID(), Lone: true, Nodes: []model.NewNode{job(kind)}}
}

func graphOf(nodes []model.NewNode, edges ...dag.Edge) model.Submission {
	return model.Submission{ID: newID(), Name: "graph", Nodes: nodes, Edges: edges}
}

func submitOne(t testing.TB, s *Store, sub model.Submission) model.Submitted {
	t.Helper()
	out := s.Submit(context.Background(), []model.Submission{sub})
	if out[0].Err != nil {
		t.Fatalf("submit: %v", out[0].Err)
	}
	return out[0]
}

// queryInt runs a query that gives one number.
func queryInt(t testing.TB, s *Store, sql string, args ...any) int64 {
	t.Helper()
	var n int64
	if err := s.main.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func exec(t testing.TB, s *Store, sql string, args ...any) {
	t.Helper()
	if _, err := s.main.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// moveToHistory is what a flush does with a job that succeeded.
const moveToHistory = `WITH d AS (DELETE FROM jobs WHERE workflow_id = $1 AND node = $2 RETURNING *)
INSERT INTO finished_jobs (workflow_id, run_at, finished_at, node, route, turn, batch, flags, outcome, priority, attempt, max_attempts, key, name, args, opts)
SELECT workflow_id, run_at, now(), node, route, turn + 1, batch, COALESCE(flags, 0) | 256, 1, priority, attempt + 1, max_attempts, key, name, args, opts FROM d`

func TestSubmitLone(t *testing.T) {
	s := openStore(t)
	sub := lone("mail")
	out := submitOne(t, s, sub)
	if !out.Created || out.Nodes != 1 || len(out.Ready) != 1 || len(out.Lanes) != 0 {
		t.Fatalf("got %+v", out)
	}
	row := out.Ready[0]
	if row.Batch != -1 || row.Job != (fsm.JobID{Workflow: sub.ID, Node: 1}) || row.Priority != 2 || string(row.Args) != "{}" {
		t.Errorf("ready row %+v", row)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE workflow_id = $1 AND batch IS NULL AND flags IS NULL AND need IS NULL AND state = 1 AND run_at <= now()`, sub.ID); n != 1 {
		t.Errorf("%d trimmed rows", n)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM workflows`); n != 0 {
		t.Errorf("%d rows in workflows", n)
	}
	again := submitOne(t, s, sub)
	if again.Created || len(again.Ready) != 0 {
		t.Errorf("repeat: %+v", again)
	}
	other := sub
	other.Nodes = []model.NewNode{job("fax")}
	if out := s.Submit(context.Background(), []model.Submission{other}); !errors.Is(out[0].Err, model.ErrAlreadyExists) {
		t.Errorf("other kind: %v", out[0].Err)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs`); n != 1 {
		t.Errorf("%d jobs", n)
	}
}

func TestSubmitLoneAfterItsEnd(t *testing.T) {
	for _, repeat := range []bool{false, true} {
		for _, many := range []int{1, copyFrom + 10} {
			t.Run(fmt.Sprintf("repeat=%v/%d", repeat, many), func(t *testing.T) {
				s := openStore(t)
				subs := make([]model.Submission, many)
				for i := range subs {
					subs[i] = lone("mail")
				}
				for _, out := range s.Submit(context.Background(), subs) {
					if out.Err != nil {
						t.Fatal(out.Err)
					}
				}
				exec(t, s, moveToHistory, subs[0].ID, 1)
				for i := range subs {
					subs[i].Repeat = repeat
				}
				fresh := lone("new")
				for i, out := range s.Submit(context.Background(), append(subs, fresh)) {
					if out.Err != nil || out.Created != (i == many) {
						t.Errorf("%d: %+v", i, out)
					}
				}
				if n := queryInt(t, s, `SELECT count(*) FROM jobs`); n != int64(many) {
					t.Errorf("%d open jobs, want %d", n, many)
				}
				other := subs[0]
				other.Nodes = []model.NewNode{{Job: &model.Job{Kind: "mail", Args: []byte("other")}}}
				if out := s.Submit(context.Background(), []model.Submission{other}); !errors.Is(out[0].Err, model.ErrAlreadyExists) {
					t.Errorf("other args: %v", out[0].Err)
				}
			})
		}
	}
}

func TestSubmitGraph(t *testing.T) {
	s := openStore(t)
	big := make([]byte, 5000)
	rand.Read(big)
	render := named("render", job("render"))
	render.Job.Args = big
	emails := batch("emails")
	emails.Batch.Priority = 3
	urgent := in(2, job("mail"))
	urgent.Job.Priority = 1
	sub := graphOf([]model.NewNode{render, emails, in(2, job("mail")), urgent, named("report", job("report"))},
		dag.Edge{Parent: 1, Child: 2, On: dag.Succeeded}, dag.Edge{Parent: 2, Child: 5, On: dag.Finished})
	out := submitOne(t, s, sub)
	if !out.Created || out.Nodes != 5 || len(out.Ready) != 1 || out.Ready[0].Job.Node != 1 || out.Ready[0].Args != nil {
		t.Fatalf("got %+v", out)
	}
	if out.Ready[0].Flags != FlagArgsInPayloads|FlagChildren {
		t.Errorf("flags %d", out.Ready[0].Flags)
	}
	for _, c := range []struct {
		want int64
		sql  string
	}{
		{1, `SELECT count(*) FROM workflows WHERE id = $1 AND next_node = 6 AND total = 3 AND state = 1 AND digest IS NOT NULL AND name = 'graph'`},
		{1, `SELECT count(*) FROM batches WHERE workflow_id = $1 AND node = 2 AND lo = 3 AND hi = 4 AND total = 2 AND state = 0 AND need = 1 AND slack = 0 AND parent = 0 AND priority = 3 AND started_at IS NULL`},
		{1, `SELECT count(*) FROM jobs WHERE workflow_id = $1 AND node = 1 AND state = 1 AND batch = 0 AND args IS NULL AND priority = 2`},
		{1, `SELECT count(*) FROM jobs WHERE workflow_id = $1 AND node = 3 AND state = 0 AND batch = 2 AND priority = 3`},
		{1, `SELECT count(*) FROM jobs WHERE workflow_id = $1 AND node = 4 AND state = 0 AND priority = 1`},
		{1, `SELECT count(*) FROM jobs WHERE workflow_id = $1 AND node = 5 AND state = 0 AND need = 1 AND batch = 0`},
		{2, `SELECT count(*) FROM edges WHERE workflow_id = $1`},
		{5000, `SELECT length(body) FROM payloads WHERE workflow_id = $1 AND node = 1 AND slot = 0`},
	} {
		if n := queryInt(t, s, c.sql, sub.ID); n != c.want {
			t.Errorf("%s: %d, want %d", c.sql, n, c.want)
		}
	}
	if again := submitOne(t, s, sub); again.Created {
		t.Error("repeat created")
	}
	other := sub
	other.Edges = other.Edges[:1]
	if out := s.Submit(context.Background(), []model.Submission{other}); !errors.Is(out[0].Err, model.ErrAlreadyExists) {
		t.Errorf("other graph: %v", out[0].Err)
	}
}

func TestSubmitSettlesEmptyBatches(t *testing.T) {
	s := openStore(t)
	sub := graphOf([]model.NewNode{batch("gate"), job("after"), job("never")},
		dag.Edge{Parent: 1, Child: 2, On: dag.Succeeded}, dag.Edge{Parent: 1, Child: 3, On: dag.Failed})
	out := submitOne(t, s, sub)
	if len(out.Ready) != 1 || out.Ready[0].Job.Node != 2 || len(out.Lanes) != 0 {
		t.Fatalf("got %+v", out)
	}
	for _, sql := range []string{
		`SELECT count(*) FROM batches WHERE workflow_id = $1 AND node = 1 AND state = 2 AND outcome = 1`,
		`SELECT count(*) FROM jobs WHERE workflow_id = $1 AND node = 2 AND state = 1`,
		`SELECT count(*) FROM finished_jobs WHERE workflow_id = $1 AND node = 3 AND outcome = 8`,
		`SELECT count(*) FROM workflows WHERE id = $1 AND state = 1 AND succeeded = 1 AND skipped = 1`,
	} {
		if n := queryInt(t, s, sql, sub.ID); n != 1 {
			t.Errorf("%s: %d", sql, n)
		}
	}
	empty := submitOne(t, s, graphOf(nil))
	if n := queryInt(t, s, `SELECT count(*) FROM workflows WHERE id = $1 AND state = 2 AND outcome = 1`, empty.ID); n != 1 {
		t.Error("an empty workflow has not ended")
	}
}

func TestSubmitMistakesFailNoNeighbour(t *testing.T) {
	s := openStore(t)
	late := lone("late")
	late.ID = idAt(time.Now().Add(-25 * time.Hour))
	huge := lone("huge")
	huge.Nodes[0].Job.Args = make([]byte, 2<<20)
	cycle := graphOf([]model.NewNode{job("a"), job("b")}, dag.Edge{Parent: 1, Child: 2, On: 1}, dag.Edge{Parent: 2, Child: 1, On: 1})
	zero := lone("zero")
	zero.Nodes[0].Job.Key = "a\x00b"
	noKind := lone("")
	good := lone("good")
	goodGraph := graphOf([]model.NewNode{job("a")})
	wrongVersion := lone("v4")
	wrongVersion.ID[6] = 0x40
	subs := []model.Submission{late, huge, cycle, zero, noKind, wrongVersion, good, goodGraph}
	out := s.Submit(context.Background(), subs)
	for i, o := range out {
		if bad := i < 6; bad != errors.Is(o.Err, model.ErrInvalid) || !bad && o.Err != nil {
			t.Errorf("%d: %v", i, o.Err)
		}
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs`); n != 2 {
		t.Errorf("%d jobs", n)
	}
}

// TestSubmitRefusedByTheServer: what only the server finds wrong fails its own
// submission, not the group it travelled in.
func TestSubmitRefusedByTheServer(t *testing.T) {
	s := openStore(t)
	exec(t, s, `ALTER TABLE jobs ADD CONSTRAINT no_bad_key CHECK (key <> 'bad')`)
	for _, graphs := range []bool{false, true} {
		subs := make([]model.Submission, 100)
		for i := range subs {
			if subs[i] = lone("mail"); graphs && i%2 == 0 {
				subs[i] = graphOf([]model.NewNode{job("mail")})
			}
			if i == 42 || i == 43 {
				subs[i].Nodes[0].Job.Key = "bad"
			}
		}
		for i, out := range s.Submit(context.Background(), subs) {
			if bad := i == 42 || i == 43; bad != (out.Err != nil) || bad == out.Created {
				t.Errorf("%d: %+v", i, out)
			}
		}
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs`); n != 2*98 {
		t.Errorf("%d jobs", n)
	}
}

// TestRoutesOfSeveralNodes has two nodes add the same routes at once.
func TestRoutesOfSeveralNodes(t *testing.T) {
	s := openStore(t)
	other, err := Open(context.Background(), s.config)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var wg sync.WaitGroup
	for i := range 20 {
		for _, node := range []*Store{s, other} {
			wg.Go(func() {
				if _, err := node.route(context.Background(), "default", fmt.Sprint("kind", i)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for i := range 20 {
		name := routeName{"default", fmt.Sprint("kind", i)}
		a, _ := s.routes.id(name)
		b, _ := other.routes.id(name)
		if a == 0 || a != b {
			t.Errorf("%v is %d and %d", name, a, b)
		}
	}
	fresh, err := other.route(context.Background(), "later", "kind")
	if err != nil {
		t.Fatal(err)
	}
	if name, err := s.routeNames(context.Background(), fresh); err != nil || name.queue != "later" {
		t.Errorf("a route of the other node: %v, %v", name, err)
	}
}

func TestOpenRefusesAnotherVersion(t *testing.T) {
	dsn := pgtest.DSN(t)
	if _, err := Open(context.Background(), Config{DSN: dsn}); !errors.Is(err, schema.ErrOlder) {
		t.Errorf("an empty database: %v", err)
	}
}

func TestSubmitOneIDForTwoShapes(t *testing.T) {
	s := openStore(t)
	for _, finished := range []bool{false, true} {
		first := lone("mail")
		submitOne(t, s, first)
		if finished {
			exec(t, s, moveToHistory, first.ID, 1)
		}
		graph := graphOf([]model.NewNode{batch("b"), in(1, job("a"))})
		graph.ID = first.ID
		if out := s.Submit(context.Background(), []model.Submission{graph}); !errors.Is(out[0].Err, model.ErrAlreadyExists) {
			t.Errorf("graph after lone job (finished %v): %+v", finished, out[0])
		}
		if n := queryInt(t, s, `SELECT count(*) FROM workflows WHERE id = $1`, first.ID); n != 0 {
			t.Error("a workflow was left behind")
		}
	}
	graph := graphOf([]model.NewNode{batch("b"), in(1, job("a"))})
	submitOne(t, s, graph)
	second := lone("mail")
	second.ID = graph.ID
	if out := s.Submit(context.Background(), []model.Submission{second}); !errors.Is(out[0].Err, model.ErrAlreadyExists) {
		t.Errorf("lone job after graph: %+v", out[0])
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE workflow_id = $1`, graph.ID); n != 1 {
		t.Errorf("%d jobs", n)
	}
}

// TestSubmitTogether has many callers submit at once, some of them the same.
func TestSubmitTogether(t *testing.T) {
	s := openStore(t)
	shared := lone("shared")
	sharedGraph := graphOf([]model.NewNode{job("a"), job("b")}, dag.Edge{Parent: 1, Child: 2, On: 1})
	var wg sync.WaitGroup
	var mu sync.Mutex
	created := map[fsm.WorkflowID]int{}
	for range 32 {
		wg.Go(func() {
			for range 5 {
				for _, out := range s.Submit(context.Background(), []model.Submission{lone("own"), shared, sharedGraph}) {
					if out.Err != nil {
						t.Error(out.Err)
					}
					if out.Created {
						mu.Lock()
						created[out.ID]++
						mu.Unlock()
					}
				}
			}
		})
	}
	wg.Wait()
	if len(created) != 32*5+2 {
		t.Errorf("%d created", len(created))
	}
	for id, n := range created {
		if n != 1 {
			t.Errorf("%s created %d times", id, n)
		}
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs`); n != 32*5+3 {
		t.Errorf("%d jobs", n)
	}
}

// TestSubmitWhileItFinishes is C7: a repeated submission of a lone job while a
// transaction that moves it to the history is open. The single statement that
// looks into the history itself resurrects the job; ours does not.
func TestSubmitWhileItFinishes(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	race := func(t *testing.T, insert func(sub model.Submission)) (open, ended int64) {
		sub := lone("mail")
		submitOne(t, s, sub)
		tx, err := s.main.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(ctx)
		if _, err := tx.Exec(ctx, moveToHistory, sub.ID, 1); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); insert(sub) }()
		waitForLock(t, s, done)
		if err := tx.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		<-done
		return queryInt(t, s, `SELECT count(*) FROM jobs WHERE workflow_id = $1`, sub.ID),
			queryInt(t, s, `SELECT count(*) FROM finished_jobs WHERE workflow_id = $1`, sub.ID)
	}
	for _, repeat := range []bool{false, true} {
		open, ended := race(t, func(sub model.Submission) {
			sub.Repeat = repeat
			if out := s.Submit(ctx, []model.Submission{sub}); out[0].Err != nil || out[0].Created {
				t.Errorf("repeat=%v: %+v", repeat, out[0])
			}
		})
		if open != 0 || ended != 1 {
			t.Errorf("repeat=%v: %d open, %d ended", repeat, open, ended)
		}
	}
	open, ended := race(t, func(sub model.Submission) {
		_, err := s.main.Exec(ctx, `INSERT INTO jobs (workflow_id, run_at, node, route, state, priority, max_attempts)
			SELECT $1::uuid, now(), 1, 1, 1, 2, 10 WHERE NOT EXISTS (SELECT FROM finished_jobs WHERE workflow_id = $1::uuid AND node = 1)
			ON CONFLICT DO NOTHING`, sub.ID)
		if err != nil {
			t.Error(err)
		}
	})
	if open != 1 || ended != 1 {
		t.Errorf("the wrong form: %d open, %d ended: it no longer shows the race", open, ended)
	}
}

// waitForLock returns once a statement waits for a lock, or done is closed.
func waitForLock(t testing.TB, s *Store, done <-chan struct{}) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		select {
		case <-done:
			return
		default:
		}
		if queryInt(t, s, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) > 0 {
			return
		}
	}
	t.Fatal("nothing waits")
}

var benchID uint64

func BenchmarkSubmitBatch100k(b *testing.B) {
	s := openStore(b)
	for b.Loop() {
		nodes := make([]model.NewNode, 0, 100_001)
		nodes = append(nodes, batch("all"))
		for range 100_000 {
			nodes = append(nodes, in(1, job("noop")))
		}
		submitOne(b, s, graphOf(nodes))
	}
	b.ReportMetric(float64(b.N)*100_000/b.Elapsed().Seconds(), "jobs/s")
}

func BenchmarkSubmitLone1000(b *testing.B) {
	s := openStore(b)
	for b.Loop() {
		subs := make([]model.Submission, 1000)
		for i := range subs {
			subs[i] = lone("noop")
			benchID++
			binary.BigEndian.PutUint64(subs[i].ID[8:], benchID|1<<63)
		}
		for _, out := range s.Submit(context.Background(), subs) {
			if out.Err != nil {
				b.Fatal(out.Err)
			}
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "jobs/s")
}

// BenchmarkSubmitSingle64 has 64 callers submit one job each, in a loop.
func BenchmarkSubmitSingle64(b *testing.B) {
	s := openStore(b)
	submitOne(b, s, lone("noop"))
	b.SetParallelism(32) // of 2 processors
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if out := s.Submit(context.Background(), []model.Submission{lone("noop")}); out[0].Err != nil {
				b.Error(out[0].Err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}
