-- Things done to many jobs.

-- name: AddOperation :exec
INSERT INTO operations (id, created_at, total, more, request, author, finished_at)
VALUES (@id, @created_at, @total, @more, @request, @author, CASE WHEN @empty::bool THEN @created_at::timestamptz END)
ON CONFLICT (id) DO NOTHING;

-- name: GetOperation :many
SELECT * FROM operations WHERE id = @id;

-- name: ListOperations :many
-- Newest first.
SELECT * FROM operations WHERE id < @before ORDER BY id DESC LIMIT @max_rows;

-- name: ListRunningOperations :many
SELECT * FROM operations WHERE finished_at IS NULL AND id < @before ORDER BY id DESC LIMIT @max_rows;

-- name: OldestOperations :many
SELECT * FROM operations WHERE finished_at IS NULL ORDER BY id LIMIT @max_rows;

-- name: StopOperation :execrows
UPDATE operations SET stop = true, stopped_by = coalesce(stopped_by, @author) WHERE id = @id AND finished_at IS NULL;

-- name: AdvanceOperation :exec
-- The first fault is kept.
UPDATE operations
   SET done = done + @looked_at, changed = changed + @changed, passed_over = passed_over + @passed_over, failed = failed + @failed,
       error = coalesce(error, nullif(@fault::text, '')), cursor = @cursor, finished_at = CASE WHEN @finished::bool THEN now() END
 WHERE id = @id;

-- name: RemoveOperations :exec
DELETE FROM operations WHERE finished_at < @cutoff;

-- name: BegunSince :many
-- Which of these open jobs came into their state after a time: an attempt of
-- theirs ended after it (@attempts); what released them ended, or their batch
-- was started after it (@releases).
SELECT (r.ord)::int4 AS ord
  FROM (SELECT unnest(@ords::int4[]) AS ord, unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r
  JOIN jobs j ON j.workflow_id = r.id AND j.node = r.node
 WHERE @attempts::bool AND EXISTS (SELECT FROM attempts a WHERE a.workflow_id = r.id AND a.node = r.node AND a.finished_at > @at::timestamptz)
    OR @releases::bool AND (
       EXISTS (SELECT FROM finished_jobs f WHERE f.workflow_id = r.id AND f.node = j.released_by AND f.finished_at > @at::timestamptz)
    OR EXISTS (SELECT FROM batches b WHERE b.workflow_id = r.id AND b.node = j.released_by AND b.finished_at > @at::timestamptz)
    OR EXISTS (SELECT FROM batches b WHERE b.workflow_id = r.id AND b.node = j.batch AND b.started_at > @at::timestamptz));

-- Makes released jobs due. A wait in the queue begins anew; a deadline that
-- counts from the planned start counts from now, and never ends later (T3). The
-- turn rises, so that nobody takes the row of before for this one.
-- name: RunJobsNow :many
UPDATE jobs j
   SET run_at = now(), turn = j.turn + 1,
       deadline_at = CASE WHEN r.deadline > 0 THEN least(j.deadline_at, now() + r.deadline * interval '1 microsecond') ELSE j.deadline_at END,
       expires_at = least(CASE WHEN r.wait > 0 THEN now() + r.wait * interval '1 microsecond' END,
                          CASE WHEN r.deadline > 0 THEN least(j.deadline_at, now() + r.deadline * interval '1 microsecond') ELSE j.deadline_at END)
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@waits::int8[]) AS wait, unnest(@deadlines::int8[]) AS deadline) r
 WHERE j.workflow_id = r.id AND j.node = r.node AND j.state + 0 = 1 AND j.run_at > now()
RETURNING 0::int4 AS ord, j.workflow_id, j.node, j.route, j.key, j.priority, j.run_at, j.expires_at, j.deadline_at, j.turn, j.attempt,
          j.losses, j.max_attempts, j.batch, j.flags, j.name, j.args, j.opts;

-- What was done to nodes of one or many workflows.
-- name: AddAudits :exec
INSERT INTO audit (workflow_id, node, action, note, author)
SELECT r.id, r.node, @action, nullif(@note::text, ''), nullif(@author::text, '')
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r;
