// Package engine assembles the engine of Heddle: the store, the replicated
// scheduler, the completer that makes ends of attempts durable, the work only a
// leader does, and the API. It is the engine as a library; cmd/engine is a thin
// program around it.
//
// New checks the configuration. Start opens the store and returns when jobs are
// dispatched; as a member of a cluster, when calls are taken. It starts all
// goroutines, and Stop waits for all of them. An Engine is started and stopped
// once.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/engine/store"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/process"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/schema"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/protobuf/proto"
)

// ErrStopped is why calls fail while the engine stops.
var ErrStopped = errors.New("the engine stops")

// Engine is one node: it takes submissions, hands jobs to workers and makes
// their ends durable.
type Engine struct {
	cfg Config
	log *slog.Logger

	lock      *dirLock
	store     *store.Store
	sched     *schedStore
	node      *raftsched.Node
	completer *completer
	hub       *watchHub
	clock     *dbClock
	routes    routeNames
	sessions  sessionNames
	leader    leaderWork
	tally     tally
	live      *liveHub
	inbox     inbox
	front     front
	gate      *access.Gate
	cluster   cluster
	meters    *meters

	leadership leadership
	hints      hints

	starting sync.Mutex      // held by Start
	aborted  context.Context // ends a start under way
	abort    context.CancelFunc

	life   context.Context // of the goroutines that stop last
	end    context.CancelFunc
	wg     sync.WaitGroup
	led    chan struct{} // closed at the first reign
	ledOne sync.Once
	fatal  chan error // why the engine stopped itself; holds one

	state atomic.Int32 // stateNew, stateStarted, stateStopped
}

const (
	// stopTime bounds a stop whose context has no end of its own.
	stopTime = 30 * time.Second
	// handOverTime bounds how long a stop waits for another leader.
	handOverTime = 5 * time.Second
)

const (
	stateNew int32 = iota
	stateStarted
	stateStopped
)

// New checks the configuration and builds an engine; nothing runs yet.
func New(cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("engine: configuration: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	e := &Engine{cfg: cfg, log: cfg.Logger, clock: newDBClock(), led: make(chan struct{}), fatal: make(chan error, 1)}
	gate, err := e.newGate()
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	e.gate = gate
	e.life, e.end = context.WithCancel(context.Background())
	e.aborted, e.abort = context.WithCancel(context.Background())
	e.front.init(e)
	e.meters = newMeters(e)
	e.leader.init()
	e.leadership.init(e)
	e.hints.init(e)
	return e, nil
}

// Start returns when the engine dispatches jobs, or with the error why it
// cannot. A member of a cluster returns when it takes calls: submissions and
// reads need no leader, and other calls wait for one; /readyz tells when there
// is. While Postgres cannot be reached Start waits, and says so in the log, until
// ctx ends. ctx bounds the start only.
func (e *Engine) Start(ctx context.Context) error {
	if !e.state.CompareAndSwap(stateNew, stateStarted) {
		return errors.New("engine: started or stopped already")
	}
	err := func() error {
		e.starting.Lock()
		defer e.starting.Unlock()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(e.aborted, cancel)()
		return e.start(ctx)
	}()
	if err != nil {
		e.Stop(context.WithoutCancel(ctx))
		return fmt.Errorf("engine: start: %w", err)
	}
	return nil
}

func (e *Engine) start(ctx context.Context) error {
	if !e.cfg.Ephemeral {
		if err := os.MkdirAll(e.cfg.DataDir, 0o755); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		lock, err := lockDir(e.cfg.DataDir)
		if err != nil {
			return err
		}
		e.lock = lock
	}
	if err := e.cluster.open(e); err != nil {
		return err
	}
	// The addresses are taken first: a second engine fails before it touches
	// anything.
	if err := e.front.listen(); err != nil {
		return err
	}
	for _, w := range e.cfg.warnings() {
		e.log.Warn(w)
	}
	if err := e.openStore(ctx); err != nil {
		return err
	}
	if now, err := e.store.Now(ctx); err == nil {
		e.clock.observe(now.UnixMicro())
	}
	if err := e.store.EnsurePartitions(ctx); err != nil {
		return fmt.Errorf("partitions: %w", err)
	}
	e.hub = newWatchHub(e.log, e.leads, e.store.Ended)
	e.wg.Go(func() { e.hub.run(e.life) })
	e.live = newLiveHub(e.life, e.store, looks{e})
	e.wg.Go(func() { e.writeTally(e.life) })

	e.cluster.foreign.init(e)
	e.sched = &schedStore{store: e.store, clock: e.clock, foreign: &e.cluster.foreign}
	e.completer = &completer{
		log: e.log, store: measured{e.store, e.meters}, reign: e.reign, now: e.clock.now, worker: e.workerOf,
		limits: e.cfg.limits(), held: newHeldJobs(), wait: e.cfg.ReportWait, onEffect: e.effects, tally: &e.tally,
	}
	node, err := raftsched.New(e.nodeConfig(), e.sched, e.completer)
	if err != nil {
		return err
	}
	e.node, e.completer.sched = node, node
	e.store.ShowLeases(node)
	e.completer.start(e.cfg.Flushers)
	if err := node.Start(ctx); err != nil {
		e.node = nil
		return err
	}
	e.wg.Go(func() { e.leadership.run(e.life) })
	e.wg.Go(func() { e.hints.run(e.life) })
	if err := e.cluster.within(); err != nil {
		return err
	}
	if e.cluster.alone() {
		select {
		case <-e.led:
		case err := <-e.cluster.foreign.found:
			return fmt.Errorf("%w; if its data directory is lost for good, start once with Adopt: what was running then runs again", err)
		case err := <-e.fatal:
			return err
		case <-ctx.Done():
			return fmt.Errorf("waiting for the scheduler: %w", ctx.Err())
		}
	}
	if err := e.front.open(); err != nil {
		return err
	}
	e.log.Info("engine started", "listen", e.Addr(), "advertise", e.cluster.address, "node", e.cfg.NodeID, "data_dir", e.cfg.DataDir, "version", e.cfg.Version)
	return nil
}

// inProcess marks sessions of workers that live in an engine's own process.
const inProcess = "in-process:"

func (e *Engine) nodeConfig() raftsched.Config {
	c := raftsched.DefaultConfig()
	c.ID, c.Ephemeral, c.Version = e.cfg.NodeID, e.cfg.Ephemeral, e.cfg.Version
	if !e.cfg.Ephemeral {
		c.Dir = filepath.Join(e.cfg.DataDir, "raft")
	}
	c.Raft, _ = raftsched.RaftProfile(e.cfg.RaftProfile) // Validate has seen it
	c.APIAddr, c.SessionTTL, c.Logger = e.cluster.api, e.cfg.SessionTTL, e.log
	if e.cluster.joinable() {
		c.Network, c.Address, c.Peers = e.front.port.Raft(), e.cluster.address, e.cluster.peers
		c.PeerAddrs, c.Expect = e.cfg.Peers, e.cfg.ClusterExpect
	}
	c.TimeoutOf = attemptTimeout
	c.CancelTold = func(flags int32) bool { return flags&store.FlagCancelled != 0 }
	// Whoever holds the directory's lock knows that the engine before it has
	// ended, and with it the workers in its process.
	c.DeadProcess = func(p string) bool {
		mark := inProcess + e.cfg.NodeID + ":"
		return strings.HasPrefix(p, mark) && !strings.HasPrefix(p, mark+process.ID())
	}
	c.Lead = e.lead
	c.Fatal = func(err error) {
		e.log.Error("engine stopped itself", "error", err)
		e.fatal <- err // called once
		if e.cfg.Fatal != nil {
			e.cfg.Fatal(err)
		}
	}
	return c
}

// attemptTimeout reads the limit of one attempt from a job's options.
func attemptTimeout(opts []byte) time.Duration {
	if len(opts) == 0 {
		return 0
	}
	var o heddlev1.JobOptions
	if proto.Unmarshal(opts, &o) != nil {
		return 0
	}
	return o.GetTimeout().AsDuration()
}

// openStore migrates and opens the store, as soon as Postgres answers.
func (e *Engine) openStore(ctx context.Context) error {
	pause := newBackoff(200*time.Millisecond, 5*time.Second)
	for {
		err := e.tryStore(ctx)
		switch {
		case err == nil:
			if pause.tries() > 0 {
				e.log.Info("postgres reached", "tries", pause.tries()+1)
			}
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("waiting for postgres: %w (%w)", context.Cause(ctx), err)
		case !away(err):
			return err
		}
		if pause.tries() == 0 {
			e.log.Warn("postgres cannot be reached, waiting for it", "error", err)
		}
		pause.sleep(ctx.Done())
	}
}

func (e *Engine) tryStore(ctx context.Context) error {
	if !e.cfg.SkipMigrate {
		if err := schema.Migrate(ctx, e.cfg.Postgres, e.cfg.Schema); err != nil {
			return err
		}
	}
	s, err := store.Open(ctx, store.Config{
		DSN: e.cfg.Postgres, Schema: e.cfg.Schema, MaxConns: max(e.cfg.MaxConns-12, 4), MaxBody: e.cfg.MaxBody, Logger: e.log,
	})
	e.store = s
	return err
}

// away reports whether an error at start may pass without anyone's doing: the
// server is down or starting. Refusals (password, no such database) do not.
func away(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code[:min(2, len(pg.Code))] {
		case "57", "53", "08", "58":
			return true
		}
		return pg.Code == "55P03" || strings.HasPrefix(pg.Code, "40")
	}
	return store.Transient(err)
}

// Stop ends the engine: long calls end, reports that wait are written, the
// scheduler's log is closed, and no goroutine is left. Workers keep their jobs
// for the next start. When ctx ends before, what still waits is given up;
// their workers report it again. A start under way is broken off. Repeated
// calls do nothing.
func (e *Engine) Stop(ctx context.Context) error {
	if e.state.Swap(stateStopped) == stateStopped {
		return nil
	}
	e.abort()
	e.starting.Lock()
	defer e.starting.Unlock()
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	var errs []error
	e.handOver(ctx)
	e.front.drain(ctx)
	if e.completer != nil && e.completer.ctx != nil {
		e.completer.stop(ctx)
	}
	if e.node != nil {
		errs = append(errs, e.node.Stop(ctx))
	}
	e.front.close(ctx)
	e.cluster.close()
	e.end()
	e.wg.Wait()
	if e.live != nil {
		e.live.wait()
	}
	if e.store != nil {
		e.store.Close()
	}
	if e.lock != nil {
		errs = append(errs, e.lock.release())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("engine: stop: %w", err)
	}
	e.log.Info("engine stopped")
	return nil
}

// handOver lets another node lead before this one stops, so that the others wait
// for nothing that it still has to do.
func (e *Engine) handOver(ctx context.Context) {
	if e.node == nil || !e.node.Ready() || len(e.node.Status().Members) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	if leader, err := e.node.Transfer(ctx, ""); err != nil {
		e.log.Warn("leadership not handed over", "error", err)
	} else {
		e.log.Info("leadership handed over", "leader", leader)
	}
}

// Handler serves the API (Connect, gRPC, gRPC-Web and JSON) and the admin page.
// It may be mounted in a server of the caller's own: at the root, under a path
// that http.StripPrefix takes off, or under Config.Prefix; gRPC needs HTTP/2 and
// the root. Config.Authorize says who may what there. Before Start has returned,
// and after Stop, it answers that the engine is unavailable.
func (e *Engine) Handler() http.Handler { return &e.front }

// Addr is where the engine's own API server listens, "" if it has none.
func (e *Engine) Addr() string { return e.front.addr() }

// URL is where workers and other nodes call this engine's API: at the address it
// advertises, or else where it listens. "" if it has no server of its own.
func (e *Engine) URL() string {
	if e.front.port == nil {
		return ""
	}
	return e.cluster.peers.scheme + cmp.Or(e.cluster.address, e.Addr())
}

// reign is the one under which this node may write, if it leads.
func (e *Engine) reign() (model.Reign, bool) {
	epoch, leading := e.node.Leader()
	r := e.sched.reign.Load()
	if !leading || r == nil || r.Epoch != epoch {
		return model.Reign{}, false
	}
	return *r, true
}

// leads reports whether this node leads and dispatches.
func (e *Engine) leads() bool { return e.node != nil && e.node.Ready() }

// effects hands on what a committed transaction changed beyond what the
// scheduler was told in its Done.
func (e *Engine) effects(eff *model.Effects) {
	if len(eff.Lanes) > 0 {
		e.node.Hint(eff.Lanes)
	}
	if len(eff.Tell) > 0 {
		e.completer.held.tell(eff.Tell)
		e.node.Tell(eff.Tell)
	}
	for _, id := range eff.Resumed {
		e.node.SetWorkflowPaused(id, false)
	}
	if len(eff.Touched)+len(eff.Ended) > 0 {
		e.hub.tell(eff.Touched, eff.Ended)
	}
	if eff.Cascades {
		put(e.leader.cascades)
	}
	e.leader.expect(eff.Ready)
}
