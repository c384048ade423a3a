-- The statements of the completer. A flush of lone jobs is Fence and one or
-- two of the first three; a flush of graph nodes locks their workflows first
-- and reads what the moved rows touch in later statements. "state + 0" keeps
-- the planner from taking the index of ready jobs where the primary key is
-- meant.

-- Ends of lone jobs. A row that an append has put into a graph meanwhile is
-- left alone: its workflow must be locked first.
-- name: FinishLone :exec
WITH d AS (
    DELETE FROM jobs j
     USING (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@turns::int4[]) AS turn, unnest(@outcomes::int2[]) AS outcome,
                   unnest(@counted::int2[]) AS counted, unnest(@flags::int4[]) AS flags, unnest(@agos::int8[]) AS ago, unnest(@rans::int8[]) AS ran,
                   unnest(@workers::text[]) AS worker, unnest(@results::bytea[]) AS result, unnest(@errors::text[]) AS error) r
     WHERE j.workflow_id = r.id AND j.node = r.node AND j.turn = r.turn AND j.state + 0 = 1 AND j.batch IS NULL
    RETURNING j.workflow_id, j.run_at, j.node, j.route, j.turn, j.flags, j.life, j.priority, j.attempt, j.max_attempts, j.key, j.name, j.args, j.opts,
              (r.outcome)::int2 AS o, (r.counted)::int2 AS c, (r.flags)::int4 AS f, (r.ago)::int8 AS ago, (r.ran)::int8 AS ran,
              (r.worker)::text AS worker, (r.result)::bytea AS result, (r.error)::text AS error
)
INSERT INTO finished_jobs (workflow_id, run_at, started_at, finished_at, node, route, turn, flags, life, outcome, priority, attempt, max_attempts,
                           key, name, worker, args, opts, result, error)
SELECT d.workflow_id, d.run_at, CASE WHEN d.ran >= 0 THEN now() - (d.ago + d.ran) * interval '1 microsecond' END, now() - d.ago * interval '1 microsecond', d.node, d.route, d.turn + 1,
       nullif(coalesce(d.flags, 0) | d.f, 0), d.life, CASE WHEN d.o <> 1 AND d.flags & 32 <> 0 THEN 4 ELSE d.o END, d.priority, d.attempt + d.c,
       d.max_attempts, d.key, d.name, nullif(d.worker, ''), d.args, d.opts, d.result, nullif(d.error, '')
  FROM d;

-- Ends of graph nodes; what comes back feeds the rules.
-- name: FinishNodes :many
WITH d AS (
    DELETE FROM jobs j
     USING (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@turns::int4[]) AS turn, unnest(@outcomes::int2[]) AS outcome,
                   unnest(@counted::int2[]) AS counted, unnest(@flags::int4[]) AS flags, unnest(@agos::int8[]) AS ago, unnest(@rans::int8[]) AS ran,
                   unnest(@workers::text[]) AS worker, unnest(@results::bytea[]) AS result, unnest(@errors::text[]) AS error) r
     WHERE j.workflow_id = r.id AND j.node = r.node AND j.turn = r.turn AND j.state + 0 = 1 AND j.batch IS NOT NULL
    RETURNING j.workflow_id, j.run_at, j.node, j.route, j.turn, j.batch, j.released_by, j.flags, j.join_k, j.life, j.priority, j.attempt, j.max_attempts,
              j.key, j.name, j.args, j.opts, (r.outcome)::int2 AS o, (r.counted)::int2 AS c, (r.flags)::int4 AS f, (r.ago)::int8 AS ago,
              (r.ran)::int8 AS ran, (r.worker)::text AS worker, (r.result)::bytea AS result, (r.error)::text AS error
)
INSERT INTO finished_jobs (workflow_id, run_at, started_at, finished_at, node, route, turn, batch, released_by, flags, join_k, life, outcome, priority,
                           attempt, max_attempts, key, name, worker, args, opts, result, error)
SELECT d.workflow_id, d.run_at, CASE WHEN d.ran >= 0 THEN now() - (d.ago + d.ran) * interval '1 microsecond' END, now() - d.ago * interval '1 microsecond', d.node, d.route, d.turn + 1,
       d.batch, d.released_by, coalesce(d.flags, 0) | d.f | 256, d.join_k, d.life, CASE WHEN d.o <> 1 AND d.flags & 32 <> 0 THEN 4 ELSE d.o END,
       d.priority, d.attempt + d.c, d.max_attempts, d.key, d.name, nullif(d.worker, ''), d.args, d.opts, d.result, nullif(d.error, '')
  FROM d
RETURNING workflow_id, node, batch, outcome, flags, join_k, life, released_by, turn;

-- Attempts that did not finish their job: it waits again, and the attempt is
-- kept. A job that was told to cancel is left alone, it does not run again;
-- so is a row whose being alone or in a graph is not as the caller saw it.
-- name: RequeueJobs :many
WITH u AS (
    UPDATE jobs j
       SET turn = j.turn + 1, attempt = j.attempt + r.counted, losses = j.losses + CASE WHEN r.how = 2 THEN 1 ELSE 0 END,
           run_at = CASE WHEN r.how = 4 THEN j.run_at ELSE now() + r.delay * interval '1 microsecond' END,
           expires_at = least(CASE WHEN r.wait > 0 THEN now() + (r.delay + r.wait) * interval '1 microsecond' END, j.deadline_at)
      FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@turns::int4[]) AS turn, unnest(@lone::bool[]) AS lone,
                   unnest(@counted::int2[]) AS counted, unnest(@hows::int2[]) AS how, unnest(@delays::int8[]) AS delay, unnest(@waits::int8[]) AS wait,
                   unnest(@agos::int8[]) AS ago, unnest(@rans::int8[]) AS ran, unnest(@workers::text[]) AS worker, unnest(@errors::text[]) AS error) r
     WHERE j.workflow_id = r.id AND j.node = r.node AND j.turn = r.turn AND j.state + 0 = 1 AND (j.batch IS NULL) = r.lone
       AND coalesce(j.flags, 0) & 32 = 0
    RETURNING j.workflow_id, j.node, j.route, j.key, j.priority, j.run_at, j.expires_at, j.deadline_at, j.turn, j.attempt,
              j.losses, j.max_attempts, j.batch, j.flags, j.name, j.args, j.opts, (r.counted)::int2 AS counted, (r.how)::int2 AS how,
              (r.ago)::int8 AS ago, (r.ran)::int8 AS ran, (r.worker)::text AS worker, (r.error)::text AS error
), a AS (
    INSERT INTO attempts (workflow_id, started_at, finished_at, node, turn, attempt, how, worker, error)
    SELECT u.workflow_id, now() - (u.ago + u.ran) * interval '1 microsecond', now() - u.ago * interval '1 microsecond', u.node, u.turn,
           u.attempt + 1 - u.counted, u.how, nullif(u.worker, ''), nullif(u.error, '')
      FROM u
)
SELECT 0::int4 AS ord, u.workflow_id, u.node, u.route, u.key, u.priority, u.run_at, u.expires_at, u.deadline_at, u.turn, u.attempt,
       u.losses, u.max_attempts, u.batch, u.flags, u.name, u.args, u.opts
  FROM u;

-- Results above the threshold, of the ends that are in the history.
-- name: PutResults :exec
INSERT INTO payloads (workflow_id, node, slot, body)
SELECT r.id, r.node, 1, r.body
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@turns::int4[]) AS turn, unnest(@bodies::bytea[]) AS body) r
  JOIN finished_jobs f ON f.workflow_id = r.id AND f.node = r.node AND f.turn = r.turn + 1 AND f.flags & 128 <> 0
ON CONFLICT (workflow_id, node, slot) DO UPDATE SET body = excluded.body;

-- Every writer of a graph takes this lock first, in the order of the ids.
-- name: LockWorkflows :many
SELECT w.id, w.state, w.outcome, w.flags, w.life, w.total, w.succeeded, w.failed, w.cancelled, w.skipped, w.tolerance_count, w.tolerance_percent,
       w.next_node, w.priority
  FROM workflows w WHERE w.id = ANY(@ids::uuid[]) ORDER BY w.id FOR UPDATE;

-- What is left of the items of a flush whose rows were not where they should
-- be: open, with this turn.
-- name: FindOpen :many
SELECT (r.ord)::int4 AS ord, j.turn, j.state, j.batch, j.flags
  FROM (SELECT unnest(@ords::int4[]) AS ord, unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r
  JOIN jobs j ON j.workflow_id = r.id AND j.node = r.node;

-- name: FindFinished :many
SELECT (r.ord)::int4 AS ord, f.turn, f.outcome, f.flags, f.batch
  FROM (SELECT unnest(@ords::int4[]) AS ord, unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r
  JOIN finished_jobs f ON f.workflow_id = r.id AND f.node = r.node;
