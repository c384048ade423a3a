package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// What says nothing about the data is tried again; what does is isolated.
func TestTransient(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&pgconn.PgError{Code: "53100"}, true}, // disk full
		{&pgconn.PgError{Code: "57P01"}, true},
		{&pgconn.PgError{Code: "40P01"}, true},
		{&pgconn.PgError{Code: "42P01"}, true}, // a missing table is nobody's report
		{&pgconn.PgError{Code: "22021"}, false},
		{&pgconn.PgError{Code: "23514"}, false},
		{&pgconn.PgError{Code: "XX000"}, true},
		{&pgconn.PgError{Code: "XX001"}, false}, // a damaged row
		{&pgconn.PgError{Code: "XX002"}, false},
		{fmt.Errorf("flush: %w", io.ErrUnexpectedEOF), true},
		{context.Canceled, true},
		{fmt.Errorf("flush: %w", errMoving), true},
		{errors.New("decide: no such node"), false},
	} {
		if got := Transient(c.err); got != c.want {
			t.Errorf("%v is transient: %t, want %t", c.err, got, c.want)
		}
	}
}

// refuse has every delete of jobs of a workflow end in what body does.
func refuse(t *testing.T, s *Store, id fsm.WorkflowID, body string) {
	t.Helper()
	exec(t, s, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN `+body+` END $$`)
	exec(t, s, fmt.Sprintf(`CREATE TRIGGER refuse BEFORE DELETE ON jobs FOR EACH ROW WHEN (OLD.workflow_id = '%s') EXECUTE FUNCTION refuse()`, id))
}

// A damaged row fails its own item: before anything is written, by failing the
// flush, which its caller divides; afterwards, with an answer of its own.
func TestFlushIsolatesADamagedRow(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	bad := submitOne(t, s, graphOf([]model.NewNode{job("a"), job("b")})).Ready[0]
	refuse(t, s, bad.Job.Workflow, `RAISE 'invalid page' USING ERRCODE = 'XX001';`)
	good := submitOne(t, s, lone("mail")).Ready[0]
	items := []model.Finish{finish(good, model.EndSucceeded), finish(bad, model.EndSucceeded)}
	if _, _, err := s.Flush(t.Context(), reign, items); err == nil || Transient(err) || errors.Is(err, model.ErrDoubt) {
		t.Fatalf("flush: %v, want an error that is one item's fault", err)
	}
	items[1].Batch = -1 // granted before it was made a graph: found only behind the first commit
	answers, eff, err := s.Flush(t.Context(), reign, items)
	if err != nil {
		t.Fatal(err)
	}
	if answers[0] != (model.Flushed{}) || sqlState(answers[1].Err) != codeDamagedData {
		t.Errorf("answers %+v", answers)
	}
	if len(eff.Ended) != 1 || eff.Ended[0] != good.Job.Workflow {
		t.Errorf("ended %v", eff.Ended)
	}
	if n := queryInt(t, s, `SELECT count(*) FROM jobs WHERE workflow_id = $1`, bad.Job.Workflow); n != 2 {
		t.Errorf("%d jobs of the damaged graph are left, want both", n)
	}
}

// Rows that never stand still are not the fault of a report: it is tried again.
func TestFlushOfMovingRowsIsTriedAgain(t *testing.T) {
	s := openStore(t)
	reign := newReign(t, s)
	row := submitOne(t, s, lone("mail")).Ready[0]
	refuse(t, s, row.Job.Workflow, `RETURN NULL;`)
	answers, _, err := s.Flush(t.Context(), reign, []model.Finish{finish(row, model.EndSucceeded)})
	if !errors.Is(err, errMoving) || !errors.Is(err, model.ErrDoubt) {
		t.Fatalf("flush: %+v, %v", answers, err)
	}
	exec(t, s, `DROP TRIGGER refuse ON jobs`)
	mustFlush(t, s, reign, finish(row, model.EndSucceeded))
}
