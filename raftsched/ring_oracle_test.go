package raftsched

import (
	"fmt"
	"sync"
	"time"

	"github.com/heddle-io/heddle/raftsched/fsm"
)

// ringOracle knows what everybody did and says which invariant that broke.
type ringOracle struct {
	r  *ring
	mu sync.Mutex

	violations []string
	running    map[fsm.JobID]map[*ringRun]bool
	final      map[fsm.JobID]bool // its success was acknowledged
	begun      map[fsm.JobID]bool
	runs       map[HeldLease]bool     // leases under which somebody ran
	owners     map[uint64]*ringWorker // of sessions
	hashes     map[uint64]uint64
	newest     uint64 // index
	spoilt     bool   // a test has changed a state by hand
	starts     int
	acks       int
	losses     int
	cancels    int
}

func newRingOracle(r *ring) *ringOracle {
	return &ringOracle{
		r: r, running: map[fsm.JobID]map[*ringRun]bool{}, final: map[fsm.JobID]bool{}, begun: map[fsm.JobID]bool{},
		runs: map[HeldLease]bool{}, owners: map[uint64]*ringWorker{}, hashes: map[uint64]uint64{},
	}
}

func (o *ringOracle) violate(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.violation(format, args...)
}

func (o *ringOracle) violation(format string, args ...any) {
	o.violations = append(o.violations, fmt.Sprintf("%.3f s: ", time.Since(o.r.begun).Seconds())+fmt.Sprintf(format, args...))
	o.r.logf("VIOLATION: "+format, args...)
}

func (o *ringOracle) failed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.violations) > 0
}

// truth is the state of the node that has applied most.
func (o *ringOracle) truth(f func(*fsm.State)) {
	var best *Node
	var most uint64
	for _, n := range o.r.nodes {
		node, _ := n.now()
		node.replica.read(func(s *fsm.State) {
			if best == nil || s.Index() > most {
				best, most = node, s.Index()
			}
		})
	}
	best.replica.read(f)
}

// applied compares the states of all nodes at the same index (I11).
func (o *ringOracle) applied(life string, index uint64, s *fsm.State) {
	hash := s.Sum()
	o.mu.Lock()
	defer o.mu.Unlock()
	if known, ok := o.hashes[index]; ok && known != hash && !o.spoilt {
		o.violation("I11: state of %s differs at index %d", life, index)
	}
	o.hashes[index] = hash
	o.newest = max(o.newest, index)
}

// forget the hashes: a test has spoilt a state.
func (o *ringOracle) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.spoilt = true
}

func (o *ringOracle) opened(session uint64, w *ringWorker) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.owners[session] = w
}

// start of a run.
func (o *ringOracle) start(run *ringRun) {
	lease := run.grant.Lease
	var open func(session uint64) bool
	leased := false
	sessions := map[uint64]bool{}
	o.truth(func(s *fsm.State) {
		l, ok := s.Lease(lease.Job)
		leased = ok && l.ID == lease.ID
		for _, se := range s.Sessions() {
			sessions[se.ID] = !se.Closing
		}
	})
	open = func(session uint64) bool { return sessions[session] }
	o.mu.Lock()
	defer o.mu.Unlock()
	o.starts++
	o.begun[lease.Job] = true
	o.runs[HeldLease{Job: lease.Job, ID: lease.ID}] = true
	if o.final[lease.Job] {
		o.violation("I9: %v starts after its acknowledged end", lease.Job)
	}
	if !leased && open(lease.Session) {
		o.violation("I5: %v starts under lease %d, which the state does not have", lease.Job, lease.ID)
	}
	for other := range o.running[lease.Job] {
		if open(other.grant.Lease.Session) {
			o.violation("I5: %v starts under lease %d while it runs under lease %d of an open session", lease.Job, lease.ID, other.grant.Lease.ID)
		}
	}
	if o.running[lease.Job] == nil {
		o.running[lease.Job] = map[*ringRun]bool{}
	}
	o.running[lease.Job][run] = true
}

func (o *ringOracle) stop(run *ringRun) {
	o.mu.Lock()
	defer o.mu.Unlock()
	job := run.grant.Lease.Job
	delete(o.running[job], run)
	if len(o.running[job]) == 0 {
		delete(o.running, job)
	}
}

func (o *ringOracle) acked(run *ringRun, final bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acks++
	if final {
		o.final[run.grant.Lease.Job] = true
	}
}

// denied: a worker was told that its lease is gone for good (C2).
func (o *ringOracle) denied(run *ringRun, by string) {
	lease := run.grant.Lease
	stands := false
	o.truth(func(s *fsm.State) {
		l, ok := s.Lease(lease.Job)
		se, open := s.Session(lease.Session)
		stands = ok && l.ID == lease.ID && open && !se.Closing
	})
	written := false
	o.r.db.set(func() { written = o.r.db.facts[HeldLease{Job: lease.Job, ID: lease.ID}] != "" })
	if stands && !written {
		o.violate("C2: lease %d of %v stands, its worker was told that it is gone %s", lease.ID, lease.Job, by)
	}
}

// unknown: a worker was told that its session is gone for good (C2).
func (o *ringOracle) unknown(session uint64, w *ringWorker) {
	open := false
	o.truth(func(s *fsm.State) {
		se, ok := s.Session(session)
		open = ok && !se.Closing
	})
	if open {
		o.violate("C2: session %d of %s is open, it was told that it is gone", session, w.name)
	}
}

func (o *ringOracle) started(job fsm.JobID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.begun[job]
}

// lost: the scheduler ends an attempt whose worker it has not heard for a TTL
// (I7). What an earlier leader had heard does not count for the next one, but
// that one waits a whole TTL too.
func (o *ringOracle) lost(e End) {
	o.mu.Lock()
	w := o.owners[e.Lease.Session]
	o.mu.Unlock()
	if w == nil || e.Reason != EndLost {
		return // opened, and its answer lost
	}
	if silent, current := w.silent(e.Lease.Session); current && silent < ringTTL/2 {
		o.violate("I7: %v is lost, its worker %s was answered %v ago", e.Lease.Job, w.name, silent)
	}
}

// cancelled: a command has ended a job that nobody held.
func (o *ringOracle) cancelled(job fsm.JobID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cancels++
	o.final[job] = true
}

func (o *ringOracle) charged(fsm.Lease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.losses++
}

// end of the run: what was acknowledged is durable.
func (o *ringOracle) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.r.db.set(func() {
		for job := range o.final {
			if _, ok := o.r.db.ended[job]; !ok || o.r.db.rows[job] != nil {
				o.violation("I9: the acknowledged end of %v is not in the database", job)
			}
		}
	})
	// A lease under which somebody ran leaves with its fact (C5): no worker of the
	// ring stops gracefully, so each run was reported, or charged.
	for run := range o.runs {
		if o.r.settled && o.r.db.facts[run] == "" {
			o.violation("I7: %v ran under lease %d, whose end was never written", run.Job, run.ID)
		}
	}
	if o.r.db.late > 0 {
		o.violation("I6: %d commits of older epochs", o.r.db.late)
	}
	for _, v := range o.violations {
		o.r.t.Error(v)
	}
}

func (o *ringOracle) summary() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var epoch uint64
	o.r.db.set(func() { epoch = o.r.db.epoch })
	return fmt.Sprintf("%d jobs, %d starts, %d acknowledged, %d cancelled, %d charged to lost sessions, %d reigns, %d entries", o.r.jobs, o.starts, o.acks, o.cancels, o.losses, epoch, o.newest)
}
