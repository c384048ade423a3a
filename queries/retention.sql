-- Removal of what has ended long ago.

-- name: PartitionTables :many
-- Tables in the shape of a day's partition, and whether they still are one:
-- attached, or on their way out.
SELECT c.relname::text AS name, (i.inhrelid IS NOT NULL AND NOT i.inhdetachpending)::bool AS attached, (i.inhrelid IS NOT NULL AND i.inhdetachpending)::bool AS leaving
  FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
 WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind = 'r'
   AND c.relname ~ '^(finished_jobs|payloads|attempts|edges)_[0-9]{8}$'
 ORDER BY c.relname;

-- name: DayPinned :one
-- Whether something of these ids must stay: an open job, or a workflow or lone
-- job that has not ended before the cutoff.
SELECT (EXISTS (SELECT FROM jobs j WHERE j.workflow_id >= @first::uuid AND j.workflow_id < @last::uuid)
     OR EXISTS (SELECT FROM workflows w WHERE w.id >= @first::uuid AND w.id < @last::uuid AND (w.state <> 2 OR w.finished_at >= @cutoff))
     OR EXISTS (SELECT FROM finished_jobs f WHERE f.workflow_id >= @first::uuid AND f.workflow_id < @last::uuid AND f.batch IS NULL AND f.finished_at >= @cutoff))::bool AS pinned;

-- name: DayOpen :one
SELECT EXISTS (SELECT FROM jobs j WHERE j.workflow_id >= @first::uuid AND j.workflow_id < @last::uuid);

-- name: CountFinished :one
SELECT count(*) FROM finished_jobs f WHERE f.workflow_id >= @first::uuid AND f.workflow_id < @last::uuid;

-- name: TakeEndedWorkflows :many
-- Locked, so that no retry and no append brings them back.
SELECT w.id FROM workflows w WHERE w.id >= @first::uuid AND w.id < @last::uuid AND w.state = 2 AND w.finished_at < @cutoff
 ORDER BY w.id LIMIT @max_rows FOR UPDATE SKIP LOCKED;

-- name: LockWorkflow :many
SELECT id, state FROM workflows WHERE id = @id FOR UPDATE;

-- name: TakeEndedLoneJobs :many
SELECT f.workflow_id FROM finished_jobs f
 WHERE f.workflow_id >= @first::uuid AND f.workflow_id < @last::uuid AND f.batch IS NULL AND f.finished_at < @cutoff
 ORDER BY f.workflow_id LIMIT @max_rows FOR UPDATE SKIP LOCKED;

-- name: RemoveBatches :exec
DELETE FROM batches WHERE workflow_id = ANY(@ids::uuid[]);

-- name: RemoveGroups :exec
DELETE FROM groups WHERE workflow_id = ANY(@ids::uuid[]);

-- name: RemoveGroupEdges :exec
DELETE FROM group_edges WHERE workflow_id = ANY(@ids::uuid[]);

-- name: RemoveGroupRanges :exec
DELETE FROM group_ranges WHERE workflow_id = ANY(@ids::uuid[]);

-- name: RemoveAppendKeys :exec
DELETE FROM append_keys WHERE workflow_id = ANY(@ids::uuid[]);

-- name: RemoveCascades :exec
DELETE FROM cascades WHERE workflow_id = ANY(@ids::uuid[]);

-- name: RemoveSignals :exec
DELETE FROM signals WHERE workflow_id = ANY(@ids::uuid[]);

-- name: RemoveAudit :exec
DELETE FROM audit WHERE workflow_id = ANY(@ids::uuid[]);

-- name: RemoveOldAudit :exec
-- What belongs to no workflow.
DELETE FROM audit WHERE workflow_id = '00000000-0000-0000-0000-000000000000' AND at < @cutoff;

-- name: RemoveAuditOfDay :exec
-- What is left of a day's lone jobs.
DELETE FROM audit WHERE workflow_id >= @first::uuid AND workflow_id < @last::uuid;

-- name: RemoveFinishedJobs :execrows
DELETE FROM finished_jobs WHERE workflow_id = ANY(@ids::uuid[]);

-- name: RemovePayloads :exec
DELETE FROM payloads WHERE workflow_id = ANY(@ids::uuid[]);

-- name: RemoveAttempts :exec
DELETE FROM attempts WHERE workflow_id = ANY(@ids::uuid[]);

-- name: RemoveEdges :exec
DELETE FROM edges WHERE workflow_id = ANY(@ids::uuid[]);
