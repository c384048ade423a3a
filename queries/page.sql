-- What only the page of a workflow looks at.

-- name: NodeStates :many
-- Numbers and states of the nodes between two numbers, as codes: 1 to 5 as in
-- heddle.v1.State, 10 + outcome for what has ended.
SELECT x.node, x.state FROM (
    SELECT j.node, (CASE WHEN j.state = 0 THEN 1 WHEN j.node = ANY(@leased::int4[]) THEN 4 WHEN j.run_at <= @now::timestamptz THEN 3 WHEN j.attempt = 0 THEN 2 ELSE 5 END)::int4 AS state
      FROM jobs j WHERE j.workflow_id = @workflow_id AND j.node BETWEEN @lo::int4 AND @hi::int4
    UNION ALL
    SELECT f.node, (10 + f.outcome)::int4 FROM finished_jobs f WHERE f.workflow_id = @workflow_id AND f.node BETWEEN @lo::int4 AND @hi::int4
    UNION ALL
    SELECT b.node, (CASE b.state WHEN 0 THEN 1 WHEN 1 THEN 4 ELSE 10 + b.outcome END)::int4
      FROM batches b WHERE b.workflow_id = @workflow_id AND b.node BETWEEN @lo::int4 AND @hi::int4
) x ORDER BY x.node;

-- name: NodeFacts :many
-- What there is to say of a few nodes; state as in NodeStates.
SELECT j.node, false AS is_batch, COALESCE(j.batch, 0)::int4 AS batch, COALESCE(j.released_by, 0)::int4 AS released_by, COALESCE(j.flags, 0)::int4 AS flags, j.route,
       COALESCE(j.name, '')::text AS name,
       (CASE WHEN j.state = 0 THEN 1 WHEN j.node = ANY(@leased::int4[]) THEN 4 WHEN j.run_at <= @now::timestamptz THEN 3 WHEN j.attempt = 0 THEN 2 ELSE 5 END)::int4 AS state,
       NULL::timestamptz AS started_at, NULL::timestamptz AS finished_at
  FROM jobs j WHERE j.workflow_id = @workflow_id AND j.node = ANY(@nodes::int4[])
UNION ALL
SELECT f.node, false, COALESCE(f.batch, 0)::int4, COALESCE(f.released_by, 0)::int4, COALESCE(f.flags, 0)::int4, f.route, COALESCE(f.name, '')::text,
       (10 + f.outcome)::int4, f.started_at, f.finished_at
  FROM finished_jobs f WHERE f.workflow_id = @workflow_id AND f.node = ANY(@nodes::int4[])
UNION ALL
SELECT b.node, true, b.parent, COALESCE(b.released_by, 0)::int4, b.flags, 0::int4, COALESCE(b.name, '')::text,
       (CASE b.state WHEN 0 THEN 1 WHEN 1 THEN 4 ELSE 10 + b.outcome END)::int4, b.started_at, b.finished_at
  FROM batches b WHERE b.workflow_id = @workflow_id AND b.node = ANY(@nodes::int4[]);

-- name: ReleaseChain :many
-- A node, the one whose end released it, and so on: through jobs, up to the first
-- that nobody released or that is a batch.
WITH RECURSIVE chain AS (
    SELECT @node::int4 AS node, 0 AS step
    UNION ALL
    SELECT p.released_by, c.step + 1 FROM chain c CROSS JOIN LATERAL (
        SELECT j.released_by FROM jobs j WHERE j.workflow_id = @workflow_id AND j.node = c.node
        UNION ALL
        SELECT f.released_by FROM finished_jobs f WHERE f.workflow_id = @workflow_id AND f.node = c.node) p
     WHERE p.released_by IS NOT NULL AND c.step < @max_steps::int4
)
SELECT chain.node FROM chain ORDER BY chain.step;

-- name: LastEndedMember :many
-- The direct member of a batch that ended last.
SELECT x.node FROM (
    (SELECT f.node, f.finished_at FROM finished_jobs f
      WHERE f.workflow_id = @workflow_id AND f.node BETWEEN @lo::int4 AND @hi::int4 AND COALESCE(f.batch, 0) = @batch::int4
      ORDER BY f.finished_at DESC, f.node DESC LIMIT 1)
    UNION ALL
    (SELECT b.node, b.finished_at FROM batches b
      WHERE b.workflow_id = @workflow_id AND b.node BETWEEN @lo::int4 AND @hi::int4 AND b.parent = @batch::int4 AND b.state = 2 AND b.finished_at IS NOT NULL
      ORDER BY b.finished_at DESC, b.node DESC LIMIT 1)
) x ORDER BY x.finished_at DESC, x.node DESC LIMIT 1;

-- name: LastReleased :many
-- The open job that became due last; one whose time has not come, if there is no
-- other.
SELECT j.node FROM jobs j WHERE j.workflow_id = @workflow_id AND j.state = 1
 ORDER BY (j.run_at <= @now::timestamptz) DESC, j.run_at DESC, j.node DESC LIMIT 1;

-- name: EdgesUp :many
SELECT e.parent, e.child, e.on_set FROM edges e WHERE e.workflow_id = @workflow_id AND e.child = ANY(@nodes::int4[])
 ORDER BY e.child, e.parent LIMIT @max_rows;

-- name: EdgesDown :many
SELECT e.parent, e.child, e.on_set FROM edges e WHERE e.workflow_id = @workflow_id AND e.parent = ANY(@nodes::int4[])
 ORDER BY e.parent, e.child LIMIT @max_rows;

-- name: CountEdges :one
SELECT (SELECT count(*) FROM edges e WHERE e.workflow_id = @workflow_id AND e.child = @node) AS up,
       (SELECT count(*) FROM edges e WHERE e.workflow_id = @workflow_id AND e.parent = @node) AS down;

-- name: FinishedStrips :many
-- When ended jobs ran, at most @max_rows of them by number: by card, how many
-- began in each bucket (ending is false), and how many ended in it. Buckets are
-- counted from 0.
SELECT (s.card)::int4 AS card, (grouping(s.began) = 1)::bool AS ending, COALESCE(s.began, s.ended)::int4 AS bucket, count(*) AS jobs, count(*) FILTER (WHERE s.outcome = 2) AS failed,
       min(s.started_at)::timestamptz AS first_start, max(s.finished_at)::timestamptz AS last_end
  FROM (SELECT (@cards::int4[])[width_bucket(f.node, @los::int4[])] AS card, f.outcome, f.started_at, f.finished_at,
               floor(extract(epoch FROM f.started_at - @from_at::timestamptz) / @width::float8)::int4 AS began,
               floor(extract(epoch FROM f.finished_at - @from_at::timestamptz) / @width::float8)::int4 AS ended
          FROM (SELECT i.node, i.outcome, i.started_at, i.finished_at FROM finished_jobs i
                 WHERE i.workflow_id = @workflow_id ORDER BY i.node LIMIT @max_rows::int4) f
         WHERE f.started_at IS NOT NULL) s
 WHERE s.card IS NOT NULL
 GROUP BY GROUPING SETS ((s.card, s.began), (s.card, s.ended));

-- name: AttemptStrips :many
-- The same of attempts that did not finish their job.
SELECT (s.card)::int4 AS card, (grouping(s.began) = 1)::bool AS ending, COALESCE(s.began, s.ended)::int4 AS bucket, count(*) AS jobs, count(*) FILTER (WHERE s.how IN (1, 5)) AS failed,
       min(s.started_at)::timestamptz AS first_start, max(s.finished_at)::timestamptz AS last_end
  FROM (SELECT (@cards::int4[])[width_bucket(a.node, @los::int4[])] AS card, a.how, a.started_at, a.finished_at,
               floor(extract(epoch FROM a.started_at - @from_at::timestamptz) / @width::float8)::int4 AS began,
               floor(extract(epoch FROM a.finished_at - @from_at::timestamptz) / @width::float8)::int4 AS ended
          FROM (SELECT i.node, i.how, i.started_at, i.finished_at FROM attempts i
                 WHERE i.workflow_id = @workflow_id ORDER BY i.node, i.turn LIMIT @max_rows::int4) a
         WHERE a.started_at IS NOT NULL) s
 WHERE s.card IS NOT NULL
 GROUP BY GROUPING SETS ((s.card, s.began), (s.card, s.ended));

-- name: AttemptsOf :many
SELECT node, turn, attempt, how, COALESCE(worker, '')::text AS worker, COALESCE(error, '')::text AS error, started_at, finished_at
  FROM attempts WHERE workflow_id = @workflow_id AND node = ANY(@nodes::int4[]) ORDER BY node, turn LIMIT @max_rows;

-- name: EndEvents :many
-- Ends of jobs of a workflow, the latest first, behind a position; of @one_node alone
-- unless that is -1.
SELECT f.node, f.finished_at, f.outcome, f.attempt, f.route, COALESCE(f.name, '')::text AS name, COALESCE(f.worker, '')::text AS worker, left(COALESCE(f.error, ''), 2000)::text AS error
  FROM finished_jobs f
 WHERE f.workflow_id = @workflow_id AND (@one_node::int4 = -1 OR f.node = @one_node::int4) AND (f.finished_at, f.node) < (@at::timestamptz, @node::int4)
 ORDER BY f.finished_at DESC, f.node DESC LIMIT @max_rows;

-- name: AttemptEvents :many
SELECT a.node, a.turn, a.finished_at, a.attempt, a.how, COALESCE(a.worker, '')::text AS worker, left(COALESCE(a.error, ''), 2000)::text AS error
  FROM attempts a
 WHERE a.workflow_id = @workflow_id AND (@one_node::int4 = -1 OR a.node = @one_node::int4) AND (a.finished_at, a.node, a.turn) < (@at::timestamptz, @node::int4, @turn::int4)
 ORDER BY a.finished_at DESC, a.node DESC, a.turn DESC LIMIT @max_rows;

-- name: BatchEvents :many
SELECT b.node, b.finished_at, b.outcome, COALESCE(b.name, '')::text AS name
  FROM batches b
 WHERE b.workflow_id = @workflow_id AND b.state = 2 AND (@one_node::int4 = -1 OR b.node = @one_node::int4) AND (b.finished_at, b.node) < (@at::timestamptz, @node::int4)
 ORDER BY b.finished_at DESC, b.node DESC LIMIT @max_rows;

-- name: AuditEvents :many
SELECT a.id, COALESCE(a.node, 0)::int4 AS node, a.at, a.action, COALESCE(a.note, '')::text AS note, COALESCE(a.author, '')::text AS author
  FROM audit a
 WHERE a.workflow_id = @workflow_id AND (@one_node::int4 = -1 OR COALESCE(a.node, 0) = @one_node::int4) AND (a.at, a.id) < (@at::timestamptz, @id::int8)
 ORDER BY a.at DESC, a.id DESC LIMIT @max_rows;

-- name: BatchesListBound :many
-- Where a search of the batches stands after @rows rows.
SELECT b.workflow_id, b.node FROM batches b WHERE (b.workflow_id, b.node) < (@workflow_id, @node::int4)
 ORDER BY b.workflow_id DESC, b.node DESC OFFSET @rows LIMIT 1;

-- name: BatchesListBetween :many
SELECT b.* FROM batches b
 WHERE (b.workflow_id, b.node) < (@workflow_id, @node::int4) AND (b.workflow_id, b.node) >= (@low_workflow_id, @low_node::int4)
   AND (@name::text = '' OR b.name = @name::text)
   AND (b.state = 0 AND @blocked::bool OR b.state = 1 AND @running::bool OR b.state = 2 AND b.outcome & @outcomes::int4 <> 0)
 ORDER BY b.workflow_id DESC, b.node DESC LIMIT @max_rows;

-- name: RunningBatches :many
-- Running batches, those of the newest running workflow first, behind a position.
SELECT b.* FROM (SELECT w.id FROM workflows w WHERE w.state = 1 AND w.id <= @workflow_id ORDER BY w.id DESC) w
 CROSS JOIN LATERAL (
    SELECT * FROM batches i WHERE i.workflow_id = w.id AND i.state = 1 AND (i.workflow_id, i.node) < (@workflow_id, @node::int4)
       AND (@name::text = '' OR i.name = @name::text) ORDER BY i.node DESC LIMIT @max_rows::int4) b
 LIMIT @max_rows::int4;

-- name: WorkflowNames :many
SELECT id, COALESCE(name, '')::text AS name FROM workflows WHERE id = ANY(@ids::uuid[]);

-- name: MemberCounts :many
-- Open jobs directly in batches that have few of them, by state.
SELECT (r.ord)::int4 AS ord, (CASE WHEN j.state = 0 THEN 1 WHEN j.run_at <= @now::timestamptz THEN 3 WHEN j.attempt = 0 THEN 2 ELSE 5 END)::int4 AS state, count(*) AS jobs
  FROM (SELECT unnest(@ords::int4[]) AS ord, unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@los::int4[]) AS lo, unnest(@his::int4[]) AS hi) r
  JOIN jobs j ON j.workflow_id = r.id AND j.node BETWEEN r.lo AND r.hi AND j.batch = r.node
 GROUP BY 1, 2;

-- name: LeasedMembers :many
-- Leased jobs by the batch they are in.
SELECT j.workflow_id, j.batch, count(*) AS jobs
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r
  JOIN jobs j ON j.workflow_id = r.id AND j.node = r.node
 WHERE j.state = 1 AND j.batch > 0 GROUP BY 1, 2;

-- name: BatchJobCounts :many
-- Open jobs directly in a batch, by state.
SELECT (CASE WHEN j.state = 0 THEN 1 WHEN j.node = ANY(@leased::int4[]) THEN 4 WHEN j.run_at <= @now::timestamptz THEN 3 WHEN j.attempt = 0 THEN 2 ELSE 5 END)::int4 AS state, count(*) AS jobs
  FROM jobs j WHERE j.workflow_id = @workflow_id AND j.node BETWEEN @lo::int4 AND @hi::int4 AND COALESCE(j.batch, 0) = @batch::int4 GROUP BY 1;

-- name: NestedBatches :many
SELECT * FROM batches WHERE workflow_id = @workflow_id AND node BETWEEN @lo::int4 AND @hi::int4 AND parent = @batch::int4 ORDER BY node LIMIT @max_rows;

-- name: NestedCounts :many
SELECT state, count(*) AS batches FROM batches
 WHERE workflow_id = @workflow_id AND node BETWEEN @lo::int4 AND @hi::int4 AND parent = @batch::int4 AND state <> 2 GROUP BY 1;

-- name: EndedSince :one
-- Direct members of a batch that ended since.
SELECT (SELECT count(*) FROM finished_jobs f WHERE f.workflow_id = @workflow_id AND f.node BETWEEN @lo::int4 AND @hi::int4
           AND COALESCE(f.batch, 0) = @batch::int4 AND f.finished_at >= @since::timestamptz)
     + (SELECT count(*) FROM batches b WHERE b.workflow_id = @workflow_id AND b.node BETWEEN @lo::int4 AND @hi::int4
           AND b.parent = @batch::int4 AND b.finished_at >= @since::timestamptz) AS ended;

-- name: FailedWithin :many
-- Failed jobs between two numbers, by number.
SELECT f.node FROM finished_jobs f
 WHERE f.workflow_id = @workflow_id AND f.node BETWEEN @lo::int4 AND @hi::int4 AND f.outcome = 2 ORDER BY f.node LIMIT @max_rows;

-- name: WaitingWithin :many
-- Released open jobs between two numbers, those that have been due longest first.
SELECT j.node FROM jobs j
 WHERE j.workflow_id = @workflow_id AND j.node BETWEEN @lo::int4 AND @hi::int4 AND j.state = 1 ORDER BY j.run_at, j.node LIMIT @max_rows;
