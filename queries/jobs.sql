-- Window loads: the next rows of several streams, each in the order
-- (run_at, workflow_id, node), behind its cursor.
-- name: LoadReady :many
SELECT (l.ord)::int4 AS ord, j.workflow_id, j.node, j.route, j.key, j.priority, j.run_at, j.expires_at, j.deadline_at, j.turn, j.attempt,
       j.losses, j.max_attempts, j.batch, j.flags, j.name, j.args, j.opts
  FROM (SELECT unnest(@ords::int4[]) AS ord, unnest(@routes::int4[]) AS route, unnest(@keys::text[]) AS key,
               unnest(@priorities::int2[]) AS priority, unnest(@run_ats::timestamptz[]) AS run_at, unnest(@ids::uuid[]) AS id,
               unnest(@nodes::int4[]) AS node, unnest(@lims::int4[]) AS lim) l
 CROSS JOIN LATERAL (
       SELECT * FROM jobs i
        WHERE i.state = 1 AND i.route = l.route AND i.key = l.key AND i.priority = l.priority
          AND (i.run_at, i.workflow_id, i.node) > (l.run_at, l.id, l.node)
        ORDER BY i.run_at, i.workflow_id, i.node LIMIT l.lim) j;

-- The takeover's walk, on to the next stream.
-- name: WalkStreams :many
SELECT 0::int4 AS ord, j.workflow_id, j.node, j.route, j.key, j.priority, j.run_at, j.expires_at, j.deadline_at, j.turn, j.attempt,
       j.losses, j.max_attempts, j.batch, j.flags, j.name, j.args, j.opts
  FROM jobs j
 WHERE j.state = 1 AND (j.route, j.key, j.priority) > (@route::int4, @key::text, @priority::int2)
 ORDER BY j.route, j.key, j.priority, j.run_at, j.workflow_id, j.node LIMIT @lim;

-- The takeover's walk, on inside a stream and past its end.
-- name: WalkRows :many
SELECT 0::int4 AS ord, j.workflow_id, j.node, j.route, j.key, j.priority, j.run_at, j.expires_at, j.deadline_at, j.turn, j.attempt,
       j.losses, j.max_attempts, j.batch, j.flags, j.name, j.args, j.opts
  FROM jobs j
 WHERE j.state = 1
   AND (j.route, j.key, j.priority, j.run_at, j.workflow_id, j.node) > (@route::int4, @key::text, @priority::int2, @run_at::timestamptz, @id::uuid, @node::int4)
 ORDER BY j.route, j.key, j.priority, j.run_at, j.workflow_id, j.node LIMIT @lim;

-- Streams that have rows, by a loose scan of the ready index.
-- name: FindStreams :many
WITH RECURSIVE l AS (
    (SELECT j.route, j.key, j.priority FROM jobs j
      WHERE j.state = 1 AND (j.route, j.key, j.priority) > (@route::int4, @key::text, @priority::int2)
      ORDER BY j.route, j.key, j.priority LIMIT 1)
    UNION ALL
    SELECT n.route, n.key, n.priority FROM l CROSS JOIN LATERAL (
        SELECT j.route, j.key, j.priority FROM jobs j
         WHERE j.state = 1 AND (j.route, j.key, j.priority) > (l.route, l.key, l.priority)
         ORDER BY j.route, j.key, j.priority LIMIT 1) n
)
SELECT l.route, l.key, l.priority FROM l LIMIT @lim;

-- The rows of leased jobs.
-- name: LeasedRows :many
SELECT (r.ord)::int4 AS ord, j.workflow_id, j.node, j.route, j.key, j.priority, j.run_at, j.expires_at, j.deadline_at, j.turn, j.attempt,
       j.losses, j.max_attempts, j.batch, j.flags, j.name, j.args, j.opts
  FROM (SELECT unnest(@ords::int4[]) AS ord, unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r
  JOIN jobs j ON j.workflow_id = r.id AND j.node = r.node
 WHERE j.state + 0 = 1;

-- name: ArgsOf :many
SELECT (r.ord)::int4 AS ord, p.body
  FROM (SELECT unnest(@ords::int4[]) AS ord, unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r
  JOIN payloads p ON p.workflow_id = r.id AND p.node = r.node AND p.slot = 0;

-- name: PausedQueues :many
SELECT name FROM queues WHERE paused_at IS NOT NULL ORDER BY name;

-- name: PausedWorkflows :many
SELECT id FROM workflows WHERE flags & 1 <> 0 ORDER BY id;

-- Jobs whose time is over, leased or not. A wait in the queue of a paused
-- workflow does not end; its deadline does.
-- name: ExpiredJobs :many
SELECT j.workflow_id, j.node, j.turn, j.batch, j.flags, (j.deadline_at IS NOT NULL AND j.deadline_at <= now())::bool AS deadline
  FROM jobs j
 WHERE j.expires_at <= now() AND j.state + 0 = 1
   AND (j.deadline_at <= now() OR NOT EXISTS (SELECT 1 FROM workflows w WHERE w.id = j.workflow_id AND w.flags & 1 <> 0))
 ORDER BY j.expires_at LIMIT @lim;

-- name: NextExpiry :many
SELECT j.expires_at FROM jobs j WHERE j.expires_at > now() ORDER BY j.expires_at LIMIT 1;
