package oracle

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	heddle "github.com/heddle-io/heddle/sdk"
)

// Case is what is to be judged.
type Case struct {
	// Logs are the files of all processes.
	Logs []string
	// DSN of the database, and the schema of the engine's tables in it; "":
	// "heddle".
	DSN, Schema string
	// Settled: all faults are over and everything must have ended (I12).
	Settled bool
	// TTL of the sessions: a worker that was silent for much less has not lost
	// its own. 0: 15 s.
	TTL time.Duration
	// Start is the bound of I10; 0: not judged. Calm is how long after a fault,
	// or after hiring a worker, it does not count; 0: 5 s.
	Start, Calm time.Duration
	// Fence: WatchFence has watched from the first migration on (I6).
	Fence bool
	// Share of the logs, in bytes, that one reading takes in; 0: 256 MiB.
	Share int64
}

// Judge reads the logs and one snapshot of the database, and checks all it can.
func Judge(ctx context.Context, c Case) (*Verdict, error) {
	c.Schema = cmp.Or(c.Schema, "heddle")
	c.TTL = cmp.Or(c.TTL, 15*time.Second)
	c.Calm = cmp.Or(c.Calm, 5*time.Second)
	c.Share = cmp.Or(c.Share, 256<<20)
	v := &Verdict{}
	p := newPace(c.Start, c.Calm)
	if err := Merge(c.Logs, func(e *Event) error { p.see(e); return nil }); err != nil {
		return nil, err
	}
	v.Events, v.Latest = p.events, p.latest
	v.add(p.found...)

	conn, err := dial(ctx, c.DSN, c.Schema)
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	scope := Everything
	if c.Settled {
		scope = Ended
	}
	found, err := Check(ctx, tx, scope)
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	v.add(found...)
	if c.Fence {
		if found, err = checkFence(ctx, tx); err != nil {
			return nil, fmt.Errorf("judge: %w", err)
		}
		v.add(found...)
	}

	var size int64
	for _, path := range c.Logs {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("judge: %w", err)
		}
		size += info.Size()
	}
	of := int(min(size/c.Share, 255)) + 1
	for n := range of {
		s := &share{n: n, of: of, flows: make(map[uuid.UUID]*flow), pace: p, who: make([]string, len(p.names))}
		for name, number := range p.names {
			s.who[number] = name
		}
		if err := Merge(c.Logs, func(e *Event) error { s.see(e); return nil }); err != nil {
			return nil, err
		}
		if err := s.read(ctx, tx); err != nil {
			return nil, fmt.Errorf("judge: %w", err)
		}
		s.judge(c, v)
	}
	return v, nil
}

func (s *share) judge(c Case, v *Verdict) {
	flows := make([]*flow, 0, len(s.flows))
	for _, f := range s.flows {
		flows = append(flows, f)
	}
	slices.SortFunc(flows, func(a, b *flow) int { return slices.Compare(a.id[:], b.id[:]) })
	for _, f := range flows {
		if f.announced {
			v.Submissions++
		}
		s.submission(f, c)
		for _, node := range sortedNodes(f) {
			j := f.nodes[node]
			if j.row != rowNone {
				v.Jobs++
			}
			v.Losses += j.tries[howLost]
			slices.SortFunc(j.runs, func(a, b run) int { return cmp.Compare(a.lease, b.lease) })
			subject := Job{f.id.String(), node}.String()
			s.rows(f, j, subject)
			s.oncePerOutcome(j, subject)
			s.apart(j, subject)
			s.acknowledged(f, j, subject)
			s.attempts(f, j, subject)
			s.losses(j, subject, c.TTL)
		}
		s.parentsFirst(f)
	}
	v.Runs += s.runs
	v.add(s.found...)
}

func sortedNodes(f *flow) []int32 {
	nodes := make([]int32, 0, len(f.nodes))
	for n := range f.nodes {
		nodes = append(nodes, n)
	}
	slices.Sort(nodes)
	return nodes
}

// submission: what was acknowledged is there entirely; what was not is there
// entirely or not at all (I8). It has ended as it must.
func (s *share) submission(f *flow, c Case) {
	if !f.announced {
		return
	}
	have := 0
	for _, j := range f.nodes {
		if j.row != rowNone {
			have++
		}
	}
	if have == 0 && !f.acked {
		return
	}
	least, most := f.jobs, f.jobs
	for key, g := range f.grown {
		most += g.jobs
		// What a job would continue with is dropped when somebody has cancelled
		// what is around it.
		if g.acked && !(f.commanded && isThen(key)) {
			least += g.jobs
		}
	}
	if have < least || have > most {
		s.violation("I8", Lost, f.id.String(), nil, "has %d jobs (acknowledged: %v), want %d to %d", have, f.acked, least, most)
		return
	}
	if f.want == 0 || f.commanded || !c.Settled {
		return
	}
	outcome := f.outcome
	if f.lone && !f.rooted {
		outcome = f.nodes[1].outcome
	}
	if outcome != f.want {
		s.violation("I8", Tables, f.id.String(), nil, "ended %v, want %v", outcome, f.want)
	}
}

// rows: what has run has a row somewhere.
func (s *share) rows(f *flow, j *job, subject string) {
	if j.row == rowNone && len(j.runs) > 0 {
		s.violation("I1", Lost, subject, j, "has run, and has no row")
	}
}

// oncePerOutcome: an outcome was written for each lease that was started, but
// for the one of the present run (I5, I9). Turns count outcomes, so this needs
// no clock.
func (s *share) oncePerOutcome(j *job, subject string) {
	started, acked := 0, 0
	for _, r := range j.runs {
		if r.start != 0 {
			started++
		}
		if r.acked != 0 {
			acked++
		}
	}
	allowed := j.turn
	if j.row == rowOpen {
		allowed++
	}
	if started > allowed {
		s.violation("I5", Twice, subject, j, "started under %d leases, and %d outcomes were written", started, j.turn)
	}
	if acked > j.turn {
		s.violation("I9", Lost, subject, j, "%d reports were acknowledged, and %d outcomes are written", acked, j.turn)
	}
}

// apart: a run begins after the end of the run before, unless its worker was
// killed or the engine had taken the job back from it (I5).
func (s *share) apart(j *job, subject string) {
	var gone []string // tries of workers that are not accounted for
	for i, r := range j.runs {
		if r.start == 0 {
			continue
		}
		who := s.who[r.who]
		for _, next := range j.runs[i+1:] {
			if next.start == 0 || r.end != 0 && r.end <= next.start {
				continue
			}
			if at, killed := s.pace.killed(who); killed && r.end == 0 && at <= next.start {
				break
			}
			if gone == nil {
				gone = slices.Clone(j.gone)
			}
			if at := slices.Index(gone, who); at >= 0 {
				gone = slices.Delete(gone, at, at+1)
				break
			}
			s.violation("I5", Twice, subject, j, "started under lease %d on %s while it ran under lease %d on %s", next.lease, s.who[next.who], r.lease, who)
			break
		}
	}
}

// acknowledged: an end that was acknowledged is in the history, and nothing
// ran after it (I9).
func (s *share) acknowledged(f *flow, j *job, subject string) {
	if f.commanded {
		return
	}
	for i, r := range j.runs {
		if !final(r.acked) {
			continue
		}
		if j.row != rowFinished {
			s.violation("I9", Lost, subject, j, "was acknowledged as ended under lease %d, and is not in the history", r.lease)
			return
		}
		for _, next := range j.runs[i+1:] {
			if next.start != 0 {
				s.violation("I9", Twice, subject, j, "started under lease %d after its end under lease %d was acknowledged", next.lease, r.lease)
				return
			}
		}
	}
}

// attempts: those counted are the reported failures, the lost sessions and the
// end (I7).
func (s *share) attempts(f *flow, j *job, subject string) {
	if j.row == rowNone {
		return
	}
	failures := 0
	for _, r := range j.runs {
		if r.end != 0 && !r.ok || r.end == 0 && (r.acked != 0 || r.start != 0) {
			failures++
		}
	}
	if failed := j.tries[howFailed] + j.tries[howTimeout]; failed > failures {
		s.violation("I7", Charged, subject, j, "was charged %d failures, its handler failed at most %d times", failed, failures)
	}
	if f.commanded {
		return // a new life has a count of its own
	}
	if j.outcome == heddle.Skipped && len(j.runs) > 0 {
		s.violation("I4", Order, subject, j, "was skipped, and has run")
	}
	counted := j.tries[howFailed] + j.tries[howLost] + j.tries[howTimeout]
	want := counted
	if j.row == rowFinished && j.byWorker && (j.outcome == heddle.Succeeded || j.outcome == heddle.Failed) {
		want++
	}
	if j.attempt != want {
		s.violation("I7", Charged, subject, j, "counts %d attempts, want %d: failed %d, lost %d, timeout %d", j.attempt, want,
			j.tries[howFailed], j.tries[howLost], j.tries[howTimeout])
	}
}

// losses: a session is lost only with its worker, or when that was silent for
// long (I7).
func (s *share) losses(j *job, subject string, ttl time.Duration) {
	for _, who := range j.lostWith {
		if _, killed := s.pace.killed(who); killed {
			continue
		}
		if silent := s.pace.silent(who, ttl/4); silent < ttl/2 {
			s.violation("I7", Charged, subject, j, "was lost with %s, which was not killed and not kept from its engines for longer than %v", who, silent)
		}
	}
}

// parentsFirst: nothing starts before what it waits for has ended (I4). What
// was retried or cancelled by hand has other rules.
func (s *share) parentsFirst(f *flow) {
	if f.commanded || len(f.edges) == 0 {
		return
	}
	members := make(map[int32][]int32) // of batches, direct ones
	for node, j := range f.nodes {
		if j.row != rowNone {
			members[j.batch] = append(members[j.batch], node)
		}
	}
	for node, b := range f.batches {
		members[b.parent] = append(members[b.parent], node)
	}
	memo := make(map[int32][2]int64)
	for _, e := range f.edges {
		ended := f.span(e.parent, members, memo)[1]
		if first := f.span(e.child, members, memo)[0]; first != 0 && first < ended {
			s.violation("I4", Order, Job{f.id.String(), e.child}.String(), f.nodes[e.child], "started %v before its parent %d had ended", time.Duration(ended-first), e.parent)
		}
	}
}

// span gives the first start and the last end in a node; 0: none.
func (f *flow) span(node int32, members map[int32][]int32, memo map[int32][2]int64) [2]int64 {
	if span, known := memo[node]; known {
		return span
	}
	var span [2]int64
	if f.batches[node] != nil {
		for _, m := range members[node] {
			inner := f.span(m, members, memo)
			if span[0] == 0 || inner[0] != 0 && inner[0] < span[0] {
				span[0] = inner[0]
			}
			span[1] = max(span[1], inner[1])
		}
	} else if j := f.nodes[node]; j != nil {
		for _, r := range j.runs {
			if r.start != 0 && (span[0] == 0 || r.start < span[0]) {
				span[0] = r.start
			}
			span[1] = 0 // what counts is the last lease, and its end only if the engine heard of it
			if r.acked != 0 {
				span[1] = r.end
			}
		}
	}
	memo[node] = span
	return span
}
