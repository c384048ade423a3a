package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/raftsched/dispatch"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// lanesStore has n jobs in each of some lanes, due one second apart.
func lanesStore(t *testing.T, keys []string, n int) *Store {
	s := openStore(t)
	var subs []model.Submission
	base := time.Now().Add(-time.Hour)
	for _, key := range keys {
		for i := range n {
			sub := lone("k")
			sub.Nodes[0].Job.Key = key
			sub.Nodes[0].Job.RunAt = base.Add(time.Duration(n-i) * time.Second)
			subs = append(subs, sub)
		}
	}
	for _, out := range s.Submit(context.Background(), subs) {
		if out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	return s
}

func ordered(rows []dispatch.Row) bool {
	return slices.IsSortedFunc(rows, func(a, b dispatch.Row) int {
		if a.RunAt != b.RunAt {
			return int(a.RunAt - b.RunAt)
		}
		return slices.Compare(a.Job.Workflow[:], b.Job.Workflow[:])
	})
}

func TestLoadByCursor(t *testing.T) {
	s := lanesStore(t, []string{"", "b", "é"}, 7)
	ctx := context.Background()
	lanes, err := s.Lanes(ctx, dispatch.LanePriority{}, true, 10)
	if err != nil || len(lanes) != 3 {
		t.Fatalf("lanes %v, %v", lanes, err)
	}
	if some, err := s.Lanes(ctx, lanes[0], false, 1); err != nil || len(some) != 1 || some[0] != lanes[1] {
		t.Errorf("behind the first: %v, %v", some, err)
	}
	var loads []dispatch.Load
	for _, lane := range lanes {
		loads = append(loads, dispatch.Load{Lane: lane, Limit: 4})
	}
	loads = append(loads, dispatch.Load{Lane: dispatch.LanePriority{Lane: dispatch.Lane{Route: 99}, Priority: 1}, Limit: 4})
	before, err := s.Now(ctx)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := s.Load(ctx, loads)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range loaded {
		want := 4
		if i == 3 {
			want = 0
		}
		if len(l.Rows) != want || l.End != (i == 3) || l.Lane != loads[i].Lane || l.Now < before.UnixMicro() || !ordered(l.Rows) {
			t.Errorf("load %d: %+v", i, l)
		}
		if i == 3 {
			break
		}
		last := l.Rows[3]
		loads[i].After = dispatch.Cursor{RunAt: last.RunAt, Job: last.Job}
	}
	rest, err := s.Load(ctx, loads[:3])
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range rest {
		if len(l.Rows) != 3 || !l.End || !ordered(append(loaded[i].Rows, l.Rows...)) {
			t.Errorf("rest %d: %+v", i, l)
		}
	}
}

func TestWalkGivesLanesAndWindows(t *testing.T) {
	var keys []string
	for i := range 9 {
		keys = append(keys, fmt.Sprintf("k%d", i))
	}
	s := lanesStore(t, keys, 8)
	ctx := context.Background()
	for _, c := range []struct{ perLane, limit int }{{3, 7}, {8, 5}, {20, 10}, {1, 1}, {100, 1000}} {
		var all []dispatch.Loaded
		var after dispatch.LanePriority
		for first := true; ; first = false {
			loaded, more, err := s.Walk(ctx, after, first, c.perLane, c.limit)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, loaded...)
			if !more {
				break
			}
			after = loaded[len(loaded)-1].Lane
		}
		if len(all) != len(keys) {
			t.Fatalf("%+v: %d lanes", c, len(all))
		}
		for i, l := range all {
			if l.Lane.Key != keys[i] || len(l.Rows) != min(c.perLane, 8) || !ordered(l.Rows) || l.Now == 0 {
				t.Errorf("%+v: lane %d: %+v", c, i, l)
			}
			if l.End && c.perLane < 8 || !l.End && c.perLane > 8 {
				t.Errorf("%+v: lane %d: end is %v", c, i, l.End)
			}
		}
	}
}

func TestLeases(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	ctx := context.Background()
	held := submitOne(t, s, lone("a")).Ready[0]
	gone := submitOne(t, s, lone("b")).Ready[0]
	moved := submitOne(t, s, lone("c")).Ready[0]
	f := finish(moved, model.EndSnooze)
	f.How = 3
	mustFlush(t, s, reign, finish(gone, model.EndSucceeded), f)
	lease := func(row dispatch.Row, id uint64) fsm.Lease { return fsm.Lease{Job: row.Job, Turn: row.Turn, ID: id} }
	facts, err := s.Leases(ctx, []fsm.Lease{lease(gone, 1), lease(held, 2), lease(moved, 3)})
	if err != nil || len(facts) != 3 {
		t.Fatalf("%+v, %v", facts, err)
	}
	if facts[0].Held || facts[0].Row != nil || facts[0].Lease.ID != 1 {
		t.Errorf("an ended job: %+v", facts[0])
	}
	if !facts[1].Held || facts[1].Row == nil || facts[1].Row.Job != held.Job {
		t.Errorf("a held job: %+v", facts[1])
	}
	if facts[2].Held || facts[2].Row == nil || facts[2].Row.Turn != 1 {
		t.Errorf("a snoozed job: %+v", facts[2])
	}
}

func TestPayloadsInOrder(t *testing.T) {
	s := openStore(t)
	large := lone("a")
	large.Nodes[0].Job.Args = bytes.Repeat([]byte("a"), PayloadThreshold+1)
	row := submitOne(t, s, large).Ready[0]
	small := submitOne(t, s, lone("b")).Ready[0]
	if !s.ArgsInPayloads(row.Flags) || s.ArgsInPayloads(small.Flags) || row.Args != nil {
		t.Errorf("flags %d and %d", row.Flags, small.Flags)
	}
	bodies, err := s.Payloads(context.Background(), []fsm.JobID{small.Job, row.Job})
	if err != nil || bodies[0] != nil || !bytes.Equal(bodies[1], large.Nodes[0].Job.Args) {
		t.Errorf("%d bodies, %v", len(bodies), err)
	}
}

func TestExpired(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	wait, deadline, later := lone("a"), lone("b"), lone("c")
	wait.Nodes[0].Job.WaitTimeout = time.Hour
	deadline.Nodes[0].Job.Deadline = time.Hour
	later.Nodes[0].Job.WaitTimeout = 3 * time.Hour
	for _, sub := range []model.Submission{wait, deadline, later} {
		submitOne(t, s, sub)
	}
	if jobs, next, err := s.Expired(ctx, 10); err != nil || len(jobs) != 0 || next.IsZero() {
		t.Fatalf("%v, next %s, %v", jobs, next, err)
	}
	exec(t, s, `UPDATE jobs SET expires_at = expires_at - interval '2 hours', deadline_at = deadline_at - interval '2 hours'`)
	jobs, next, err := s.Expired(ctx, 10)
	if err != nil || len(jobs) != 2 || next.Before(time.Now().Add(30*time.Minute)) {
		t.Fatalf("%v, next %s, %v", jobs, next, err)
	}
	for i, want := range []ExpiredJob{
		{Job: fsm.JobID{Workflow: wait.ID, Node: 1}, Batch: -1, Reason: "wait in the queue"},
		{Job: fsm.JobID{Workflow: deadline.ID, Node: 1}, Batch: -1, Reason: "deadline"},
	} {
		if jobs[i] != want {
			t.Errorf("expired %+v, want %+v", jobs[i], want)
		}
	}
}
