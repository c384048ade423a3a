package oracle

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	heddle "github.com/heddle-io/heddle/sdk"
)

// dial opens a connection that sees the engine's tables.
func dial(ctx context.Context, dsn, schema string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["search_path"] = schema
	return pgx.ConnectConfig(ctx, config)
}

// The statements that read a share of the workflows: $1 of $2 parts.
const (
	readFinished = `SELECT workflow_id, node, coalesce(batch, 0), turn, attempt, outcome, worker IS NOT NULL FROM finished_jobs
	                 WHERE get_byte(uuid_send(workflow_id), 15) % $2::int4 = $1::int4`
	readOpen = `SELECT workflow_id, node, coalesce(batch, 0), turn, attempt, 0::int2, false FROM jobs
	             WHERE get_byte(uuid_send(workflow_id), 15) % $2::int4 = $1::int4`
	readAttempts = `SELECT workflow_id, node, how, coalesce(worker, '') FROM attempts
	                 WHERE get_byte(uuid_send(workflow_id), 15) % $2::int4 = $1::int4`
	readRoots   = `SELECT id, outcome FROM workflows WHERE get_byte(uuid_send(id), 15) % $2::int4 = $1::int4`
	readBatches = `SELECT workflow_id, node, parent FROM batches WHERE get_byte(uuid_send(workflow_id), 15) % $2::int4 = $1::int4`
	readEdges   = `SELECT workflow_id, parent, child FROM edges WHERE get_byte(uuid_send(workflow_id), 15) % $2::int4 = $1::int4`
)

// read takes in what the tables say of this share.
func (s *share) read(ctx context.Context, db Queryer) error {
	for _, state := range []rowState{rowFinished, rowOpen} {
		sql := readFinished
		if state == rowOpen {
			sql = readOpen
		}
		var id uuid.UUID
		var node, batch int32
		var turn, attempt int
		var outcome int16
		var byWorker bool
		err := s.each(ctx, db, sql, []any{&id, &node, &batch, &turn, &attempt, &outcome, &byWorker}, func() {
			j := s.flow(id).job(node)
			j.row, j.batch, j.turn, j.attempt, j.outcome, j.byWorker = state, batch, turn, attempt, heddle.Outcome(outcome), byWorker
		})
		if err != nil {
			return err
		}
	}
	var id uuid.UUID
	var node, other int32
	var how, outcome int16
	var worker string
	err := s.each(ctx, db, readAttempts, []any{&id, &node, &how, &worker}, func() {
		j := s.flow(id).job(node)
		if how <= 0 || how >= howEnd {
			return
		}
		j.tries[how]++
		switch how {
		case howLost:
			j.gone = append(j.gone, worker)
			j.lostWith = append(j.lostWith, worker)
		case howReleased, howTimeout:
			j.gone = append(j.gone, worker)
		}
	})
	if err != nil {
		return err
	}
	err = s.each(ctx, db, readRoots, []any{&id, &outcome}, func() {
		f := s.flow(id)
		f.rooted, f.outcome = true, heddle.Outcome(outcome)
	})
	if err != nil {
		return err
	}
	err = s.each(ctx, db, readBatches, []any{&id, &node, &other}, func() {
		f := s.flow(id)
		if f.batches == nil {
			f.batches = make(map[int32]*batch)
		}
		f.batches[node] = &batch{parent: other}
	})
	if err != nil {
		return err
	}
	return s.each(ctx, db, readEdges, []any{&id, &node, &other}, func() {
		f := s.flow(id)
		f.edges = append(f.edges, edge{parent: node, child: other})
	})
}

func (s *share) each(ctx context.Context, db Queryer, sql string, into []any, row func()) error {
	rows, err := db.Query(ctx, sql, s.n, s.of)
	if err == nil {
		_, err = pgx.ForEachRow(rows, into, func() error { row(); return nil })
	}
	if err != nil {
		return fmt.Errorf("read the tables: %w", err)
	}
	return nil
}
