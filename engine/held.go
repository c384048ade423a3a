package engine

import (
	"sync"
	"time"

	"github.com/heddle-io/heddle/engine/store"
	"github.com/heddle-io/heddle/raftsched"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// heldJob is what the end of an attempt needs to know of its job's row as it
// was granted.
type heldJob struct {
	lease       uint64
	deadlineAt  int64 // microseconds of the database clock; 0: none
	runAt       int64 // microseconds of the database clock
	route       int32
	batch       int32
	flags       int32
	attempt     int16
	maxAttempts int16
	told        bool // a cancel was requested while it ran
	opts        []byte
	seen        time.Time
}

func heldFromRow(lease uint64, r *dispatch.Row, now time.Time) heldJob {
	return heldJob{
		lease: lease, deadlineAt: r.DeadlineAt, runAt: r.RunAt, route: r.Lane.Route, batch: r.Batch, flags: r.Flags,
		attempt: r.Attempt, maxAttempts: r.MaxAttempts, opts: r.Opts, seen: now,
		told: r.Flags&store.FlagCancelled != 0,
	}
}

// heldJobs remembers the rows of granted jobs, so that a report costs no read.
// It is a cache: what is missing (after a restart) is read from Postgres, and
// what outlives its lease is swept out. Safe for concurrent use.
type heldJobs struct {
	mu   sync.RWMutex
	jobs map[fsm.JobID]heldJob
}

func newHeldJobs() *heldJobs { return &heldJobs{jobs: make(map[fsm.JobID]heldJob)} }

// granted notes the rows of new leases, before their worker sees them.
func (h *heldJobs) granted(grants []raftsched.Grant, now time.Time) {
	if len(grants) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range grants {
		h.jobs[grants[i].Lease.Job] = heldFromRow(grants[i].Lease.ID, &grants[i].Row, now)
	}
}

// put notes one row that was read.
func (h *heldJobs) put(job fsm.JobID, j heldJob) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old, ok := h.jobs[job]; ok && old.lease == j.lease {
		j.told = j.told || old.told
	}
	h.jobs[job] = j
}

// find fills what is known of the leases and gives the indexes of the others.
func (h *heldJobs) find(leases []fsm.Lease, into []heldJob) (missing []int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for i := range leases {
		j, ok := h.jobs[leases[i].Job]
		if !ok || j.lease != leases[i].ID {
			missing = append(missing, i)
			continue
		}
		into[i] = j
	}
	return missing
}

// tell marks jobs whose holders were told to cancel.
func (h *heldJobs) tell(jobs []fsm.JobID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range jobs {
		if j, ok := h.jobs[id]; ok {
			j.told = true
			h.jobs[id] = j
		}
	}
}

// isTold reports whether the holder of a lease was told to cancel.
func (h *heldJobs) isTold(lease fsm.Lease) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	j, ok := h.jobs[lease.Job]
	return ok && j.lease == lease.ID && j.told
}

// ended forgets leases whose facts are written.
func (h *heldJobs) ended(leases []fsm.Lease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range leases {
		if j, ok := h.jobs[leases[i].Job]; ok && j.lease == leases[i].ID {
			delete(h.jobs, leases[i].Job)
		}
	}
}

// sweep forgets jobs noted before the time whose lease stands no more: grants
// that never reached their worker, sessions that gave theirs back.
func (h *heldJobs) sweep(before time.Time, standing func(fsm.JobID) (lease uint64, ok bool)) {
	type old struct {
		job   fsm.JobID
		lease uint64
	}
	h.mu.RLock()
	var olds []old
	for id, j := range h.jobs {
		if j.seen.Before(before) {
			olds = append(olds, old{id, j.lease})
		}
	}
	h.mu.RUnlock()
	for _, o := range olds {
		if lease, ok := standing(o.job); ok && lease == o.lease {
			continue
		}
		h.mu.Lock()
		if j, ok := h.jobs[o.job]; ok && j.lease == o.lease {
			delete(h.jobs, o.job)
		}
		h.mu.Unlock()
	}
}
