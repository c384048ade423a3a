package oracle

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Scope of a check of the tables.
type Scope int

const (
	// Running looks at the workflows that have not ended: what a system under
	// load can afford every few seconds.
	Running Scope = iota
	// Everything looks at all there is.
	Everything
	// Ended looks at all there is, and nothing may be open any more (I12).
	Ended
)

// Queryer is a connection or a transaction of Postgres whose search path is the
// schema of the engine.
type Queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Check checks in one snapshot of the database what must hold at every commit.
// db should be a read-only transaction of the level REPEATABLE READ: else every
// statement sees a snapshot of its own, and what changes in between looks
// wrong.
func Check(ctx context.Context, db Queryer, scope Scope) ([]Violation, error) {
	var found []Violation
	for _, r := range tableRules {
		if r.ended && scope != Ended {
			continue
		}
		rows, err := db.Query(ctx, r.sql, scope == Running)
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", r.invariant, err)
		}
		var id uuid.UUID
		var node int32
		var text string
		_, err = pgx.ForEachRow(rows, []any{&id, &node, &text}, func() error {
			found = append(found, Violation{Invariant: r.invariant, Sort: r.sort, Subject: Job{id.String(), node}.String(), Text: text})
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", r.invariant, err)
		}
	}
	return found, nil
}

// tableRule is a statement that finds violations: workflow, node, text. $1
// restricts it to workflows that run.
type tableRule struct {
	invariant string
	sort      Sort
	ended     bool // holds only once everything has ended
	sql       string
}

// settledFlows are the workflows to look at. What a cascade is still handing
// down is not settled.
const settledFlows = `
flows AS MATERIALIZED (
    SELECT id FROM workflows w WHERE ($1::bool IS FALSE OR w.state = 1) AND NOT EXISTS (SELECT FROM cascades c WHERE c.workflow_id = w.id)
)`

// allBatches are the batches of these workflows, the root among them as node 0.
const allBatches = settledFlows + `,
all_batches AS (
    SELECT w.id AS workflow_id, 0 AS node, w.state, w.outcome, w.flags, w.total, w.succeeded, w.failed, w.cancelled, w.skipped
      FROM workflows w JOIN flows f ON f.id = w.id
    UNION ALL
    SELECT b.workflow_id, b.node, b.state, b.outcome, b.flags, b.total, b.succeeded, b.failed, b.cancelled, b.skipped
      FROM batches b JOIN flows f ON f.id = b.workflow_id
)`

// edgesIn counts the edges into each node: all, fired, dead. An edge whose
// parent holds on failure (flag 4) stays open.
const edgesIn = settledFlows + `,
ends AS (
    SELECT j.workflow_id, j.node, j.outcome, coalesce(j.flags, 0) AS flags FROM finished_jobs j JOIN flows f ON f.id = j.workflow_id
    UNION ALL
    SELECT b.workflow_id, b.node, b.outcome, b.flags FROM batches b JOIN flows f ON f.id = b.workflow_id WHERE b.state = 2
),
edges_in AS (
    SELECT e.workflow_id, e.child, count(*)::int4 AS n, count(*) FILTER (WHERE x.outcome & e.on_set <> 0)::int4 AS fired,
           count(*) FILTER (WHERE x.outcome & e.on_set = 0 AND NOT (x.outcome = 2 AND x.flags & 4 <> 0))::int4 AS dead
      FROM edges e JOIN flows f ON f.id = e.workflow_id
      LEFT JOIN ends x ON x.workflow_id = e.workflow_id AND x.node = e.parent
     GROUP BY 1, 2
),
blocked AS (
    SELECT j.workflow_id, j.node, coalesce(j.batch, 0) AS batch, coalesce(j.need, 0) AS need, coalesce(j.slack, 0) AS slack, j.join_k
      FROM jobs j JOIN flows f ON f.id = j.workflow_id WHERE j.state = 0
    UNION ALL
    SELECT b.workflow_id, b.node, b.parent, b.need, b.slack, b.join_k
      FROM batches b JOIN flows f ON f.id = b.workflow_id WHERE b.state = 0
)`

var tableRules = []tableRule{
	{"I1", Tables, false, `
SELECT j.workflow_id, j.node, 'is open and finished'
  FROM jobs j JOIN finished_jobs f ON f.workflow_id = j.workflow_id AND f.node = j.node
 WHERE $1::bool IS NOT NULL`},
	{"I2", Tables, false, `
WITH ` + edgesIn + `
SELECT b.workflow_id, b.node,
       format('waits with need %s and slack %s; of its %s edges %s have fired and %s are dead', b.need, b.slack, coalesce(e.n, 0), coalesce(e.fired, 0), coalesce(e.dead, 0))
  FROM blocked b LEFT JOIN edges_in e ON e.workflow_id = b.workflow_id AND e.child = b.node
 WHERE b.need <> coalesce(b.join_k, e.n, 0) - coalesce(e.fired, 0)
    OR b.slack <> coalesce(e.n, 0) - coalesce(b.join_k, e.n, 0) - coalesce(e.dead, 0)`},
	{"I2", Tables, false, `
WITH ` + edgesIn + `, all_batches AS (
    SELECT id AS workflow_id, 0 AS node, state FROM workflows
    UNION ALL SELECT workflow_id, node, state FROM batches
)
SELECT b.workflow_id, b.node, format('is blocked, and nothing holds it: need %s, its batch %s has started', b.need, b.batch)
  FROM blocked b JOIN all_batches a ON a.workflow_id = b.workflow_id AND a.node = b.batch
 WHERE b.need <= 0 AND a.state = 1`},
	{"I3", Tables, false, `
WITH ` + allBatches + `,
members AS (
    SELECT j.workflow_id, j.batch, 0 AS outcome FROM jobs j JOIN flows f ON f.id = j.workflow_id WHERE j.batch IS NOT NULL
    UNION ALL
    SELECT j.workflow_id, j.batch, j.outcome FROM finished_jobs j JOIN flows f ON f.id = j.workflow_id WHERE j.batch IS NOT NULL
    UNION ALL
    SELECT b.workflow_id, b.parent, CASE WHEN b.state = 2 THEN b.outcome ELSE 0 END FROM batches b JOIN flows f ON f.id = b.workflow_id
),
counts AS (
    SELECT workflow_id, batch, count(*) AS total, count(*) FILTER (WHERE outcome = 1) AS succeeded, count(*) FILTER (WHERE outcome = 2) AS failed,
           count(*) FILTER (WHERE outcome = 4) AS cancelled, count(*) FILTER (WHERE outcome = 8) AS skipped
      FROM members GROUP BY 1, 2
)
SELECT b.workflow_id, b.node,
       format('counts %s/%s/%s/%s of %s, its members are %s/%s/%s/%s of %s', b.succeeded, b.failed, b.cancelled, b.skipped, b.total,
              coalesce(c.succeeded, 0), coalesce(c.failed, 0), coalesce(c.cancelled, 0), coalesce(c.skipped, 0), coalesce(c.total, 0))
  FROM all_batches b LEFT JOIN counts c ON c.workflow_id = b.workflow_id AND c.batch = b.node
 WHERE (b.total, b.succeeded, b.failed, b.cancelled, b.skipped) IS DISTINCT FROM
       (coalesce(c.total, 0), coalesce(c.succeeded, 0), coalesce(c.failed, 0), coalesce(c.cancelled, 0), coalesce(c.skipped, 0))`},
	{"I3", Tables, false, `
WITH ` + allBatches + `
SELECT b.workflow_id, b.node, format('is in state %s with %s of %s members ended', b.state, b.succeeded + b.failed + b.cancelled + b.skipped, b.total)
  FROM all_batches b
 WHERE b.state = 2 AND b.succeeded + b.failed + b.cancelled + b.skipped <> b.total
    OR b.state = 1 AND b.succeeded + b.failed + b.cancelled + b.skipped = b.total AND b.flags & 16 = 0`},
	{"I12", Lost, true, `
SELECT workflow_id, node, format('is open for ever: state %s, need %s, slack %s, run_at %s, attempt %s, turn %s', state, need, slack, run_at, attempt, turn)
  FROM jobs WHERE $1::bool IS NOT NULL`},
	{"I12", Lost, true, `
SELECT id, 0, format('has not ended: %s/%s/%s/%s of %s members', succeeded, failed, cancelled, skipped, total)
  FROM workflows WHERE state <> 2 AND $1::bool IS NOT NULL
UNION ALL
SELECT workflow_id, node, format('has not ended: state %s, %s/%s/%s/%s of %s members', state, succeeded, failed, cancelled, skipped, total)
  FROM batches WHERE state <> 2 AND $1::bool IS NOT NULL
UNION ALL
SELECT workflow_id, node, format('a cascade of kind %s is left at %s', kind, cursor) FROM cascades`},
}
