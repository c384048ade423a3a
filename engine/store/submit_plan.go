package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// Bounds of what is indexed or shown.
const (
	maxNameBytes = 200
	idWindow     = 24 * time.Hour
	maxAttempts  = 10 // of a job that gives none
	maxRunAt     = 253_402_300_799_000_000
)

// plan is a submission as rows to write.
type plan struct {
	id           fsm.WorkflowID
	lone, repeat bool
	now          int64 // the database's clock when it was planned, microseconds
	name         string
	headers      []byte
	digest       []byte
	nodes        int32
	batches      []batchRow // the root first; none for a lone job
	jobs         []jobRow
	edges        []dag.Edge
	settle       []dag.Event
	cards        *cards
	ready        []dispatch.Row
	lanes        laneSet
	weight       int
	doubt        bool // a COMMIT of it was lost sight of

	out  model.Submitted
	done func()
}

// lanesLimit bounds the streams an answer names; the scheduler finds the
// others by itself.
const lanesLimit = 10_000

func rowLane(row *dispatch.Row) dispatch.LanePriority {
	return dispatch.LanePriority{Lane: row.Lane, Priority: row.Priority}
}

// laneSet collects the streams that got rows. Most answers need none.
type laneSet map[dispatch.LanePriority]struct{}

func (l *laneSet) add(row *dispatch.Row) {
	if *l == nil {
		*l = laneSet{}
	}
	if len(*l) < lanesLimit {
		(*l)[rowLane(row)] = struct{}{}
	}
}

func (l laneSet) list() []dispatch.LanePriority {
	if len(l) == 0 {
		return nil
	}
	lanes := make([]dispatch.LanePriority, 0, len(l))
	for lane := range l {
		lanes = append(lanes, lane)
	}
	return lanes
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", model.ErrInvalid, fmt.Sprintf(format, args...))
}

// submitError says which submission failed. What is the submitter's own fault is
// answered to him under its id, and begins with the word for it.
func submitError(id fsm.WorkflowID, err error) error {
	if errors.Is(err, model.ErrInvalid) || errors.Is(err, model.ErrAlreadyExists) {
		return err
	}
	return fmt.Errorf("submit %s: %w", id, err)
}

// nodeText names a node in messages.
func nodeText(number int32, name string) string {
	if name == "" {
		return fmt.Sprintf("node %d", number)
	}
	return fmt.Sprintf("node %d (%s)", number, name)
}

// checkID refuses ids that lie outside the window of a day around the
// database's clock: a repeat of one older could follow its own retention, and
// the partitions are only kept ahead for a while.
func checkID(id fsm.WorkflowID, now time.Time) error {
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		return invalid("id %s is not a UUIDv7", id)
	}
	if off := idTime(id).Sub(now); off > idWindow || off < -idWindow {
		return invalid("id %s: its time %s is more than a day off the database's clock, %s",
			id, idTime(id).Format(time.RFC3339), now.Format(time.RFC3339))
	}
	return nil
}

// checkText refuses what PostgreSQL cannot store as text, and what is too long.
func checkText(field, text string, most int) error {
	switch {
	case len(text) > most:
		return invalid("%s has %d bytes, the limit is %d", field, len(text), most)
	case !utf8.ValidString(text):
		return invalid("%s %q is not valid UTF-8", field, text)
	case strings.IndexByte(text, 0) >= 0:
		return invalid("%s %q holds a zero byte", field, text)
	}
	return nil
}

// planner turns the nodes of one submission into rows, in their order. The
// routes must be known.
type planner struct {
	s   *Store
	id  fsm.WorkflowID
	now time.Time
}

// job makes the row of one job. released jobs get their times; released says
// that the job waits for nothing.
func (p *planner) job(number int32, n *model.NewNode, batch int32, inherited int16, released bool) (jobRow, error) {
	j := n.Job
	queue := j.Queue
	if queue == "" {
		queue = defaultQueue
	}
	fail := func(err error) (jobRow, error) {
		return jobRow{}, fmt.Errorf("%s: %w", nodeText(number, n.Name), err)
	}
	if err := errors.Join(checkText("name", n.Name, maxNameBytes), checkText("key", j.Key, maxNameBytes)); err != nil {
		return fail(err)
	}
	if len(j.Args) > p.s.config.MaxBody {
		return fail(invalid("args have %d bytes, the limit is %d", len(j.Args), p.s.config.MaxBody))
	}
	if len(j.Opts) > p.s.config.MaxBody {
		return fail(invalid("options have %d bytes, the limit is %d", len(j.Opts), p.s.config.MaxBody))
	}
	if j.Priority < 0 || j.Priority > 4 {
		return fail(invalid("priority is %d, must be 1 to 4", j.Priority))
	}
	if j.MaxAttempts < 0 {
		return fail(invalid("attempts are %d, must be at least 1", j.MaxAttempts))
	}
	route, ok := p.s.routes.id(routeName{queue, j.Kind})
	if !ok {
		return fail(fmt.Errorf("route of queue %q and kind %q is not known", queue, j.Kind))
	}
	row := jobRow{
		node: number, route: route, batch: batch, state: stateBlocked,
		priority: firstPriority(j.Priority, inherited, DefaultPriority), maxAttempts: j.MaxAttempts,
		key: j.Key, name: n.Name, args: j.Args, opts: j.Opts,
	}
	if row.maxAttempts == 0 {
		row.maxAttempts = maxAttempts
	}
	if len(j.Args) > PayloadThreshold {
		row.args, row.payload = nil, j.Args
		row.flags |= FlagArgsInPayloads
	}
	if len(row.args) == 0 {
		row.args = nil
	}
	if len(row.opts) == 0 {
		row.opts = nil
	}
	now := p.now.UnixMicro()
	row.runAt = now
	if !j.RunAt.IsZero() {
		row.runAt = j.RunAt.UnixMicro()
		if row.runAt <= 0 || row.runAt > maxRunAt {
			return fail(invalid("run_at %s is out of range", j.RunAt.Format(time.RFC3339)))
		}
	}
	if released {
		row.state = stateReleased
		row.runAt = max(row.runAt, now+j.Delay.Microseconds())
		row.deadlineAt, row.expiresAt = clocks(row.runAt, now, j.WaitTimeout, j.Deadline)
	}
	return row, nil
}

// clocks gives the deadline over all attempts and the time at which a waiting
// job fails (T3), in microseconds; 0 is none. The wait in the queue
// counts from runAt, the deadline from the later of release and runAt.
func clocks(runAt, released int64, wait, deadline time.Duration) (deadlineAt, expiresAt int64) {
	if deadline > 0 {
		deadlineAt = max(released, runAt) + deadline.Microseconds()
		expiresAt = deadlineAt
	}
	if wait > 0 {
		if at := max(released, runAt) + wait.Microseconds(); expiresAt == 0 || at < expiresAt {
			expiresAt = at
		}
	}
	return deadlineAt, expiresAt
}

func firstPriority(priorities ...int16) int16 {
	for _, p := range priorities {
		if p != 0 {
			return p
		}
	}
	return 0
}

// defaultQueue is the queue of jobs that name none.
const defaultQueue = "default"

// routesOf lists the (queue, kind) pairs of nodes and refuses malformed ones.
func routesOf(names []routeName, first int32, nodes []model.NewNode) ([]routeName, error) {
	for i := range nodes {
		n := &nodes[i]
		if (n.Job == nil) == (n.Batch == nil) {
			return nil, fmt.Errorf("%s: %w", nodeText(first+int32(i), n.Name), invalid("must be either a job or a batch"))
		}
		if n.Job == nil {
			continue
		}
		name := routeName{n.Job.Queue, n.Job.Kind}
		if name.queue == "" {
			name.queue = defaultQueue
		}
		if len(names) > 0 && names[len(names)-1] == name {
			continue
		}
		err := errors.Join(checkText("kind", name.kind, maxNameBytes), checkText("queue", name.queue, maxNameBytes))
		if name.kind == "" {
			err = invalid("kind is empty")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", nodeText(first+int32(i), n.Name), err)
		}
		names = append(names, name)
	}
	return names, nil
}

// plan checks a submission, made at made, and turns it into rows. Errors of the submission
// wrap model.ErrInvalid; others are the database's.
func (s *Store) plan(ctx context.Context, sub *model.Submission, now, made time.Time) (*plan, error) {
	if err := checkID(sub.ID, made); err != nil {
		return nil, err
	}
	names, err := routesOf(nil, 1, sub.Nodes)
	if err != nil {
		return nil, err
	}
	if err := s.addRoutes(ctx, names); err != nil {
		return nil, err
	}
	if err := s.ensureDay(ctx, dayOf(idTime(sub.ID))); err != nil {
		return nil, err
	}
	if sub.Lone {
		return s.planLone(sub, now)
	}
	return s.planGraph(sub, now)
}

func (s *Store) planLone(sub *model.Submission, now time.Time) (*plan, error) {
	if len(sub.Nodes) != 1 || sub.Nodes[0].Job == nil || len(sub.Edges) != 0 {
		return nil, invalid("a lone job is one job without edges: got %d nodes and %d edges", len(sub.Nodes), len(sub.Edges))
	}
	p := &planner{s: s, id: sub.ID, now: now}
	row, err := p.job(1, &sub.Nodes[0], -1, 0, true)
	if err != nil {
		return nil, err
	}
	plan := &plan{id: sub.ID, lone: true, repeat: sub.Repeat, now: now.UnixMicro(), nodes: 1, jobs: []jobRow{row}, weight: 1}
	plan.release(&row)
	return plan, nil
}

// release notes an available row for the answer: the row itself or, when there
// are too many, its stream.
func (p *plan) release(row *jobRow) {
	ready := row.ready(p.id)
	if len(p.ready) < model.ReadyLimit {
		p.ready = append(p.ready, ready)
		return
	}
	p.lanes.add(&ready)
}
