package raftsched

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a node over a table, with its log's disk, which outlives the node.
type world struct {
	t     *testing.T
	table *table
	disk  *disk
	log   *gatedLog
	node  *Node
	cfg   Config
	fatal chan error
	// deaf: the sink drops what it is told, as if the leader died at that moment.
	deaf atomic.Bool
	ends chan []End
	// dying: a written end is not told to the node, as if it died at that moment.
	dying atomic.Bool
}

func newWorld(t *testing.T) *world {
	mem := raft.NewInmemStore()
	log := &gatedLog{LogStore: mem}
	snapshots := raft.NewInmemSnapshotStore()
	w := &world{
		t: t, table: newTable(), cfg: DefaultConfig(), fatal: make(chan error, 1), ends: make(chan []End, 100),
		log:  log,
		disk: &disk{log: log, stable: mem, snapshots: snapshots, close: func() error { return nil }},
	}
	w.cfg.ID, w.cfg.Ephemeral = "n1", true
	w.cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	if testing.Verbose() {
		w.cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	w.cfg.Fatal = func(err error) { w.fatal <- err }
	return w
}

// gatedLog lets a test hold the disk, or break it.
type gatedLog struct {
	raft.LogStore
	mu   sync.Mutex
	hold chan struct{} // entries are stored when it is closed; nil: at once
	err  error
}

func (g *gatedLog) StoreLogs(logs []*raft.Log) error {
	g.mu.Lock()
	hold, err := g.hold, g.err
	g.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if err != nil {
		return err
	}
	return g.LogStore.StoreLogs(logs)
}

func (g *gatedLog) StoreLog(log *raft.Log) error { return g.StoreLogs([]*raft.Log{log}) }

// stick holds the disk until the answer is called.
func (g *gatedLog) stick() (free func()) {
	hold := make(chan struct{})
	g.mu.Lock()
	g.hold = hold
	g.mu.Unlock()
	return func() {
		g.mu.Lock()
		g.hold = nil
		g.mu.Unlock()
		close(hold)
	}
}

// End writes the ends it is told and says so to the node.
func (w *world) End(ends []End) {
	w.ends <- ends
	if w.deaf.Load() {
		return
	}
	epoch, _ := w.node.Leader()
	d := Done{Mark: w.node.Begin()}
	for _, e := range ends {
		row, ok, err := w.table.write(epoch, e.Lease, e.Worker, func(r *dispatch.Row) { r.Attempt++; r.Losses++ })
		for err != nil && !errors.Is(err, ErrFenced) {
			time.Sleep(time.Second) // of the bubble
			row, ok, err = w.table.write(epoch, e.Lease, e.Worker, func(r *dispatch.Row) { r.Attempt++; r.Losses++ })
		}
		if ok && row.Attempt >= row.MaxAttempts {
			w.table.set(func() { delete(w.table.rows, row.Job); w.table.ended[row.Job] = "failed" })
			row = nil
		}
		d.Ended = append(d.Ended, e.Lease)
		if row != nil {
			d.Ready = append(d.Ready, *row)
		}
	}
	if w.dying.Load() {
		w.node.End(d.Mark)
		return
	}
	w.node.Done(d)
}

// start a node on the world's disk and wait until it dispatches.
func (w *world) start() {
	w.t.Helper()
	w.boot()
	w.await("ready", w.node.Ready)
}

func (w *world) boot() {
	w.t.Helper()
	n, err := New(w.cfg, w.table, w)
	if err != nil {
		w.t.Fatal(err)
	}
	n.open = func(Config) (*disk, error) { return w.disk, nil }
	w.node = n
	if err := n.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stop() {
	w.t.Helper()
	if err := w.node.Stop(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// restart stops the node and starts another one from the same log.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// await a condition, in the bubble's time.
func (w *world) await(what string, f func() bool) {
	w.t.Helper()
	for range 20_000 {
		synctest.Wait()
		if f() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatalf("not within 20 s: %s", what)
}

// submit inserts jobs and hints.
func (w *world) submit(numbers ...int32) {
	for _, n := range numbers {
		r := w.table.insert(n)
		w.node.Hint([]dispatch.LanePriority{streamOf(&r)})
	}
}

// worker speaks for one worker process.
type worker struct {
	w       *world
	session uint64
	polls   uint64
	seen    uint64
	held    map[fsm.JobID]Grant
}

func (w *world) worker(process string) *worker {
	w.t.Helper()
	id, _, err := w.node.OpenSession(context.Background(), Worker{Name: "worker " + process, Process: process})
	if err != nil {
		w.t.Fatal(err)
	}
	return &worker{w: w, session: id, held: map[fsm.JobID]Grant{}}
}

func (k *worker) request(limit int, wait time.Duration) PollRequest {
	k.polls++
	return PollRequest{Session: k.session, Poll: k.polls, Max: limit, Wait: wait, Queues: []Queue{{Name: "default"}, {Name: "other"}}, Kinds: []string{"a"}}
}

// poll for jobs and hold what comes. A heartbeat goes before it.
func (k *worker) poll(limit int, wait time.Duration) []Grant {
	k.w.t.Helper()
	k.mustBeat()
	grants, _, err := k.w.node.Poll(context.Background(), k.request(limit, wait))
	if err != nil {
		k.w.t.Fatalf("poll: %v", err)
	}
	k.take(grants)
	return grants
}

func (k *worker) take(grants []Grant) {
	for _, g := range grants {
		if k.w.table.isEnded(g.Lease.Job) {
			k.w.t.Errorf("I9: %v granted after its end", g.Lease.Job)
		}
		k.held[g.Lease.Job] = g
	}
}

func (t *table) isEnded(j fsm.JobID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.ended[j]
	return ok
}

// beat sends a heartbeat that names what is held, all polls closed.
func (k *worker) beat() (Commands, error) {
	hb := Heartbeat{Session: k.session, PollsClosed: k.polls, CommandsSeen: k.seen}
	for _, g := range k.held {
		hb.Held = append(hb.Held, HeldLease{g.Lease.Job, g.Lease.ID})
	}
	c, err := k.w.node.Heartbeat(context.Background(), hb)
	k.seen = max(k.seen, c.Number)
	return c, err
}

func (k *worker) mustBeat() Commands {
	k.w.t.Helper()
	c, err := k.beat()
	if err != nil {
		k.w.t.Fatalf("heartbeat: %v", err)
	}
	return c
}

// report writes the end of an attempt as the completer does and tells what the
// worker is told. again, unless nil, makes the job run again.
func (k *worker) report(g Grant, again func(*dispatch.Row)) Admission {
	k.w.t.Helper()
	w := k.w
	answers, leases := w.node.Admit(k.session, []HeldLease{{g.Lease.Job, g.Lease.ID}})
	if answers[0] != Admitted {
		return answers[0]
	}
	mark := w.node.Begin()
	epoch, _ := w.node.Leader()
	row, ok, err := w.table.write(epoch, leases[0], fmt.Sprint("session ", k.session), again)
	if err != nil {
		w.node.End(mark)
		return Unknown
	}
	d := Done{Ended: leases, Mark: mark}
	if row != nil {
		d.Ready = []dispatch.Row{*row}
	}
	w.node.Done(d)
	delete(k.held, g.Lease.Job)
	if !ok {
		return Stale
	}
	return Admitted
}

func (w *world) leases() int {
	n := 0
	w.node.replica.read(func(s *fsm.State) { n = s.Len() })
	return n
}

// bubble runs a test in a synctest bubble with a world whose node dispatches.
func bubble(t *testing.T, change func(*Config), f func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if change != nil {
			change(&w.cfg)
		}
		w.start()
		defer func() { w.stop() }()
		f(t, w)
	})
}

func TestWorldLogsNothingByDefault(t *testing.T) {
	// The bridge drops Raft's own lines but errors and warnings.
	var buf testBuffer
	l := quietLog(slog.New(slog.NewTextHandler(&buf, nil)))
	l.Info("entering leader state")
	l.Warn("a detail")
	if buf.n != 0 {
		t.Fatal("a quiet line was logged")
	}
	l.Named("x").With("k", 1).Error("a fault")
	if buf.n == 0 {
		t.Fatal("an error was dropped")
	}
	var _ io.Writer = &buf
}

type testBuffer struct{ n int }

func (b *testBuffer) Write(p []byte) (int, error) { b.n += len(p); return len(p), nil }
