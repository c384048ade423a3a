-- What people and the API see. Open and ended jobs have the same columns here,
-- in the same order; an ended job has state 2.

-- name: ViewJob :many
SELECT j.workflow_id, j.node, j.route, COALESCE(j.batch, -1)::int4 AS batch, COALESCE(j.released_by, 0)::int4 AS released_by, COALESCE(j.flags, 0)::int4 AS flags,
       j.state, 0::int2 AS outcome, j.priority, j.run_at, j.attempt, j.max_attempts, j.key, COALESCE(j.name, '')::text AS name,
       NULL::timestamptz AS started_at, NULL::timestamptz AS finished_at, ''::text AS worker, ''::text AS error, j.opts
  FROM jobs j WHERE j.workflow_id = @workflow_id AND j.node = @node
UNION ALL
SELECT f.workflow_id, f.node, f.route, COALESCE(f.batch, -1)::int4, COALESCE(f.released_by, 0)::int4, COALESCE(f.flags, 0)::int4,
       2::int2, f.outcome, f.priority, f.run_at, f.attempt, f.max_attempts, f.key, COALESCE(f.name, '')::text,
       f.started_at, f.finished_at, COALESCE(f.worker, '')::text, COALESCE(f.error, '')::text, f.opts
  FROM finished_jobs f WHERE f.workflow_id = @workflow_id AND f.node = @node;

-- name: ViewJobs :many
-- The same for several.
SELECT j.workflow_id, j.node, j.route, COALESCE(j.batch, -1)::int4 AS batch, COALESCE(j.released_by, 0)::int4 AS released_by, COALESCE(j.flags, 0)::int4 AS flags,
       j.state, 0::int2 AS outcome, j.priority, j.run_at, j.attempt, j.max_attempts, j.key, COALESCE(j.name, '')::text AS name,
       NULL::timestamptz AS started_at, NULL::timestamptz AS finished_at, ''::text AS worker, ''::text AS error, j.opts
  FROM (SELECT unnest(@workflow_ids::uuid[]) AS workflow_id, unnest(@nodes::int4[]) AS node) u JOIN jobs j ON j.workflow_id = u.workflow_id AND j.node = u.node
UNION ALL
SELECT f.workflow_id, f.node, f.route, COALESCE(f.batch, -1)::int4, COALESCE(f.released_by, 0)::int4, COALESCE(f.flags, 0)::int4,
       2::int2, f.outcome, f.priority, f.run_at, f.attempt, f.max_attempts, f.key, COALESCE(f.name, '')::text,
       f.started_at, f.finished_at, COALESCE(f.worker, '')::text, COALESCE(f.error, '')::text, f.opts
  FROM (SELECT unnest(@workflow_ids::uuid[]) AS workflow_id, unnest(@nodes::int4[]) AS node) u JOIN finished_jobs f ON f.workflow_id = u.workflow_id AND f.node = u.node;

-- name: JobBodies :many
SELECT j.args, NULL::bytea AS result FROM jobs j WHERE j.workflow_id = @workflow_id AND j.node = @node
UNION ALL
SELECT f.args, f.result FROM finished_jobs f WHERE f.workflow_id = @workflow_id AND f.node = @node;

-- name: JobPayloads :many
SELECT slot, body FROM payloads WHERE workflow_id = @workflow_id AND node = @node;

-- name: JobAttempts :many
SELECT attempt, how, COALESCE(worker, '')::text AS worker, COALESCE(error, '')::text AS error, started_at, finished_at
  FROM attempts WHERE workflow_id = @workflow_id AND node = @node ORDER BY turn DESC LIMIT 1000;

-- name: NodeJobs :many
-- Jobs of one workflow by number, up to @until; of batch @batch only, unless
-- that is -1. A leased job runs.
(SELECT j.workflow_id, j.node, j.route, COALESCE(j.batch, -1)::int4 AS batch, COALESCE(j.released_by, 0)::int4 AS released_by, COALESCE(j.flags, 0)::int4 AS flags,
       j.state, 0::int2 AS outcome, j.priority, j.run_at, j.attempt, j.max_attempts, j.key, COALESCE(j.name, '')::text AS name,
       NULL::timestamptz AS started_at, NULL::timestamptz AS finished_at, ''::text AS worker, ''::text AS error, j.opts
  FROM jobs j WHERE j.workflow_id = @workflow_id AND j.node > @after::int4 AND j.node <= @until::int4 AND (@batch::int4 = -1 OR j.batch = @batch::int4)
   AND CASE WHEN j.state = 0 THEN @blocked::bool WHEN j.node = ANY(@leased::int4[]) THEN @running::bool WHEN j.run_at <= @now::timestamptz THEN @available::bool
            WHEN j.attempt = 0 THEN @scheduled::bool ELSE @retryable::bool END
  ORDER BY j.node LIMIT @max_rows)
UNION ALL
(SELECT f.workflow_id, f.node, f.route, COALESCE(f.batch, -1)::int4, COALESCE(f.released_by, 0)::int4, COALESCE(f.flags, 0)::int4,
       2::int2, f.outcome, f.priority, f.run_at, f.attempt, f.max_attempts, f.key, COALESCE(f.name, '')::text,
       f.started_at, f.finished_at, COALESCE(f.worker, '')::text, COALESCE(f.error, '')::text, f.opts
  FROM finished_jobs f WHERE f.workflow_id = @workflow_id AND f.node > @after::int4 AND f.node <= @until::int4 AND (@batch::int4 = -1 OR f.batch = @batch::int4) AND f.outcome & @outcomes::int4 <> 0
  ORDER BY f.node LIMIT @max_rows)
ORDER BY 2 LIMIT @max_rows;

-- name: NodeBatches :many
-- Batches of one workflow by number; direct members of @parent only, unless that is -1.
SELECT * FROM batches b WHERE b.workflow_id = @workflow_id AND b.node > @after::int4 AND b.node <= @until::int4 AND (@parent::int4 = -1 OR b.parent = @parent::int4)
   AND (b.state = 0 AND @blocked::bool OR b.state = 1 AND @running::bool OR b.state = 2 AND b.outcome & @outcomes::int4 <> 0)
 ORDER BY b.node LIMIT @max_rows;

-- name: OpenJobsBound :many
-- Where a search of the open jobs stands after @rows rows.
SELECT j.workflow_id, j.node FROM jobs j WHERE (j.workflow_id, j.node) < (@workflow_id, @node::int4)
 ORDER BY j.workflow_id DESC, j.node DESC OFFSET @rows LIMIT 1;

-- name: OpenJobsBetween :many
SELECT j.workflow_id, j.node, j.route, COALESCE(j.batch, -1)::int4 AS batch, COALESCE(j.released_by, 0)::int4 AS released_by, COALESCE(j.flags, 0)::int4 AS flags,
       j.state, 0::int2 AS outcome, j.priority, j.run_at, j.attempt, j.max_attempts, j.key, COALESCE(j.name, '')::text AS name,
       NULL::timestamptz AS started_at, NULL::timestamptz AS finished_at, ''::text AS worker, ''::text AS error, j.opts
  FROM jobs j WHERE (j.workflow_id, j.node) < (@workflow_id, @node::int4) AND (j.workflow_id, j.node) >= (@low_workflow_id, @low_node::int4)
   AND (@any_route::bool OR j.route = ANY(@routes::int4[])) AND (@any_batch::bool OR COALESCE(j.batch, 0) = @batch::int4)
   AND (@name::text = '' OR j.name = @name::text) AND (@tag::bytea = ''::bytea OR position(@tag::bytea IN j.opts) > 0)
   AND (j.state = 0 AND @blocked::bool
     OR j.state = 1 AND (j.run_at <= @now::timestamptz AND @available::bool
                      OR j.run_at > @now::timestamptz AND j.attempt = 0 AND @scheduled::bool
                      OR j.run_at > @now::timestamptz AND j.attempt > 0 AND @retryable::bool))
 ORDER BY j.workflow_id DESC, j.node DESC LIMIT @max_rows;

-- name: FinishedJobsBound :many
SELECT f.workflow_id, f.node FROM finished_jobs f WHERE f.workflow_id <= @workflow_id AND (f.workflow_id, f.node) < (@workflow_id, @node::int4)
 ORDER BY f.workflow_id DESC, f.node DESC OFFSET @rows LIMIT 1;

-- name: FinishedJobsBetween :many
SELECT f.workflow_id, f.node, f.route, COALESCE(f.batch, -1)::int4 AS batch, COALESCE(f.released_by, 0)::int4 AS released_by, COALESCE(f.flags, 0)::int4 AS flags,
       2::int2 AS state, f.outcome, f.priority, f.run_at, f.attempt, f.max_attempts, f.key, COALESCE(f.name, '')::text AS name,
       f.started_at, f.finished_at, COALESCE(f.worker, '')::text AS worker, COALESCE(f.error, '')::text AS error, f.opts
  FROM finished_jobs f WHERE f.workflow_id <= @workflow_id AND f.workflow_id >= @low_workflow_id
   AND (f.workflow_id, f.node) < (@workflow_id, @node::int4) AND (f.workflow_id, f.node) >= (@low_workflow_id, @low_node::int4)
   AND (@any_route::bool OR f.route = ANY(@routes::int4[])) AND (@any_batch::bool OR COALESCE(f.batch, 0) = @batch::int4)
   AND (@name::text = '' OR f.name = @name::text) AND (@tag::bytea = ''::bytea OR position(@tag::bytea IN f.opts) > 0)
   AND (cardinality(@errors::text[]) = 0 OR f.error ILIKE ALL (@errors::text[])) AND f.outcome & @outcomes::int4 <> 0
 ORDER BY f.workflow_id DESC, f.node DESC LIMIT @max_rows;

-- name: EndedOtherBound :many
-- Where a search of what ended in one way other than success stands after @rows
-- rows: the latest end comes first.
SELECT f.finished_at, f.workflow_id, f.node FROM finished_jobs f
 WHERE f.outcome = @outcome AND f.outcome <> 1 AND (f.finished_at, f.workflow_id, f.node) < (@finished_at::timestamptz, @workflow_id::uuid, @node::int4)
   AND f.workflow_id >= @first_id::uuid AND f.workflow_id < @last_id::uuid
 ORDER BY f.finished_at DESC, f.workflow_id DESC, f.node DESC OFFSET @rows LIMIT 1;

-- name: EndedOtherBetween :many
SELECT f.workflow_id, f.node, f.route, COALESCE(f.batch, -1)::int4 AS batch, COALESCE(f.released_by, 0)::int4 AS released_by, COALESCE(f.flags, 0)::int4 AS flags,
       2::int2 AS state, f.outcome, f.priority, f.run_at, f.attempt, f.max_attempts, f.key, COALESCE(f.name, '')::text AS name,
       f.started_at, f.finished_at, COALESCE(f.worker, '')::text AS worker, COALESCE(f.error, '')::text AS error, f.opts
  FROM finished_jobs f
 WHERE f.outcome = @outcome AND f.outcome <> 1 AND (f.finished_at, f.workflow_id, f.node) < (@finished_at::timestamptz, @workflow_id::uuid, @node::int4)
   AND (f.finished_at, f.workflow_id, f.node) >= (@low_finished_at::timestamptz, @low_workflow_id::uuid, @low_node::int4)
   AND f.workflow_id >= @first_id::uuid AND f.workflow_id < @last_id::uuid
   AND (@any_route::bool OR f.route = ANY(@routes::int4[])) AND (@name::text = '' OR f.name = @name::text)
   AND (@tag::bytea = ''::bytea OR position(@tag::bytea IN f.opts) > 0) AND (cardinality(@errors::text[]) = 0 OR f.error ILIKE ALL (@errors::text[]))
 ORDER BY f.finished_at DESC, f.workflow_id DESC, f.node DESC LIMIT @max_rows;

-- name: ReadyKeys :many
-- Released open jobs, at most @max_rows, in the order of the ready index, which
-- is how few among many blocked ones are found.
SELECT j.workflow_id, j.node, j.run_at, j.attempt, j.route FROM jobs j
 WHERE j.state = 1 ORDER BY j.route, j.key, j.priority, j.run_at, j.workflow_id, j.node LIMIT @max_rows;

-- name: LaterKeys :many
-- Released open jobs whose time has not come, at most @max_rows, of the last
-- @most_streams streams.
WITH RECURSIVE streams AS (
    (SELECT j.route, j.key, j.priority FROM jobs j WHERE j.state = 1 ORDER BY j.route DESC, j.key DESC, j.priority DESC LIMIT 1)
    UNION ALL
    SELECT n.route, n.key, n.priority FROM streams s CROSS JOIN LATERAL (
        SELECT j.route, j.key, j.priority FROM jobs j
         WHERE j.state = 1 AND (j.route, j.key, j.priority) < (s.route, s.key, s.priority)
         ORDER BY j.route DESC, j.key DESC, j.priority DESC LIMIT 1) n
), known AS MATERIALIZED (SELECT * FROM streams LIMIT @most_streams)
SELECT l.workflow_id, l.node, l.run_at, l.attempt, s.route, (SELECT count(*) FROM known)::int8 AS streams
  FROM known s CROSS JOIN LATERAL (
    SELECT j.workflow_id, j.node, j.run_at, j.attempt FROM jobs j
     WHERE j.state = 1 AND j.route = s.route AND j.key = s.key AND j.priority = s.priority AND j.run_at > @now::timestamptz
     ORDER BY j.run_at DESC, j.workflow_id DESC, j.node DESC LIMIT @max_rows::int4) l
 LIMIT @max_rows::int4;

-- name: MatchingRoutes :many
SELECT id FROM routes WHERE (@queue::text = '' OR queue = @queue) AND (@kind::text = '' OR kind = @kind);

-- name: GetWorkflow :one
SELECT * FROM workflows WHERE id = @id;

-- name: FindWorkflow :many
SELECT * FROM workflows WHERE id = @id;

-- name: WorkflowsBound :many
SELECT id FROM workflows WHERE id < @id ORDER BY id DESC OFFSET @rows LIMIT 1;

-- name: WorkflowsBetween :many
SELECT * FROM workflows
 WHERE id < @id AND id >= @low_id AND (@name::text = '' OR name = @name)
   AND (state = 1 AND @running::bool OR state = 2 AND outcome & @outcomes::int4 <> 0)
 ORDER BY id DESC LIMIT @max_rows;

-- name: RunningWorkflows :many
SELECT * FROM workflows WHERE state = 1 AND id < @before AND (@name::text = '' OR name = @name) ORDER BY id DESC LIMIT @max_rows;

-- name: SomeOpenJobCounts :many
-- Open jobs by state, of workflows that have few of them.
SELECT (w.id)::uuid AS workflow_id, (CASE WHEN j.state = 0 THEN 1 WHEN j.run_at <= @now::timestamptz THEN 3 WHEN j.attempt = 0 THEN 2 ELSE 5 END)::int4 AS state,
       count(*) AS jobs
  FROM (SELECT unnest(@ids::uuid[]) AS id) w
 CROSS JOIN LATERAL (SELECT i.state, i.run_at, i.attempt FROM jobs i WHERE i.workflow_id = w.id LIMIT @max_rows) j
 GROUP BY 1, 2;

-- name: BatchSums :many
-- Counters of all batches of workflows, and how the batches themselves ended:
-- less these, they count jobs. No history is read.
SELECT workflow_id, count(*) AS batches, sum(total)::int8 AS total, sum(succeeded)::int8 AS succeeded, sum(failed)::int8 AS failed, sum(cancelled)::int8 AS cancelled, sum(skipped)::int8 AS skipped,
       count(*) FILTER (WHERE outcome = 1) AS batches_succeeded, count(*) FILTER (WHERE outcome = 2) AS batches_failed,
       count(*) FILTER (WHERE outcome = 4) AS batches_cancelled, count(*) FILTER (WHERE outcome = 8) AS batches_skipped
  FROM batches WHERE workflow_id = ANY(@ids::uuid[]) GROUP BY workflow_id;

-- name: OpenJobCounts :many
-- Open jobs of one workflow by batch (-1: any below the root, unless @each) and
-- state; those in @leased run.
SELECT (CASE WHEN @each::bool OR batch = 0 THEN COALESCE(batch, 0) ELSE -1 END)::int4 AS in_batch,
       (CASE WHEN state = 0 THEN 1 WHEN node = ANY(@leased::int4[]) THEN 4 WHEN run_at <= @now::timestamptz THEN 3 WHEN attempt = 0 THEN 2 ELSE 5 END)::int4 AS state,
       count(*) AS jobs
  FROM jobs WHERE workflow_id = @workflow_id GROUP BY 1, 2;

-- name: OpenBatchCounts :many
SELECT (CASE WHEN @each::bool OR parent = 0 THEN parent ELSE -1 END)::int4 AS in_batch,
       (CASE WHEN state = 0 THEN 1 ELSE 4 END)::int4 AS state, count(*) AS batches
  FROM batches WHERE workflow_id = @workflow_id AND state <> 2 GROUP BY 1, 2;

-- name: ListBatches :many
SELECT * FROM batches WHERE workflow_id = @workflow_id ORDER BY node LIMIT @max_rows;

-- name: GetBatch :many
SELECT * FROM batches WHERE workflow_id = @workflow_id AND node = @node;

-- name: BatchesByNode :many
SELECT * FROM batches WHERE workflow_id = @workflow_id AND node = ANY(@nodes::int4[]) ORDER BY node;

-- name: BatchAncestry :many
-- A batch and those around it, the innermost first.
WITH RECURSIVE up AS (
    SELECT b.workflow_id, b.node, b.parent, b.name, b.state, b.outcome, b.flags, b.need, 0 AS depth FROM batches b WHERE b.workflow_id = @workflow_id AND b.node = @node
    UNION ALL
    SELECT p.workflow_id, p.node, p.parent, p.name, p.state, p.outcome, p.flags, p.need, up.depth + 1 FROM up JOIN batches p ON p.workflow_id = up.workflow_id AND p.node = up.parent
)
SELECT up.node, up.parent, up.name, up.state, up.outcome, up.flags, up.need FROM up ORDER BY up.depth;

-- name: FindBatch :many
SELECT node FROM batches WHERE workflow_id = @workflow_id AND parent = @parent AND name = @name::text;

-- name: FindJob :many
SELECT j.node FROM jobs j WHERE j.workflow_id = @workflow_id AND j.batch = @batch::int4 AND j.name = @name::text
UNION ALL
SELECT f.node FROM finished_jobs f WHERE f.workflow_id = @workflow_id AND f.batch = @batch::int4 AND f.name = @name::text
 LIMIT 1;

-- name: EndedWorkflows :many
SELECT id, outcome FROM workflows WHERE id = ANY(@ids::uuid[]) AND state = 2
UNION ALL
SELECT workflow_id, outcome FROM finished_jobs WHERE workflow_id = ANY(@ids::uuid[]) AND node = 1 AND batch IS NULL;

-- name: Results :many
-- Ended jobs directly in a batch, by number.
SELECT f.node, COALESCE(f.name, '')::text AS name, f.outcome, COALESCE(f.flags, 0)::int4 AS flags, f.args, f.result, COALESCE(f.error, '')::text AS error
  FROM finished_jobs f WHERE f.workflow_id = @workflow_id AND f.node > @after::int4 AND f.node <= @hi::int4 AND f.batch = @batch::int4 AND f.finished_at <= @as_of
 ORDER BY f.node LIMIT @max_rows;

-- name: OneResult :many
SELECT f.node, COALESCE(f.name, '')::text AS name, f.outcome, COALESCE(f.flags, 0)::int4 AS flags, f.args, f.result, COALESCE(f.error, '')::text AS error
  FROM finished_jobs f WHERE f.workflow_id = @workflow_id AND f.node = @node;

-- name: ResultPayloads :many
SELECT node, slot, body FROM payloads WHERE workflow_id = @workflow_id AND node = ANY(@nodes::int4[]);

-- name: OpenParents :many
-- Parents of a node that have not ended, at most @max_rows; jobs and batches.
SELECT e.parent FROM edges e
 WHERE e.workflow_id = @workflow_id AND e.child = @node
   AND (EXISTS (SELECT FROM jobs j WHERE j.workflow_id = e.workflow_id AND j.node = e.parent)
     OR EXISTS (SELECT FROM batches b WHERE b.workflow_id = e.workflow_id AND b.node = e.parent AND b.state <> 2))
 ORDER BY e.parent LIMIT @max_rows;

-- name: HeldParents :many
-- Parents that failed and hold their edges open.
SELECT e.parent FROM edges e
 WHERE e.workflow_id = @workflow_id AND e.child = @node AND e.on_set & 2 = 0
   AND (EXISTS (SELECT FROM finished_jobs f WHERE f.workflow_id = e.workflow_id AND f.node = e.parent AND f.outcome = 2 AND f.flags & 4 <> 0)
     OR EXISTS (SELECT FROM batches b WHERE b.workflow_id = e.workflow_id AND b.node = e.parent AND b.outcome = 2 AND b.flags & 4 <> 0))
 ORDER BY e.parent LIMIT @max_rows;
