package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/heddle-io/heddle/engine/model"
	"github.com/heddle-io/heddle/internal/gen/db"
	"github.com/heddle-io/heddle/raftsched/fsm"
)

// pipe collects statements for one round trip: the methods of db.Queries that
// return nothing but an error queue themselves.
type pipe struct{ pgx.Batch }

func (p *pipe) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	p.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

func (p *pipe) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return nil, errors.New("a query with rows cannot be piped")
}

func (p *pipe) QueryRow(context.Context, string, ...any) pgx.Row { return nil }

// errRepeated tells writeNew's caller to write again, more carefully.
var errRepeated = &pgconn.PgError{Code: codeUnique, Message: "submitted before"}

// writeNew writes a group in the form that is right when every id is new. A
// repeat fails it with 23505. One that a unique index does not find, because
// the job has ended and moved, is found by the probes, which are later
// statements than the inserts (C7).
func (s *Store) writeNew(ctx context.Context, group []*plan) error {
	graphs, lone := graphsAndLone(group)
	if len(graphs) == 0 && len(lone) < copyFrom {
		return s.writeLone(ctx, lone)
	}
	tx, err := s.flush.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if len(graphs) > 0 {
		if err := s.insertWorkflows(ctx, tx, graphs); err != nil {
			return err
		}
	}
	effects, err := s.insertRest(ctx, tx, graphs, lone)
	if err != nil {
		return err
	}
	found, err := s.probe(ctx, tx, ids(graphs), ids(lone))
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return errRepeated
	}
	if err := commit(ctx, tx); err != nil {
		return err
	}
	for _, p := range group {
		p.created()
	}
	addEffects(effects)
	return nil
}

// writeLone writes a few lone jobs in one round trip and one implicit
// transaction.
func (s *Store) writeLone(ctx context.Context, lone []*plan) error {
	conn, err := s.flush.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var jobs db.InsertJobsParams
	var payloads db.InsertPayloadsParams
	for _, p := range lone {
		addJob(&jobs, p.id, &p.jobs[0])
		addPayload(&payloads, p.id, &p.jobs[0])
	}
	batch := &pipe{}
	q := db.New(batch)
	err = q.InsertJobs(ctx, jobs)
	if len(payloads.Nodes) > 0 {
		err = errors.Join(err, q.InsertPayloads(ctx, payloads))
	}
	if err != nil {
		return err
	}
	gone := map[fsm.WorkflowID]bool{}
	collect := func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, pgx.RowTo[fsm.WorkflowID])
		for _, id := range found {
			gone[id] = true
		}
		return err
	}
	batch.Queue(db.TextDeleteResurrectedJobs, ids(lone)).Query(collect)
	batch.Queue(db.TextDeleteMisplacedJobs, ids(lone)).Query(collect)
	s.clock.take(&batch.Batch)
	takeWarning(conn.Conn().PgConn())
	if err := commitOutcome(conn.Conn().PgConn(), conn.SendBatch(ctx, &batch.Batch).Close()); err != nil {
		return err
	}
	var repeats []*plan
	for _, p := range lone {
		if gone[p.id] {
			repeats = append(repeats, p)
		} else {
			p.created()
		}
	}
	return s.answerRepeats(ctx, s.fdb, repeats)
}

// writeAgain writes what of a group is not there yet, and compares the rest
// with what is.
func (s *Store) writeAgain(ctx context.Context, group []*plan) error {
	graphs, lone := graphsAndLone(group)
	tx, err := s.flush.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	q := db.New(tx)
	isNew := map[fsm.WorkflowID]bool{}
	if len(graphs) > 0 {
		var workflows db.InsertWorkflowsParams
		for _, p := range graphs {
			addWorkflow(&workflows, p)
		}
		made, err := q.InsertNewWorkflows(ctx, db.InsertNewWorkflowsParams(workflows))
		if err != nil {
			return err
		}
		for _, id := range made {
			isNew[id] = true
		}
	}
	if len(lone) > 0 {
		var jobs db.InsertJobsParams
		for _, p := range lone {
			addJob(&jobs, p.id, &p.jobs[0])
		}
		made, err := q.InsertNewJobs(ctx, db.InsertNewJobsParams(jobs))
		if err != nil {
			return err
		}
		for _, row := range made {
			isNew[row.WorkflowID] = true
		}
	}
	found, err := s.probe(ctx, tx, ids(graphs), ids(lone))
	if err != nil {
		return err
	}
	var mistaken []fsm.WorkflowID // graphs under the id of a lone job
	for _, id := range found {
		if isNew[id] {
			delete(isNew, id)
			mistaken = append(mistaken, id)
		}
	}
	if len(mistaken) > 0 {
		if err := q.RemoveWorkflows(ctx, only(mistaken, graphs)); err != nil {
			return err
		}
	}
	var newGraphs, repeats, newLone []*plan
	for _, p := range group {
		switch {
		case !isNew[p.id]:
			repeats = append(repeats, p)
		case p.lone:
			newLone = append(newLone, p)
		default:
			newGraphs = append(newGraphs, p)
		}
	}
	effects, err := s.insertRest(ctx, tx, newGraphs, nil)
	if err != nil {
		return err
	}
	if err := insertPayloads(ctx, tx, newLone); err != nil {
		return err
	}
	if err := s.answerRepeats(ctx, q, repeats); err != nil {
		return err
	}
	if len(isNew) == 0 {
		// Nothing new: a COMMIT without WAL would not wait for the standby that
		// the first one's may still wait for.
		if err := q.WriteCommitRecord(ctx); err != nil {
			return err
		}
	}
	if err := commit(ctx, tx); err != nil {
		return err
	}
	for _, p := range group {
		if isNew[p.id] {
			p.created()
		}
	}
	addEffects(effects)
	return nil
}

// only gives the ids that are those of plans.
func only(found []fsm.WorkflowID, plans []*plan) []fsm.WorkflowID {
	var some []fsm.WorkflowID
	for _, p := range plans {
		for _, id := range found {
			if id == p.id {
				some = append(some, id)
			}
		}
	}
	return some
}

// probe tells which of the ids just inserted were there before in another
// table, and deletes the rows of lone jobs among them.
func (s *Store) probe(ctx context.Context, tx pgx.Tx, graphs, lone []fsm.WorkflowID) ([]fsm.WorkflowID, error) {
	batch := &pgx.Batch{}
	var found []fsm.WorkflowID
	collect := func(rows pgx.Rows) error {
		some, err := pgx.CollectRows(rows, pgx.RowTo[fsm.WorkflowID])
		found = append(found, some...)
		return err
	}
	if len(lone) > 0 {
		batch.Queue(db.TextDeleteResurrectedJobs, lone).Query(collect)
		batch.Queue(db.TextDeleteMisplacedJobs, lone).Query(collect)
	}
	if len(graphs) > 0 {
		batch.Queue(db.TextFindLoneJobs, graphs).Query(collect)
	}
	s.clock.take(batch)
	err := tx.SendBatch(ctx, batch).Close()
	return found, err
}

// answerRepeats compares submissions whose ids are taken with what is there.
func (s *Store) answerRepeats(ctx context.Context, q *db.Queries, repeats []*plan) error {
	if len(repeats) == 0 {
		return nil
	}
	graphs, lone := graphsAndLone(repeats)
	same := map[fsm.WorkflowID]bool{}
	if len(graphs) > 0 {
		rows, err := q.WorkflowDigests(ctx, ids(graphs))
		if err != nil {
			return err
		}
		digests := map[fsm.WorkflowID][]byte{}
		for _, r := range rows {
			digests[r.ID] = r.Digest
		}
		for _, p := range graphs {
			same[p.id] = digests[p.id] != nil && bytes.Equal(digests[p.id], p.digest)
		}
	}
	if len(lone) > 0 {
		if err := s.compareLone(ctx, q, lone, same); err != nil {
			return err
		}
	}
	for _, p := range repeats {
		p.out = model.Submitted{ID: p.id, Created: p.doubt, Nodes: p.nodes}
		if p.doubt {
			// Its rows may have gone on since: they are read again.
			for i := range p.ready {
				p.lanes.add(&p.ready[i])
			}
			p.out.Lanes = p.lanes.list()
		}
		if !same[p.id] {
			p.out = model.Submitted{ID: p.id, Err: alreadyExists(p.id)}
		}
	}
	return nil
}

func alreadyExists(id fsm.WorkflowID) error {
	return fmt.Errorf("workflow %s %w with other content", id, model.ErrAlreadyExists)
}

// compareLone compares kind, queue and args.
func (s *Store) compareLone(ctx context.Context, q *db.Queries, lone []*plan, same map[fsm.WorkflowID]bool) error {
	rows, err := q.FindFirstJobs(ctx, ids(lone))
	if err != nil {
		return err
	}
	there := make(map[fsm.WorkflowID]db.FindFirstJobsRow, len(rows))
	var outside db.ReadPayloadsParams
	for _, r := range rows {
		there[r.WorkflowID] = r
		if r.Flags&FlagArgsInPayloads != 0 {
			outside.WorkflowIds = append(outside.WorkflowIds, r.WorkflowID)
			outside.Nodes = append(outside.Nodes, 1)
		}
	}
	bodies := map[fsm.WorkflowID][]byte{}
	if len(outside.Nodes) > 0 {
		outside.Slot = slotArgs
		payloads, err := q.ReadPayloads(ctx, outside)
		if err != nil {
			return err
		}
		for _, p := range payloads {
			bodies[p.WorkflowID] = p.Body
		}
	}
	for _, p := range lone {
		row, ok := there[p.id]
		args, mine := row.Args, p.jobs[0].args
		if row.Flags&FlagArgsInPayloads != 0 {
			args = bodies[p.id]
		}
		if p.jobs[0].payload != nil {
			mine = p.jobs[0].payload
		}
		same[p.id] = ok && row.Route == p.jobs[0].route && bytes.Equal(args, mine)
	}
	return nil
}
