package store

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/heddle-io/heddle/dag"
	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// age gives a workflow an id, and all its times, of days ago.
func age(t testing.TB, s *Store, id fsm.WorkflowID, days int) fsm.WorkflowID {
	t.Helper()
	at := time.Now().AddDate(0, 0, -days)
	old := idAt(at)
	if err := s.ensureDay(context.Background(), dayOf(at)); err != nil {
		t.Fatal(err)
	}
	exec(t, s, `UPDATE workflows SET id = $2, created_at = $3, finished_at = CASE WHEN state = 2 THEN $3::timestamptz END WHERE id = $1`, id, old, at)
	exec(t, s, `UPDATE jobs SET workflow_id = $2 WHERE workflow_id = $1`, id, old)
	exec(t, s, `UPDATE batches SET workflow_id = $2 WHERE workflow_id = $1`, id, old)
	exec(t, s, `UPDATE edges SET workflow_id = $2 WHERE workflow_id = $1`, id, old)
	exec(t, s, `UPDATE payloads SET workflow_id = $2 WHERE workflow_id = $1`, id, old)
	exec(t, s, `UPDATE finished_jobs SET workflow_id = $2, finished_at = $3 WHERE workflow_id = $1`, id, old, at)
	return old
}

func endedLone(t testing.TB, s *Store, days int) fsm.WorkflowID {
	sub := lone("mail")
	sub.Nodes[0].Job.Args = make([]byte, 2000)
	submitOne(t, s, sub)
	end(t, s, sub.ID, 1, dag.Succeeded, "")
	return age(t, s, sub.ID, days)
}

func endedGraph(t testing.TB, s *Store, days int) fsm.WorkflowID {
	id := campaign(t, s)
	for _, node := range []int32{1, 4, 5, 6, 7} {
		end(t, s, id, node, dag.Succeeded, "")
	}
	exec(t, s, `UPDATE workflows SET state = 2, outcome = 1, finished_at = now() WHERE id = $1`, id)
	return age(t, s, id, days)
}

const rowsOf = `SELECT (SELECT count(*) FROM workflows WHERE id = $1) + (SELECT count(*) FROM batches WHERE workflow_id = $1) + (SELECT count(*) FROM edges WHERE workflow_id = $1)
	+ (SELECT count(*) FROM finished_jobs WHERE workflow_id = $1) + (SELECT count(*) FROM payloads WHERE workflow_id = $1) + (SELECT count(*) FROM jobs WHERE workflow_id = $1)
	+ (SELECT count(*) FROM groups WHERE workflow_id = $1) + (SELECT count(*) FROM group_ranges WHERE workflow_id = $1)`

func hasTable(t testing.TB, s *Store, parent string, days int) bool {
	t.Helper()
	name := parent + dayOf(time.Now().AddDate(0, 0, -days)).suffix()
	return queryInt(t, s, `SELECT count(*) FROM pg_class WHERE relname = $1`, name) == 1
}

func TestRetainDropsWholeDays(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	old := []fsm.WorkflowID{endedLone(t, s, 5), endedGraph(t, s, 5)}
	young := []fsm.WorkflowID{endedLone(t, s, 1), endedGraph(t, s, 0)}
	removed, err := s.Retain(ctx, 3*24*time.Hour)
	if err != nil || removed != 6 {
		t.Fatalf("removed %d, %v", removed, err)
	}
	for _, parent := range partitioned {
		if hasTable(t, s, parent, 5) {
			t.Errorf("%s of five days ago is still there", parent)
		}
	}
	for _, id := range old {
		if n := queryInt(t, s, rowsOf, id); n != 0 {
			t.Errorf("%d rows left of an old workflow", n)
		}
	}
	for _, id := range young {
		if n := queryInt(t, s, rowsOf, id); n == 0 {
			t.Error("a young workflow is gone")
		}
	}
	if removed, err = s.Retain(ctx, 3*24*time.Hour); err != nil || removed != 0 {
		t.Errorf("again: removed %d, %v", removed, err)
	}
	if _, err := s.Retain(ctx, time.Hour); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("an hour: %v", err)
	}
}

func TestRetainOfAPinnedDay(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	old := []fsm.WorkflowID{endedLone(t, s, 5), endedGraph(t, s, 5)}
	open := age(t, s, campaign(t, s), 5)
	late := endedLone(t, s, 5)
	exec(t, s, `UPDATE finished_jobs SET finished_at = now() WHERE workflow_id = $1`, late)
	removed, err := s.Retain(ctx, 3*24*time.Hour)
	if err != nil || removed != 6 {
		t.Fatalf("removed %d, %v", removed, err)
	}
	for _, id := range old {
		if n := queryInt(t, s, rowsOf, id); n != 0 {
			t.Errorf("%d rows left of an old workflow", n)
		}
	}
	for _, id := range []fsm.WorkflowID{open, late} {
		if n := queryInt(t, s, rowsOf, id); n == 0 {
			t.Error("what must stay is gone")
		}
	}
	if !hasTable(t, s, "finished_jobs", 5) {
		t.Error("the partition of a pinned day is gone")
	}
}

// TestRetainGoesOn finishes what an interrupted retention has left: a detached
// table, and partitions without their history.
func TestRetainGoesOn(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	endedLone(t, s, 6)
	name := "finished_jobs" + dayOf(time.Now().AddDate(0, 0, -6)).suffix()
	exec(t, s, "ALTER TABLE finished_jobs DETACH PARTITION "+name)
	if _, err := s.Retain(ctx, 3*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, parent := range partitioned {
		if hasTable(t, s, parent, 6) {
			t.Errorf("%s is still there", parent)
		}
	}
}

// TestRetainPutsBackARetriedDay: a lone job was retried between the look and
// the detaching.
func TestRetainPutsBackARetriedDay(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	kept := endedLone(t, s, 6)
	sub := lone("again")
	submitOne(t, s, sub)
	age(t, s, sub.ID, 6)
	d := dayOf(time.Now().AddDate(0, 0, -6))
	if err := s.detach(ctx, history, d); err == nil || !strings.Contains(err.Error(), "retried") {
		t.Errorf("detach: %v", err)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM finished_jobs WHERE workflow_id = $1`, kept); n != 1 {
		t.Error("the history of the day is not back")
	}
}

func TestDelete(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	alone, graph := endedLone(t, s, 0), endedGraph(t, s, 0)
	open := campaign(t, s)
	openLone := lone("mail")
	submitOne(t, s, openLone)
	for _, id := range []fsm.WorkflowID{alone, graph} {
		if err := s.Delete(ctx, id); err != nil {
			t.Error(err)
		}
		if n := queryInt(t, s, rowsOf, id); n != 0 {
			t.Errorf("%d rows left", n)
		}
		if err := s.Delete(ctx, id); !errors.Is(err, model.ErrNotFound) {
			t.Errorf("again: %v", err)
		}
	}
	for _, id := range []fsm.WorkflowID{open, openLone.ID} {
		if err := s.Delete(ctx, id); !errors.Is(err, model.ErrRefused) {
			t.Errorf("open: %v", err)
		}
	}
}

func TestVacuumAndPartitions(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	if err := s.VacuumJobs(ctx); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := s.EnsurePartitions(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for days := -daysAhead; days <= daysBack; days++ {
		for _, parent := range partitioned {
			if !hasTable(t, s, parent, days) {
				t.Errorf("no %s of %d days ago", parent, days)
			}
		}
	}
}
