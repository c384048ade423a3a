-- What the rules need of a graph, and what they change in it. Every node is
-- read in one shape: kind 0 is an open job, 1 a finished one, 2 a batch.

-- Edges out of nodes that have ended, and out of the batches that end if none
-- but lim of their members were open; each with its child, unless that has
-- ended itself.
-- name: EdgesOfEnds :many
WITH RECURSIVE up AS (
    SELECT b.workflow_id, b.node, b.parent, (r.lim)::int4 AS lim
      FROM (SELECT unnest(@batch_ids::uuid[]) AS id, unnest(@batches::int4[]) AS node, unnest(@lims::int4[]) AS lim) r
      JOIN batches b ON b.workflow_id = r.id AND b.node = r.node
     WHERE b.total - b.succeeded - b.failed - b.cancelled - b.skipped <= r.lim
    UNION
    SELECT b.workflow_id, b.node, b.parent, up.lim
      FROM up JOIN batches b ON b.workflow_id = up.workflow_id AND b.node = up.parent
     WHERE b.total - b.succeeded - b.failed - b.cancelled - b.skipped <= up.lim
), p AS (
    SELECT (r.id)::uuid AS id, (r.node)::int4 AS node FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r
    UNION ALL
    SELECT up.workflow_id, up.node FROM up
)
SELECT CASE WHEN j.node IS NOT NULL THEN 0 WHEN b.node IS NOT NULL THEN 2 ELSE -1 END::int2 AS kind, e.workflow_id, e.child AS node,
       coalesce(j.batch, b.parent) AS batch, coalesce(j.state, b.state) AS state, b.outcome, coalesce(j.flags, b.flags) AS flags,
       coalesce(j.need, b.need) AS need, coalesce(j.slack, b.slack) AS slack, coalesce(j.join_k, b.join_k) AS join_k, coalesce(j.life, b.life) AS life,
       coalesce(j.released_by, b.released_by) AS released_by, j.turn, b.lo, b.hi, b.total, b.succeeded, b.failed, b.cancelled, b.skipped,
       b.tolerance_count, b.tolerance_percent, b.priority, j.opts, j.attempt, e.parent, e.on_set
  FROM p
  JOIN edges e ON e.workflow_id = p.id AND e.parent = p.node
  LEFT JOIN jobs j ON j.workflow_id = e.workflow_id AND j.node = e.child
  LEFT JOIN batches b ON b.workflow_id = e.workflow_id AND b.node = e.child;

-- Batches and all around them but the root.
-- name: BatchesUp :many
WITH RECURSIVE up AS (
    SELECT b.workflow_id, b.node, b.parent
      FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r
      JOIN batches b ON b.workflow_id = r.id AND b.node = r.node
    UNION
    SELECT b.workflow_id, b.node, b.parent FROM up JOIN batches b ON b.workflow_id = up.workflow_id AND b.node = up.parent
)
SELECT 2::int2 AS kind, b.workflow_id, b.node, b.parent AS batch, b.state, b.outcome, b.flags, b.need, b.slack, b.join_k, b.life, b.released_by,
       0::int4 AS turn, b.lo, b.hi, b.total, b.succeeded, b.failed, b.cancelled, b.skipped, b.tolerance_count, b.tolerance_percent, b.priority,
       NULL::bytea AS opts, 0::int2 AS attempt
  FROM up JOIN batches b ON b.workflow_id = up.workflow_id AND b.node = up.node;

-- name: NodesByNumber :many
WITH r AS (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node)
SELECT 0::int2 AS kind, j.workflow_id, j.node, j.batch, j.state, 0::int2 AS outcome, j.flags, j.need, j.slack, j.join_k, j.life, j.released_by,
       j.turn, 0::int4 AS lo, 0::int4 AS hi, 0::int4 AS total, 0::int4 AS succeeded, 0::int4 AS failed, 0::int4 AS cancelled, 0::int4 AS skipped,
       0::int4 AS tolerance_count, 0::float8 AS tolerance_percent, j.priority, j.opts, j.attempt
  FROM r JOIN jobs j ON j.workflow_id = r.id AND j.node = r.node
UNION ALL
SELECT 1::int2, f.workflow_id, f.node, f.batch, 2::int2, f.outcome, f.flags, 0, 0, f.join_k, f.life, f.released_by,
       f.turn, 0, 0, 0, 0, 0, 0, 0, 0, 0, f.priority, f.opts, f.attempt
  FROM r JOIN finished_jobs f ON f.workflow_id = r.id AND f.node = r.node
UNION ALL
SELECT 2::int2, b.workflow_id, b.node, b.parent, b.state, b.outcome, b.flags, b.need, b.slack, b.join_k, b.life, b.released_by,
       0, b.lo, b.hi, b.total, b.succeeded, b.failed, b.cancelled, b.skipped, b.tolerance_count, b.tolerance_percent, b.priority, NULL::bytea, 0::int2
  FROM r JOIN batches b ON b.workflow_id = r.id AND b.node = r.node;

-- name: EdgesOut :many
SELECT e.workflow_id, e.parent, e.child, e.on_set
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r
  JOIN edges e ON e.workflow_id = r.id AND e.parent = r.node;

-- name: EdgesIn :many
SELECT e.workflow_id, e.parent, e.child, e.on_set
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r
  JOIN edges e ON e.workflow_id = r.id AND e.child = r.node;

-- Direct members of batches; troubled: only those that are batches, or ended
-- other than succeeded.
-- name: MembersOf :many
WITH r AS (SELECT unnest(@ids::uuid[]) AS id, unnest(@batches::int4[]) AS batch, unnest(@los::int4[]) AS lo, unnest(@his::int4[]) AS hi, unnest(@troubled::bool[]) AS troubled)
SELECT 0::int2 AS kind, j.workflow_id, j.node, j.batch, j.state, 0::int2 AS outcome, j.flags, j.need, j.slack, j.join_k, j.life, j.released_by,
       j.turn, 0::int4 AS lo, 0::int4 AS hi, 0::int4 AS total, 0::int4 AS succeeded, 0::int4 AS failed, 0::int4 AS cancelled, 0::int4 AS skipped,
       0::int4 AS tolerance_count, 0::float8 AS tolerance_percent, j.priority, j.opts, j.attempt
  FROM r JOIN jobs j ON j.workflow_id = r.id AND j.node BETWEEN r.lo AND r.hi AND j.batch = r.batch
 WHERE NOT r.troubled
UNION ALL
SELECT 1::int2, f.workflow_id, f.node, f.batch, 2::int2, f.outcome, f.flags, 0, 0, f.join_k, f.life, f.released_by,
       f.turn, 0, 0, 0, 0, 0, 0, 0, 0, 0, f.priority, f.opts, f.attempt
  FROM r JOIN finished_jobs f ON f.workflow_id = r.id AND f.node BETWEEN r.lo AND r.hi AND f.batch = r.batch
 WHERE NOT r.troubled OR f.outcome <> 1
UNION ALL
SELECT 2::int2, b.workflow_id, b.node, b.parent, b.state, b.outcome, b.flags, b.need, b.slack, b.join_k, b.life, b.released_by,
       0, b.lo, b.hi, b.total, b.succeeded, b.failed, b.cancelled, b.skipped, b.tolerance_count, b.tolerance_percent, b.priority, NULL::bytea, 0::int2
  FROM r JOIN batches b ON b.workflow_id = r.id AND b.node BETWEEN r.lo AND r.hi AND b.parent = r.batch;

-- Sets jobs free. A job with a delay, a wait timeout or a deadline has them in
-- its options; they come in microseconds, 0 for none.
-- name: ReleaseJobs :many
UPDATE jobs j
   SET state = 1, released_by = nullif(r.released_by, 0), flags = nullif(r.flags, 0), life = nullif(r.life, 0),
       run_at = greatest(j.run_at, now() + r.delay * interval '1 microsecond'),
       expires_at = least(CASE WHEN r.wait > 0 THEN greatest(j.run_at, now() + r.delay * interval '1 microsecond') + r.wait * interval '1 microsecond' END,
                          CASE WHEN r.deadline > 0 THEN greatest(j.run_at, now() + r.delay * interval '1 microsecond') + r.deadline * interval '1 microsecond' END),
       deadline_at = CASE WHEN r.deadline > 0 THEN greatest(j.run_at, now() + r.delay * interval '1 microsecond') + r.deadline * interval '1 microsecond' END
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@released_bys::int4[]) AS released_by, unnest(@flags::int4[]) AS flags,
               unnest(@lives::int4[]) AS life, unnest(@delays::int8[]) AS delay, unnest(@waits::int8[]) AS wait, unnest(@deadlines::int8[]) AS deadline) r
 WHERE j.workflow_id = r.id AND j.node = r.node
RETURNING 0::int4 AS ord, j.workflow_id, j.node, j.route, j.key, j.priority, j.run_at, j.expires_at, j.deadline_at, j.turn, j.attempt,
          j.losses, j.max_attempts, j.batch, j.flags, j.name, j.args, j.opts;

-- Open jobs that stay open, as the rules leave them.
-- name: SetJobs :exec
UPDATE jobs j
   SET state = r.state, need = nullif(r.need, 0), slack = nullif(r.slack, 0), flags = nullif(r.flags, 0), life = nullif(r.life, 0),
       released_by = nullif(r.released_by, 0),
       expires_at = CASE WHEN r.state = 1 THEN j.expires_at END, deadline_at = CASE WHEN r.state = 1 THEN j.deadline_at END
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@states::int2[]) AS state, unnest(@needs::int4[]) AS need,
               unnest(@slacks::int4[]) AS slack, unnest(@flags::int4[]) AS flags, unnest(@lives::int4[]) AS life, unnest(@released_bys::int4[]) AS released_by) r
 WHERE j.workflow_id = r.id AND j.node = r.node;

-- Jobs that end without a run: skipped, cancelled.
-- name: EndJobs :exec
WITH d AS (
    DELETE FROM jobs j
     USING (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@outcomes::int2[]) AS outcome, unnest(@flags::int4[]) AS flags,
                   unnest(@lives::int4[]) AS life, unnest(@released_bys::int4[]) AS released_by) r
     WHERE j.workflow_id = r.id AND j.node = r.node
    RETURNING j.workflow_id, j.run_at, j.node, j.route, j.turn, j.batch, j.join_k, j.priority, j.attempt, j.max_attempts, j.key, j.name, j.args, j.opts,
              (r.outcome)::int2 AS o, (r.flags)::int4 AS f, (r.life)::int4 AS l, (r.released_by)::int4 AS b
)
INSERT INTO finished_jobs (workflow_id, run_at, finished_at, node, route, turn, batch, released_by, flags, join_k, life, outcome, priority, attempt,
                           max_attempts, key, name, args, opts)
SELECT d.workflow_id, d.run_at, now(), d.node, d.route, d.turn + 1, d.batch, nullif(d.b, 0), nullif(d.f, 0), d.join_k, nullif(d.l, 0), d.o, d.priority,
       d.attempt, d.max_attempts, d.key, d.name, d.args, d.opts
  FROM d;

-- Takes ends back: from the history to the open jobs. Budget is how many more
-- attempts the new life has.
-- name: ReviveJobs :many
WITH d AS (
    DELETE FROM finished_jobs f
     USING (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@states::int2[]) AS state, unnest(@needs::int4[]) AS need,
                   unnest(@slacks::int4[]) AS slack, unnest(@flags::int4[]) AS flags, unnest(@lives::int4[]) AS life, unnest(@released_bys::int4[]) AS released_by,
                   unnest(@budgets::int4[]) AS budget, unnest(@waits::int8[]) AS wait, unnest(@deadlines::int8[]) AS deadline) r
     WHERE f.workflow_id = r.id AND f.node = r.node
    RETURNING f.workflow_id, f.run_at, f.node, f.route, f.turn, f.batch, f.join_k, f.priority, f.attempt, f.key, f.name, f.args, f.opts,
              (r.state)::int2 AS state, (r.need)::int4 AS need, (r.slack)::int4 AS slack, (r.flags)::int4 AS flags, (r.life)::int4 AS life,
              (r.released_by)::int4 AS released_by, (r.budget)::int4 AS budget, (r.wait)::int8 AS wait, (r.deadline)::int8 AS deadline
), i AS (
    INSERT INTO jobs (workflow_id, run_at, expires_at, deadline_at, node, route, turn, batch, released_by, flags, need, slack, join_k, life, state,
                      priority, attempt, max_attempts, key, name, args, opts)
    SELECT d.workflow_id, CASE WHEN d.state = 1 THEN now() ELSE d.run_at END,
           CASE WHEN d.state = 1 THEN least(CASE WHEN d.wait > 0 THEN now() + d.wait * interval '1 microsecond' END,
                                            CASE WHEN d.deadline > 0 THEN now() + d.deadline * interval '1 microsecond' END) END,
           CASE WHEN d.state = 1 AND d.deadline > 0 THEN now() + d.deadline * interval '1 microsecond' END,
           d.node, d.route, d.turn, d.batch, nullif(d.released_by, 0), nullif(d.flags, 0), nullif(d.need, 0), nullif(d.slack, 0), d.join_k,
           nullif(d.life, 0), d.state, d.priority, d.attempt, least(d.attempt + d.budget, 32767)::int2, d.key, d.name, d.args, d.opts
      FROM d
    RETURNING workflow_id, node, route, key, priority, run_at, expires_at, deadline_at, turn, attempt, losses, max_attempts, batch, flags, name, args, opts, state
)
SELECT 0::int4 AS ord, i.workflow_id, i.node, i.route, i.key, i.priority, i.run_at, i.expires_at, i.deadline_at, i.turn, i.attempt,
       i.losses, i.max_attempts, i.batch, i.flags, i.name, i.args, i.opts
  FROM i WHERE i.state = 1;

-- Finished jobs that stay finished: other flags, or with ended = 1 another end.
-- name: SetFinished :exec
UPDATE finished_jobs f
   SET outcome = r.outcome, flags = nullif(r.flags, 0), life = nullif(r.life, 0), turn = f.turn + r.ended,
       finished_at = CASE WHEN r.ended = 1 THEN now() ELSE f.finished_at END
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@outcomes::int2[]) AS outcome, unnest(@flags::int4[]) AS flags,
               unnest(@lives::int4[]) AS life, unnest(@ended::int4[]) AS ended) r
 WHERE f.workflow_id = r.id AND f.node = r.node;

-- The result an operator gives a job that he declares succeeded.
-- name: SetResult :exec
UPDATE finished_jobs f
   SET result = sqlc.narg(result), flags = nullif(coalesce(f.flags, 0) & ~128 | @flags::int4, 0)
 WHERE f.workflow_id = @id AND f.node = @node;

-- name: PutResult :exec
INSERT INTO payloads (workflow_id, node, slot, body) VALUES (@id, @node, 1, @body)
ON CONFLICT (workflow_id, node, slot) DO UPDATE SET body = excluded.body;

-- name: SetBatches :exec
UPDATE batches b
   SET state = r.state, outcome = r.outcome, flags = r.flags, need = r.need, slack = r.slack, life = r.life, released_by = nullif(r.released_by, 0),
       lo = r.lo, hi = r.hi, total = r.total, succeeded = r.succeeded, failed = r.failed, cancelled = r.cancelled, skipped = r.skipped,
       started_at = CASE WHEN r.flags & 256 = 0 THEN NULL WHEN b.flags & 256 = 0 OR b.life <> r.life THEN now() ELSE b.started_at END,
       finished_at = CASE WHEN r.state <> 2 THEN NULL WHEN b.state <> 2 OR b.life <> r.life THEN now() ELSE b.finished_at END
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@states::int2[]) AS state, unnest(@outcomes::int2[]) AS outcome,
               unnest(@flags::int4[]) AS flags, unnest(@needs::int4[]) AS need, unnest(@slacks::int4[]) AS slack, unnest(@lives::int4[]) AS life,
               unnest(@released_bys::int4[]) AS released_by, unnest(@los::int4[]) AS lo, unnest(@his::int4[]) AS hi, unnest(@totals::int4[]) AS total,
               unnest(@succeeded::int4[]) AS succeeded, unnest(@failed::int4[]) AS failed, unnest(@cancelled::int4[]) AS cancelled, unnest(@skipped::int4[]) AS skipped) r
 WHERE b.workflow_id = r.id AND b.node = r.node;

-- name: SetWorkflows :exec
UPDATE workflows w
   SET state = r.state, outcome = r.outcome, flags = r.flags, life = r.life, total = r.total, succeeded = r.succeeded, failed = r.failed,
       cancelled = r.cancelled, skipped = r.skipped,
       finished_at = CASE WHEN r.state <> 2 THEN NULL WHEN w.state <> 2 OR w.life <> r.life THEN now() ELSE w.finished_at END
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@states::int2[]) AS state, unnest(@outcomes::int2[]) AS outcome, unnest(@flags::int4[]) AS flags,
               unnest(@lives::int4[]) AS life, unnest(@totals::int4[]) AS total, unnest(@succeeded::int4[]) AS succeeded, unnest(@failed::int4[]) AS failed,
               unnest(@cancelled::int4[]) AS cancelled, unnest(@skipped::int4[]) AS skipped) r
 WHERE w.id = r.id;

-- name: AddAudit :exec
INSERT INTO audit (workflow_id, node, action, note, author) VALUES (@id, @node, @action, nullif(@note::text, ''), nullif(@author::text, ''));

-- A lone job's row, locked; none if an append has made it a graph meanwhile.
-- name: LockLone :many
SELECT 0::int2 AS kind, j.turn, j.state, 0::int2 AS outcome, coalesce(j.flags, 0)::int4 AS flags, j.attempt, j.priority, j.opts, j.name
  FROM jobs j WHERE j.workflow_id = @id AND j.node = 1 AND j.batch IS NULL FOR UPDATE;

-- name: LockFinishedLone :many
SELECT 1::int2 AS kind, f.turn, 2::int2 AS state, f.outcome, coalesce(f.flags, 0)::int4 AS flags, f.attempt, f.priority, f.opts, f.name
  FROM finished_jobs f WHERE f.workflow_id = @id AND f.node = 1 AND f.batch IS NULL FOR UPDATE;

-- A lone job becomes node 1 of a graph.
-- name: AdoptWorkflow :exec
INSERT INTO workflows (id, created_at, finished_at, next_node, flags, total, succeeded, failed, cancelled, state, outcome)
VALUES (@id, @created_at, CASE WHEN @state::int2 = 2 THEN now() END, 2, 256, 1, @succeeded, @failed, @cancelled, @state::int2, @outcome);

-- name: AdoptJob :exec
UPDATE jobs SET batch = 0 WHERE workflow_id = @id AND node = 1 AND batch IS NULL;

-- name: AdoptFinishedJob :exec
UPDATE finished_jobs SET batch = 0, flags = coalesce(flags, 0) | 256 WHERE workflow_id = @id AND node = 1 AND batch IS NULL;

-- name: SetNextNode :exec
UPDATE workflows SET next_node = @next_node WHERE id = @id;

-- Names that the direct members of a batch have already.
-- name: TakenNames :many
SELECT j.name FROM jobs j WHERE j.workflow_id = @id AND j.batch = @batch::int4 AND j.name = ANY(@names::text[])
UNION ALL
SELECT f.name FROM finished_jobs f WHERE f.workflow_id = @id AND f.batch = @batch::int4 AND f.name = ANY(@names::text[])
UNION ALL
SELECT b.name FROM batches b WHERE b.workflow_id = @id AND b.parent = @batch::int4 AND b.name = ANY(@names::text[]);

-- name: AppendOfKey :many
SELECT first_node, nodes FROM append_keys WHERE workflow_id = @id AND key = @key;

-- name: PutAppendKey :exec
INSERT INTO append_keys (workflow_id, key, first_node, nodes) VALUES (@id, @key, @first_node, @nodes);

-- Jobs of a workflow that wait with a limit, to begin their wait anew.
-- name: WaitingJobs :many
SELECT j.node, j.run_at, j.deadline_at, j.opts FROM jobs j WHERE j.workflow_id = @id AND j.state + 0 = 1 AND j.expires_at IS NOT NULL;

-- name: SetWaits :exec
UPDATE jobs j
   SET expires_at = least(greatest(j.run_at, now()) + r.wait * interval '1 microsecond', j.deadline_at)
  FROM (SELECT unnest(@nodes::int4[]) AS node, unnest(@waits::int8[]) AS wait) r
 WHERE j.workflow_id = @id AND j.node = r.node;

-- name: SetWorkflowFlags :exec
UPDATE workflows SET flags = @flags WHERE id = @id;
