package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/heddle-io/heddle/internal/oracle"
	"github.com/heddle-io/heddle/schema"
)

// Setup of a world.
type Setup struct {
	// Dir for everything; it must exist and be enterable for others.
	Dir string
	// Engine is the path of cmd/engine.
	Engine string
	// Workers with Slots each.
	Workers, Slots int
	// Standby gives Postgres a synchronous standby.
	Standby bool
	// TTL of the sessions.
	TTL time.Duration
	// Start is how soon lone jobs must start while all is well (I10).
	Start time.Duration
	// Pause between two rounds of a submitter.
	Pause time.Duration
	Seed  uint64
}

// World is a whole Heddle with its load, and a journal of what is done to it.
type World struct {
	Setup
	Net      *Network
	Postgres *Postgres
	Cluster  *Cluster
	// Boss writes down faults.
	Boss *oracle.Journal

	mu        sync.Mutex
	hired     int
	workers   []*Process
	submitter *Process
	submits   bool
	// expected are processes that were ended on purpose.
	expected map[*Process]bool
	tail     *oracle.Tail
	pauses   oracle.Pauses
	starts   int
	ended    []string
}

// Logs is the folder of the journals.
func (w *World) Logs() string { return filepath.Join(w.Dir, "journals") }

// Create starts everything and waits until jobs run.
func Create(ctx context.Context, s Setup) (w *World, err error) {
	w = &World{Setup: s, Net: NewNetwork(), expected: make(map[*Process]bool)}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close(ctx))
			w = nil
		}
	}()
	if err = os.MkdirAll(w.Logs(), 0o755); err != nil {
		return w, err
	}
	w.tail = oracle.NewTail(w.Logs())
	if w.Boss, err = oracle.OpenJournal(filepath.Join(w.Logs(), "boss.jsonl"), "boss"); err != nil {
		return w, err
	}
	if w.Postgres, err = StartPostgres(ctx, s.Dir, w.Net, s.Standby); err != nil {
		return w, err
	}
	if err = schema.Migrate(ctx, w.Postgres.Direct(), "heddle"); err != nil {
		return w, err
	}
	if err = oracle.WatchFence(ctx, w.Postgres.Direct(), "heddle"); err != nil {
		return w, err
	}
	w.Cluster = &Cluster{Engine: s.Engine, Dir: s.Dir, Postgres: w.Postgres.DSN(), Net: w.Net, TTL: s.TTL, Args: []string{"--migrate=false"}, Disks: true}
	if err = w.Cluster.Found(3); err != nil {
		return w, err
	}
	start, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err = w.Cluster.StartAll(start); err != nil {
		return w, err
	}
	for range s.Workers {
		if _, err = w.Hire(); err != nil {
			return w, err
		}
	}
	if err = w.Submit(); err != nil {
		return w, err
	}
	return w, w.AwaitStarts(start, 10)
}

func (w *World) play(part, name string, config any) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	p, err := Start(Program{Name: name, Path: self, Env: []string{partEnv + "=" + part, configEnv + "=" + string(encoded)}, Log: filepath.Join(w.Dir, name+".log")})
	if err != nil {
		return nil, err
	}
	w.Net.Know(p.Pid(), name)
	return p, nil
}

func (w *World) journal(name string) string { return filepath.Join(w.Logs(), name+".jsonl") }

// Hire starts another worker.
func (w *World) Hire() (*Process, error) {
	w.mu.Lock()
	w.hired++
	name := fmt.Sprintf("worker%d", w.hired)
	w.mu.Unlock()
	w.Boss.Write(oracle.Event{What: oracle.Hired, Target: name, Jobs: w.Slots})
	p, err := w.play(workerPart, name, workerConfig{Name: name, URLs: w.Cluster.URLs(), Journal: w.journal(name), Slots: w.Slots})
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.workers = append(w.workers, p)
	return p, nil
}

// Submit starts a submitter, in place of the one before.
func (w *World) Submit() error {
	w.mu.Lock()
	w.hired++
	name := fmt.Sprintf("submitter%d", w.hired)
	seed := w.Seed<<16 + uint64(w.hired)
	w.mu.Unlock()
	p, err := w.play(submitterPart, name, submitterConfig{Name: name, URLs: w.Cluster.URLs(), Journal: w.journal(name), Seed: seed, Pause: w.Pause})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.submitter, w.submits = p, true
	return nil
}

// Fault writes down that something is done to a process.
func (w *World) Fault(how, target string) {
	w.Boss.Write(oracle.Event{What: oracle.Fault, How: how, Target: target})
}

// Healed writes down that it is over.
func (w *World) Healed(how, target string) {
	w.Boss.Write(oracle.Event{What: oracle.Healed, How: how, Target: target})
}

// expect notes that a process ends on purpose.
func (w *World) expect(p *Process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected[p] = true
}

// killNode kills a node, which revive starts again.
func (w *World) killNode(n *Node) {
	w.Fault(oracle.FaultKill, n.ID)
	p := n.Process()
	w.expect(p)
	p.Kill()
}

func (w *World) revive(n *Node) error {
	err := w.Cluster.Start(n)
	w.Healed(oracle.FaultKill, n.ID)
	return err
}

// killWorker kills a worker for good.
func (w *World) killWorker(p *Process) {
	w.mu.Lock()
	w.expected[p] = true
	for i, q := range w.workers {
		if q == p {
			w.workers = append(w.workers[:i:i], w.workers[i+1:]...)
			break
		}
	}
	w.mu.Unlock()
	w.Fault(oracle.FaultKill, p.Name)
	p.Kill()
}

// worker draws one.
func (w *World) worker(r *rand.Rand) *Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.workers[r.IntN(len(w.workers))]
}

// Watch takes in what the journals say by now, and looks after the processes:
// engines that ended by themselves are started again, as a supervisor does, and
// named.
func (w *World) Watch() (ended []string, err error) {
	events, err := w.tail.Read()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	for i := range events {
		w.pauses.See(&events[i])
		if events[i].What == oracle.Start {
			w.starts++
		}
	}
	var again []*Node
	for _, n := range w.Cluster.Nodes {
		if p := n.Process(); p != nil && !p.Alive() && !w.expected[p] {
			w.expected[p] = true
			again = append(again, n)
			ended = append(ended, fmt.Sprintf("%s ended by itself with code %d", n.ID, p.Code()))
		}
	}
	workers, submitter, submits := w.workers, w.submitter, w.submits
	w.mu.Unlock()
	for _, p := range workers {
		if !p.Alive() {
			return ended, fmt.Errorf("%s ended by itself with code %d", p.Name, p.Code())
		}
	}
	if submits && submitter != nil && !submitter.Alive() {
		return ended, fmt.Errorf("%s ended by itself with code %d", submitter.Name, submitter.Code())
	}
	for _, n := range again {
		if err := w.Cluster.Start(n); err != nil {
			return ended, err
		}
	}
	return ended, nil
}

// Starts counts the handlers begun, as of the last Watch.
func (w *World) Starts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.starts
}

// Longest pause between two starts since a moment of oracle.Now, as of the last
// Watch.
func (w *World) Longest(since int64) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pauses.Longest(since, time.Duration(oracle.Now()-since))
}

// AwaitStarts waits until so many more handlers have started.
func (w *World) AwaitStarts(ctx context.Context, more int) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	want := w.Starts() + more
	for {
		if err := w.supervise(); err != nil {
			return err
		}
		if w.Starts() >= want {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d more jobs have not started: %w", more, ctx.Err())
		}
	}
}

// StopSubmitting ends the submitter in order.
func (w *World) StopSubmitting(within time.Duration) error {
	w.mu.Lock()
	p := w.submitter
	w.submits = false
	w.mu.Unlock()
	if p == nil || !p.Alive() {
		return nil
	}
	code, err := p.Terminate(within)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with code %d", p.Name, code)
	}
	return err
}

// Case is what the oracle is to judge once everything has settled.
func (w *World) Case() (oracle.Case, error) {
	logs, err := oracle.Logs(w.Logs())
	return oracle.Case{Logs: logs, DSN: w.Postgres.Direct(), Settled: true, TTL: w.TTL, Fence: true, Start: w.Start, Calm: calm}, err
}

// Dump ends all processes and has them write into their logs where all their
// goroutines are: for when nothing goes on.
func (w *World) Dump() {
	w.mu.Lock()
	all := append([]*Process{w.submitter}, w.workers...)
	w.submits, w.workers = false, nil
	w.mu.Unlock()
	for _, n := range w.Cluster.Nodes {
		all = append(all, n.Process())
	}
	for _, p := range all {
		if p.Alive() {
			p.Dump()
		}
	}
}

// Close ends everything in order.
func (w *World) Close(ctx context.Context) error {
	var errs []error
	w.Net.Heal()
	errs = append(errs, w.StopSubmitting(20*time.Second))
	w.mu.Lock()
	workers := w.workers
	w.workers = nil
	w.mu.Unlock()
	for _, p := range workers {
		code, err := p.Terminate(20 * time.Second)
		if err != nil {
			p.Kill()
		} else if code != 0 {
			err = fmt.Errorf("%s ended with code %d", p.Name, code)
		}
		errs = append(errs, err)
	}
	if w.submitter != nil {
		w.submitter.Kill()
	}
	if w.Cluster != nil {
		errs = append(errs, w.Cluster.Close())
	}
	if w.Postgres != nil {
		errs = append(errs, w.Postgres.Close(ctx))
	}
	w.Net.Close()
	if w.Boss != nil {
		errs = append(errs, w.Boss.Close())
	}
	return errors.Join(errs...)
}
