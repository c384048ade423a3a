package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/durationpb"

	. "github.com/heddle-io/heddle/internal/enginetest"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/pgtest"
)

// wantSoon waits a few seconds for a node's end.
func wantSoon(t *testing.T, c *Client, id, path string, state heddlev1.State) {
	t.Helper()
	res, err := c.Wait(t.Context(), connect.NewRequest(&heddlev1.WaitRequest{WorkflowId: id, Path: path, Timeout: durationpb.New(10 * time.Second)}))
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Msg.GetState(); !res.Msg.GetEnded() || got != state {
		t.Fatalf("%q is %s, want the end %s", path, got, state)
	}
}

// bigBatch is a batch over the limit from which events go down in chunks.
func bigBatch(after ...*heddlev1.ParentRef) []*heddlev1.NodeSpec {
	nodes := []*heddlev1.NodeSpec{Batch("big", after...)}
	for i := range 2001 {
		nodes = append(nodes, in("big", Job(fmt.Sprintf("j%d", i), "k")))
	}
	return nodes
}

// A cancel lifts the pause, also for the dispatcher: what cleans up runs.
func TestCancelOfPausedWorkflow(t *testing.T) {
	_, c := newEngine(t, nil)
	undo := Job("undo", "k", After("work", heddlev1.Outcome_OUTCOME_CANCELLED))
	undo.Cleanup = true
	id := c.Put(Graph(Job("work", "k"), undo))[0]
	if _, err := c.Pause(t.Context(), connect.NewRequest(&heddlev1.PauseRequest{WorkflowId: id})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Cancel(t.Context(), connect.NewRequest(&heddlev1.CancelRequest{WorkflowId: id})); err != nil {
		t.Fatal(err)
	}
	c.Work(1, map[string]Handler{"k": ok})
	wantSoon(t, c, id, "undo", stateSucceeded)
	c.Want(id, "work", stateCancelled)
}

// A submission may start a cascade: an empty batch ends at once, and sets a
// huge one free. Its members do not wait for the next look at the cascades.
func TestSubmitStartsCascade(t *testing.T) {
	_, c := newEngine(t, nil)
	c.Work(1, map[string]Handler{"k": ok})
	id := c.Put(Graph(append([]*heddlev1.NodeSpec{Batch("gate")}, bigBatch(After("gate"))...)...))[0]
	wantSoon(t, c, id, "big/j0", stateSucceeded)
}

// hands are sessions of Postgres beside the engine's.
type hands struct {
	t    *testing.T
	conn *pgx.Conn
}

func connectHands(t *testing.T, dsn string) *hands {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return &hands{t, conn}
}

func (h *hands) exec(sql string, args ...any) {
	if _, err := h.conn.Exec(context.Background(), sql, args...); err != nil {
		h.t.Error(err)
	}
}

// awaitWaiters waits until so many sessions of the database wait for locks of
// a type.
func (h *hands) awaitWaiters(what string, n int) {
	h.t.Helper()
	poll(h.t, fmt.Sprintf("%d sessions that wait for a %s", n, what), func() bool {
		var count int
		err := h.conn.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = ANY($1)`, locksOf[what]).Scan(&count)
		if err != nil {
			h.t.Fatal(err)
		}
		return count >= n
	})
}

// poll looks for something every few milliseconds.
func poll(t *testing.T, what string, there func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(10 * time.Second); !there(); <-tick.C {
		if time.Now().After(until) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

var locksOf = map[string][]string{"row": {"transactionid", "tuple"}, "advisory lock": {"advisory"}}

// A chunk of a cancelled batch is on its way when the reign ends. Which of its
// jobs run cannot be told any more: none of them is ended, the next reign tells
// them.
func TestCascadeAtTheEndOfAReign(t *testing.T) {
	dsn := pgtest.DSN(t)
	e := startEngine(t, testConfig(t, dsn))
	c := Dial(t, e.Addr())
	started, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c.Work(1, map[string]Handler{"k": func(context.Context, *heddlev1.Lease) *heddlev1.AttemptReport {
		once.Do(func() { close(started) })
		<-gate
		return Succeed("")
	}})
	id := c.Put(Graph(bigBatch()...))[0]
	<-started

	first, second, look := connectHands(t, dsn), connectHands(t, dsn), connectHands(t, dsn)
	const lock = "SELECT 1 FROM heddle.workflows WHERE id = $1 FOR UPDATE"
	first.exec("BEGIN")
	first.exec(lock, id)
	cancelled := make(chan error, 1)
	go func() {
		_, err := c.Cancel(context.Background(), connect.NewRequest(&heddlev1.CancelRequest{WorkflowId: id}))
		cancelled <- err
	}()
	look.awaitWaiters("row", 1)
	locked := make(chan struct{})
	go func() { // before the cascade's first chunk
		defer close(locked)
		second.exec("BEGIN")
		second.exec(lock, id)
	}()
	look.awaitWaiters("row", 2)
	first.exec("COMMIT")
	if err := <-cancelled; err != nil {
		t.Fatal(err)
	}
	<-locked
	look.awaitWaiters("row", 1)
	epoch, _ := e.node.Leader()
	e.node.Fenced(epoch)
	second.exec("COMMIT")

	poll(t, "a new reign", e.node.Ready)
	close(gate)
	c.Want(id, "", stateCancelled)
	c.Want(id, "big/j0", stateSucceeded)
}

// wires is a way to Postgres that can be cut while the server's side lives on.
type wires struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	clients  []net.Conn
	servers  []net.Conn
	wg       sync.WaitGroup
}

// cutable puts wires between a client and the server of the DSN.
func cutable(t *testing.T, dsn string) (*wires, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	w := &wires{to: u.Host}
	if w.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = w.listener.Addr().String()
	q := u.Query()
	q.Set("sslmode", "disable")
	u.RawQuery = q.Encode()
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		w.listener.Close()
		w.cut()
		w.mu.Lock()
		for _, s := range w.servers {
			s.Close()
		}
		w.mu.Unlock()
		w.wg.Wait()
	})
	return w, u.String()
}

// cancelRequest is the code of Postgres' message of that name.
const cancelRequest = 80877102

func (w *wires) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		head := make([]byte, 8) // its length, and what it asks for
		if _, err := io.ReadFull(client, head); err != nil || binary.BigEndian.Uint32(head[4:]) == cancelRequest {
			client.Close() // who is cut off cannot have a statement cancelled either
			continue
		}
		server, err := net.Dial("tcp", w.to)
		if err == nil {
			_, err = server.Write(head)
		}
		if err != nil {
			client.Close()
			continue
		}
		w.mu.Lock()
		w.clients, w.servers = append(w.clients, client), append(w.servers, server)
		w.mu.Unlock()
		var both sync.WaitGroup
		both.Go(func() { io.Copy(server, client) })
		both.Go(func() {
			io.Copy(client, server)
			client.Close()
		})
		w.wg.Go(func() {
			both.Wait()
			server.Close()
		})
	}
}

// cut breaks all connections for the clients. The server notices when it has
// something to say.
func (w *wires) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.clients {
		c.Close()
	}
	w.clients = nil
}

// The COMMIT of a cancel is in doubt, and comes to its end much later. Until
// its fate is known nothing of the workflow is granted: a cancelled job never
// runs.
func TestCancelInDoubt(t *testing.T) {
	dsn := pgtest.DSN(t)
	way, through := cutable(t, dsn)
	e := startEngine(t, testConfig(t, through))
	c := Dial(t, e.Addr())
	id := c.Put(Lone("k", "", nil))[0]

	hold, look := connectHands(t, dsn), connectHands(t, dsn)
	hold.exec(`CREATE FUNCTION heddle.linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END $$`)
	hold.exec(`CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON heddle.audit DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION heddle.linger()`)
	hold.exec("SELECT pg_advisory_lock(77)")
	answered := make(chan error, 1)
	go func() {
		_, err := c.Cancel(context.Background(), connect.NewRequest(&heddlev1.CancelRequest{WorkflowId: id}))
		answered <- err
	}()
	look.awaitWaiters("advisory lock", 1) // in its COMMIT
	way.cut()
	if err := <-answered; connect.CodeOf(err) != connect.CodeUnavailable {
		t.Fatalf("a cancel in doubt was answered %v", err)
	}
	// Its session opens once a leader dispatches.
	w, opened := c.NewWorker(1, map[string]Handler{"k": ok}), make(chan struct{})
	go func() {
		w.Start()
		close(opened)
	}()
	t.Cleanup(func() {
		<-opened
		w.Die()
	})
	// Either a leader waits for the transaction, or the job starts.
	poll(t, "a waiting leader, or a start", func() bool {
		var waiting int
		if err := look.conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND objid <> 77`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		return waiting > 0 || w.Starts.Load() > 0
	})
	hold.exec("SELECT pg_advisory_unlock(77)")
	c.WantThrough(id, stateCancelled)
	if n := w.Starts.Load(); n != 0 {
		t.Errorf("the cancelled job started %d times", n)
	}
}
