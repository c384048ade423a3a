package raftsched

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// database is a table whose writes are transactions behind the fence: they hold
// its lock from their check to their commit, and a takeover waits for them, a
// second at most; then it ends them.
type database struct {
	*table
	mu      sync.Mutex
	running map[*transaction]bool
	taking  chan struct{} // closed when the takeover under way has ended; nil: none
	// facts by lease: who wrote the end of its attempt.
	facts map[HeldLease]string
	late  int // commits of an epoch below the newest takeover's: I6
}

type transaction struct {
	killed bool
	done   chan struct{}
}

var (
	errKilled = errors.New("transaction was ended")
	errDoubt  = errors.New("connection lost at commit")
)

func newDatabase() *database {
	return &database{table: newTable(), running: map[*transaction]bool{}, facts: map[HeldLease]string{}}
}

const takeoverPatience = time.Second

func (d *database) takeOver(cluster fsm.WorkflowID, epoch uint64) (uint64, error) {
	d.mu.Lock()
	for d.taking != nil {
		taking := d.taking
		d.mu.Unlock()
		<-taking
		d.mu.Lock()
	}
	mine := make(chan struct{})
	d.taking = mine
	older := make([]*transaction, 0, len(d.running))
	for tx := range d.running {
		older = append(older, tx)
	}
	d.mu.Unlock()
	patience := time.NewTimer(takeoverPatience)
	defer patience.Stop()
	for _, tx := range older {
		select {
		case <-tx.done:
		case <-patience.C:
			patience.Reset(0)
			d.mu.Lock()
			tx.killed = true
			d.mu.Unlock()
		}
	}
	floor, err := d.table.Takeover(context.Background(), cluster, epoch)
	d.mu.Lock()
	d.taking = nil
	d.mu.Unlock()
	close(mine)
	return floor, err
}

// transact: checked, then held up by gate, then committed by f.
func (d *database) transact(epoch uint64, gate func() error, f func()) error {
	d.mu.Lock()
	for d.taking != nil {
		taking := d.taking
		d.mu.Unlock()
		<-taking
		d.mu.Lock()
	}
	var newest uint64
	d.set(func() { newest = d.epoch })
	if epoch != newest {
		d.mu.Unlock()
		return ErrFenced
	}
	tx := &transaction{done: make(chan struct{})}
	d.running[tx] = true
	d.mu.Unlock()
	err := gate()

	d.mu.Lock()
	defer d.mu.Unlock()
	defer close(tx.done)
	delete(d.running, tx)
	if err != nil {
		return err
	}
	if tx.killed {
		return errKilled
	}
	d.set(func() {
		if epoch < d.epoch {
			d.late++
		}
		f()
	})
	return nil
}

// write an outcome. What the same writer has written under the lease already is
// answered for.
func (d *database) write(epoch uint64, l fsm.Lease, by string, gate func() error, end func(*dispatch.Row) (done bool)) (row *dispatch.Row, ok bool, err error) {
	err = d.transact(epoch, gate, func() {
		key := HeldLease{Job: l.Job, ID: l.ID}
		now := d.rows[l.Job]
		if now == nil || now.Turn != l.Turn {
			ok = d.facts[key] == by
			return
		}
		next := *now
		next.Turn++
		ok, d.facts[key] = true, by
		if end(&next) {
			delete(d.rows, l.Job)
			d.ended[l.Job] = "done"
			return
		}
		d.rows[l.Job] = &next
		row = &next
	})
	return row, ok, err
}

// cancel a job that nobody holds.
func (d *database) cancel(epoch uint64, job fsm.JobID, gate func() error) (gone []dispatch.JobTurn, err error) {
	err = d.transact(epoch, gate, func() {
		if row := d.rows[job]; row != nil {
			gone = append(gone, dispatch.JobTurn{Job: job, Turn: row.Turn})
			delete(d.rows, job)
			d.ended[job] = "cancelled"
		}
	})
	return gone, err
}

// shelf is a node's disk, which outlives its processes.
type shelf struct {
	mem       *raft.InmemStore
	snapshots *raft.InmemSnapshotStore
}

func newShelf() *shelf {
	return &shelf{mem: raft.NewInmemStore(), snapshots: raft.NewInmemSnapshotStore()}
}

// process is one life of a node: what it does outside itself goes through its
// gates, which hold while it is paused and fail once it is dead.
type process struct {
	mu     sync.Mutex
	paused chan struct{} // closed when it goes on; nil: it runs
	dead   bool
	noDB   bool
}

var errDead = errors.New("process is dead")

func (p *process) gate() error {
	for {
		p.mu.Lock()
		paused, dead := p.paused, p.dead
		p.mu.Unlock()
		if dead {
			return errDead
		}
		if paused == nil {
			return nil
		}
		<-paused
	}
}

// reach the database, or wait in vain for a while.
func (p *process) reach() error {
	if err := p.gate(); err != nil {
		return err
	}
	p.mu.Lock()
	cut := p.noDB
	p.mu.Unlock()
	if cut {
		time.Sleep(300 * time.Millisecond)
		return errDown
	}
	return nil
}

func (p *process) pause(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on && p.paused == nil {
		p.paused = make(chan struct{})
	}
	if !on && p.paused != nil {
		close(p.paused)
		p.paused = nil
	}
}

func (p *process) kill() {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	p.pause(false)
}

// gatedStores are the shelf as one process sees it.
type gatedStores struct {
	*raft.InmemStore
	p *process
}

func (g gatedStores) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

func (g gatedStores) StoreLogs(logs []*raft.Log) error {
	if err := g.p.gate(); err != nil {
		return err
	}
	return g.InmemStore.StoreLogs(logs)
}

func (g gatedStores) DeleteRange(low, high uint64) error {
	if err := g.p.gate(); err != nil {
		return err
	}
	return g.InmemStore.DeleteRange(low, high)
}

func (g gatedStores) Set(key, value []byte) error {
	if err := g.p.gate(); err != nil {
		return err
	}
	return g.InmemStore.Set(key, value)
}

func (g gatedStores) SetUint64(key []byte, value uint64) error {
	if err := g.p.gate(); err != nil {
		return err
	}
	return g.InmemStore.SetUint64(key, value)
}

// ringStore is the database as one process sees it.
type ringStore struct {
	*database
	p *process
}

func (s ringStore) Takeover(_ context.Context, cluster fsm.WorkflowID, epoch uint64) (uint64, error) {
	if err := s.p.reach(); err != nil {
		return 0, err
	}
	floor, err := s.takeOver(cluster, epoch)
	return floor, errors.Join(err, s.p.gate())
}

func (s ringStore) Leases(ctx context.Context, leases []fsm.Lease) ([]LeaseFact, error) {
	if err := s.p.reach(); err != nil {
		return nil, err
	}
	facts, err := s.table.Leases(ctx, leases)
	return facts, errors.Join(err, s.p.gate())
}

func (s ringStore) Routes(ctx context.Context) ([]dispatch.Route, error) {
	if err := s.p.reach(); err != nil {
		return nil, err
	}
	return s.table.Routes(ctx)
}

func (s ringStore) Paused(ctx context.Context) ([]string, []fsm.WorkflowID, error) {
	if err := s.p.reach(); err != nil {
		return nil, nil, err
	}
	return s.table.Paused(ctx)
}

func (s ringStore) Walk(ctx context.Context, after dispatch.LanePriority, first bool, perLane, limit int) ([]dispatch.Loaded, bool, error) {
	if err := s.p.reach(); err != nil {
		return nil, false, err
	}
	loaded, more, err := s.table.Walk(ctx, after, first, perLane, limit)
	return loaded, more, errors.Join(err, s.p.gate())
}

func (s ringStore) Load(ctx context.Context, loads []dispatch.Load) ([]dispatch.Loaded, error) {
	if err := s.p.reach(); err != nil {
		return nil, err
	}
	loaded, err := s.table.Load(ctx, loads)
	return loaded, errors.Join(err, s.p.gate())
}

func (s ringStore) Lanes(ctx context.Context, after dispatch.LanePriority, first bool, limit int) ([]dispatch.LanePriority, error) {
	if err := s.p.reach(); err != nil {
		return nil, err
	}
	return s.table.Lanes(ctx, after, first, limit)
}
