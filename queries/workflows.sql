-- name: InsertWorkflows :exec
INSERT INTO workflows (id, created_at, next_node, flags, total, tolerance_count, tolerance_percent, state, priority, name, digest, headers)
SELECT u.id, u.created_at, u.next_node, u.flags, u.total, u.tolerance_count, u.tolerance_percent, 1, u.priority, NULLIF(u.name, ''), u.digest, u.headers
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@created_ats::timestamptz[]) AS created_at, unnest(@next_nodes::int4[]) AS next_node, unnest(@flags::int4[]) AS flags,
               unnest(@totals::int4[]) AS total, unnest(@tolerance_counts::int4[]) AS tolerance_count, unnest(@tolerance_percents::float8[]) AS tolerance_percent,
               unnest(@priorities::int2[]) AS priority, unnest(@names::text[]) AS name, unnest(@digests::bytea[]) AS digest, unnest(@headers::bytea[]) AS headers) u;

-- name: InsertNewWorkflows :many
-- As InsertWorkflows, but leaves what is there alone and tells what was inserted.
INSERT INTO workflows (id, created_at, next_node, flags, total, tolerance_count, tolerance_percent, state, priority, name, digest, headers)
SELECT u.id, u.created_at, u.next_node, u.flags, u.total, u.tolerance_count, u.tolerance_percent, 1, u.priority, NULLIF(u.name, ''), u.digest, u.headers
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@created_ats::timestamptz[]) AS created_at, unnest(@next_nodes::int4[]) AS next_node, unnest(@flags::int4[]) AS flags,
               unnest(@totals::int4[]) AS total, unnest(@tolerance_counts::int4[]) AS tolerance_count, unnest(@tolerance_percents::float8[]) AS tolerance_percent,
               unnest(@priorities::int2[]) AS priority, unnest(@names::text[]) AS name, unnest(@digests::bytea[]) AS digest, unnest(@headers::bytea[]) AS headers) u
ON CONFLICT DO NOTHING
RETURNING id;

-- name: WorkflowDigests :many
SELECT id, digest FROM workflows WHERE id = ANY(@ids::uuid[]);

-- name: CompleteWorkflow :exec
-- What a streamed submission knows only at its end.
UPDATE workflows SET next_node = @next_node, total = @total, digest = @digest WHERE id = @id;

-- name: RemoveWorkflows :exec
DELETE FROM workflows WHERE id = ANY(@ids::uuid[]);
