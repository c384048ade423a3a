package raftsched

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

const argsElsewhere = 64

var errDown = errors.New("database is down")

// table is the jobs table as the scheduler sees it, with turns and the fence.
// The database's clock is the bubble's.
type table struct {
	mu      sync.Mutex
	cluster fsm.WorkflowID
	epoch   uint64
	rows    map[fsm.JobID]*dispatch.Row
	// ended jobs, with the worker that ended them.
	ended  map[fsm.JobID]string
	routes []dispatch.Route
	down   bool
	// statements since the last look, by name.
	statements map[string]int
	// gate, if set, is run after a read has seen its rows and before they are
	// handed over.
	gate func(what string)
	args map[fsm.JobID][]byte
}

func newTable() *table {
	return &table{
		rows: map[fsm.JobID]*dispatch.Row{}, ended: map[fsm.JobID]string{}, statements: map[string]int{}, args: map[fsm.JobID][]byte{},
		routes: []dispatch.Route{{ID: 1, Queue: "default", Kind: "a"}, {ID: 2, Queue: "other", Kind: "a"}},
	}
}

func dbNow() int64 { return time.Now().UnixMicro() }

// statement counts one and fails while the database is down.
func (t *table) statement(what string) error {
	t.statements[what]++
	if t.down {
		return errDown
	}
	return nil
}

func (t *table) passed(what string) {
	t.mu.Lock()
	gate := t.gate
	t.mu.Unlock()
	if gate != nil {
		gate(what)
	}
}

func (t *table) Takeover(_ context.Context, cluster fsm.WorkflowID, epoch uint64) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.statement("takeover"); err != nil {
		return 0, err
	}
	if t.cluster == (fsm.WorkflowID{}) {
		t.cluster = cluster
	}
	if t.cluster != cluster {
		return 0, fmt.Errorf("database belongs to cluster %v, not %v", t.cluster, cluster)
	}
	if t.epoch >= epoch {
		return t.epoch, nil
	}
	t.epoch = epoch
	return 0, nil
}

func (t *table) Leases(_ context.Context, leases []fsm.Lease) ([]LeaseFact, error) {
	t.mu.Lock()
	err := t.statement("leases")
	var out []LeaseFact
	for _, l := range leases {
		f := LeaseFact{Lease: l}
		if row := t.rows[l.Job]; row != nil {
			c := *row
			f.Row, f.Held = &c, row.Turn == l.Turn
		}
		out = append(out, f)
	}
	t.mu.Unlock()
	t.passed("leases")
	return out, err
}

func (t *table) Routes(context.Context) ([]dispatch.Route, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.routes), t.statement("routes")
}

func (t *table) Paused(context.Context) ([]string, []fsm.WorkflowID, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return nil, nil, t.statement("paused")
}

func streamOf(r *dispatch.Row) dispatch.LanePriority {
	return dispatch.LanePriority{Lane: r.Lane, Priority: r.Priority}
}

func compareStreams(a, b dispatch.LanePriority) int {
	return cmp.Or(cmp.Compare(a.Route, b.Route), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Priority, b.Priority))
}

func cursorOf(r *dispatch.Row) dispatch.Cursor { return dispatch.Cursor{RunAt: r.RunAt, Job: r.Job} }

func (t *table) stream(s dispatch.LanePriority, after dispatch.Cursor, limit int) dispatch.Loaded {
	out := dispatch.Loaded{Lane: s, Now: dbNow(), End: true}
	for _, r := range t.rows {
		if streamOf(r) == s && cursorOf(r).Compare(after) > 0 {
			out.Rows = append(out.Rows, *r)
		}
	}
	slices.SortFunc(out.Rows, func(a, b dispatch.Row) int { return cursorOf(&a).Compare(cursorOf(&b)) })
	if len(out.Rows) > limit {
		out.Rows, out.End = out.Rows[:limit], false
	}
	return out
}

func (t *table) streams(after dispatch.LanePriority, first bool) []dispatch.LanePriority {
	found := map[dispatch.LanePriority]bool{}
	for _, r := range t.rows {
		if s := streamOf(r); first || compareStreams(s, after) > 0 {
			found[s] = true
		}
	}
	return slices.SortedFunc(maps.Keys(found), compareStreams)
}

func (t *table) Walk(_ context.Context, after dispatch.LanePriority, first bool, perLane, limit int) (out []dispatch.Loaded, more bool, err error) {
	t.mu.Lock()
	err = t.statement("walk")
	n := 0
	for _, s := range t.streams(after, first) {
		if n >= limit {
			more = true
			break
		}
		out = append(out, t.stream(s, dispatch.Cursor{}, perLane))
		n += len(out[len(out)-1].Rows)
	}
	t.mu.Unlock()
	t.passed("walk")
	return out, more, err
}

func (t *table) Load(_ context.Context, loads []dispatch.Load) (out []dispatch.Loaded, err error) {
	t.mu.Lock()
	err = t.statement("load")
	for _, l := range loads {
		out = append(out, t.stream(l.Lane, l.After, l.Limit))
	}
	t.mu.Unlock()
	t.passed("load")
	return out, err
}

func (t *table) Lanes(_ context.Context, after dispatch.LanePriority, first bool, limit int) ([]dispatch.LanePriority, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.streams(after, first)
	return s[:min(limit, len(s))], t.statement("lanes")
}

func (t *table) Payloads(_ context.Context, jobs []fsm.JobID) (out [][]byte, err error) {
	t.mu.Lock()
	for _, j := range jobs {
		out = append(out, t.args[j])
	}
	err = t.statement("payloads")
	t.mu.Unlock()
	t.passed("payloads")
	return out, err
}

func (t *table) ArgsInPayloads(flags int32) bool { return flags&argsElsewhere != 0 }

// insert a job of route 1 that is due now, unless told otherwise.
func (t *table) insert(n int32, change ...func(*dispatch.Row)) dispatch.Row {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := dispatch.Row{Job: job(n), Lane: dispatch.Lane{Route: 1}, Priority: 2, RunAt: dbNow(), MaxAttempts: 10, Batch: -1}
	for _, c := range change {
		c(&r)
	}
	t.rows[r.Job] = &r
	return r
}

func job(n int32) fsm.JobID { return fsm.JobID{Workflow: fsm.WorkflowID{15: byte(n)}, Node: n} }

// write an outcome under a lease: by epoch and turn, as every write of a leader.
// ready: the job runs again. False: the turn is another.
func (t *table) write(epoch uint64, l fsm.Lease, worker string, ready func(*dispatch.Row)) (*dispatch.Row, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.statement("write"); err != nil {
		return nil, false, err
	}
	if epoch != t.epoch {
		return nil, false, ErrFenced
	}
	row := t.rows[l.Job]
	if row == nil || row.Turn != l.Turn {
		return nil, false, nil
	}
	if ready == nil {
		delete(t.rows, l.Job)
		t.ended[l.Job] = worker
		return nil, true, nil
	}
	c := *row
	c.Turn++
	ready(&c)
	t.rows[l.Job] = &c
	return &c, true, nil
}

func (t *table) set(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

func (t *table) count(what ...string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, v := range t.statements {
		if len(what) == 0 || slices.Contains(what, k) {
			n += v
		}
	}
	return n
}
