-- What a submission writes. Columns that are mostly empty are stored as NULL,
-- which costs nothing.

-- name: InsertJobs :exec
INSERT INTO jobs (workflow_id, run_at, expires_at, deadline_at, node, route, batch, flags, need, slack, join_k, state, priority, max_attempts, key, name, args, opts)
SELECT u.workflow_id, u.run_at, u.expires_at, u.deadline_at, u.node, u.route, NULLIF(u.batch, -1), NULLIF(u.flags, 0), NULLIF(u.need, 0), NULLIF(u.slack, 0),
       NULLIF(u.join_k, 0), u.state, u.priority, u.max_attempts, u.key, NULLIF(u.name, ''), u.args, u.opts
  FROM (SELECT unnest(@workflow_ids::uuid[]) AS workflow_id, unnest(@run_ats::timestamptz[]) AS run_at, unnest(@expires_ats::timestamptz[]) AS expires_at,
               unnest(@deadline_ats::timestamptz[]) AS deadline_at, unnest(@nodes::int4[]) AS node, unnest(@routes::int4[]) AS route, unnest(@batches::int4[]) AS batch,
               unnest(@flags::int4[]) AS flags, unnest(@needs::int4[]) AS need, unnest(@slacks::int4[]) AS slack, unnest(@join_ks::int4[]) AS join_k,
               unnest(@states::int2[]) AS state, unnest(@priorities::int2[]) AS priority, unnest(@max_attempts::int2[]) AS max_attempts,
               unnest(@keys::text[]) AS key, unnest(@names::text[]) AS name, unnest(@args::bytea[]) AS args, unnest(@opts::bytea[]) AS opts) u;

-- name: InsertNewJobs :many
-- As InsertJobs, but leaves what is there alone and tells what was inserted.
INSERT INTO jobs (workflow_id, run_at, expires_at, deadline_at, node, route, batch, flags, need, slack, join_k, state, priority, max_attempts, key, name, args, opts)
SELECT u.workflow_id, u.run_at, u.expires_at, u.deadline_at, u.node, u.route, NULLIF(u.batch, -1), NULLIF(u.flags, 0), NULLIF(u.need, 0), NULLIF(u.slack, 0),
       NULLIF(u.join_k, 0), u.state, u.priority, u.max_attempts, u.key, NULLIF(u.name, ''), u.args, u.opts
  FROM (SELECT unnest(@workflow_ids::uuid[]) AS workflow_id, unnest(@run_ats::timestamptz[]) AS run_at, unnest(@expires_ats::timestamptz[]) AS expires_at,
               unnest(@deadline_ats::timestamptz[]) AS deadline_at, unnest(@nodes::int4[]) AS node, unnest(@routes::int4[]) AS route, unnest(@batches::int4[]) AS batch,
               unnest(@flags::int4[]) AS flags, unnest(@needs::int4[]) AS need, unnest(@slacks::int4[]) AS slack, unnest(@join_ks::int4[]) AS join_k,
               unnest(@states::int2[]) AS state, unnest(@priorities::int2[]) AS priority, unnest(@max_attempts::int2[]) AS max_attempts,
               unnest(@keys::text[]) AS key, unnest(@names::text[]) AS name, unnest(@args::bytea[]) AS args, unnest(@opts::bytea[]) AS opts) u
ON CONFLICT DO NOTHING
RETURNING workflow_id, node;

-- name: DeleteResurrectedJobs :many
-- The probe of lone jobs that were just inserted: one whose first submission
-- has ended already goes again. It must be a later statement than the insert,
-- with a snapshot of its own (C7).
DELETE FROM jobs j USING finished_jobs f
 WHERE f.workflow_id = ANY(@ids::uuid[]) AND f.node = 1
   AND j.workflow_id = f.workflow_id AND j.node = 1
RETURNING j.workflow_id;

-- name: DeleteMisplacedJobs :many
-- The same for ids that belong to a graph whose node 1 is a batch.
DELETE FROM jobs j USING batches b
 WHERE b.workflow_id = ANY(@ids::uuid[]) AND b.node = 1
   AND j.workflow_id = b.workflow_id AND j.node = 1
RETURNING j.workflow_id;

-- name: FindLoneJobs :many
-- Which of these ids are those of lone jobs, open or ended.
SELECT j.workflow_id FROM jobs j WHERE j.workflow_id = ANY(@ids::uuid[]) AND j.node = 1 AND j.batch IS NULL
UNION ALL
SELECT f.workflow_id FROM finished_jobs f WHERE f.workflow_id = ANY(@ids::uuid[]) AND f.node = 1 AND f.batch IS NULL;

-- name: FindFirstJobs :many
-- Node 1 of these workflows, to compare a repeated submission with.
SELECT j.workflow_id, j.route, COALESCE(j.flags, 0)::int4 AS flags, j.args FROM jobs j WHERE j.workflow_id = ANY(@ids::uuid[]) AND j.node = 1
UNION ALL
SELECT f.workflow_id, f.route, COALESCE(f.flags, 0)::int4, f.args FROM finished_jobs f WHERE f.workflow_id = ANY(@ids::uuid[]) AND f.node = 1;

-- name: WriteCommitRecord :exec
-- Writes WAL, so that the COMMIT of a transaction that found nothing to do
-- still waits for a synchronous standby.
SELECT pg_logical_emit_message(true, 'heddle', '');
