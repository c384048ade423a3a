-- name: PutCascades :exec
INSERT INTO cascades (workflow_id, node, kind, cursor)
SELECT r.id, r.node, r.kind, r.cursor
  FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@kinds::int2[]) AS kind, unnest(@cursors::int4[]) AS cursor) r
ON CONFLICT (workflow_id, node) DO UPDATE SET kind = excluded.kind, cursor = excluded.cursor, created_at = now();

-- name: DropCascades :exec
DELETE FROM cascades c USING (SELECT unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) r
 WHERE c.workflow_id = r.id AND c.node = r.node;

-- The cascade that waits longest.
-- name: OldestCascade :one
SELECT workflow_id, node FROM cascades ORDER BY created_at, workflow_id, node LIMIT 1;

-- name: Cascade :one
SELECT kind, cursor FROM cascades WHERE workflow_id = @id AND node = @node;

-- name: MoveCascade :exec
UPDATE cascades SET cursor = @cursor WHERE workflow_id = @id AND node = @node;

-- The next direct members of a batch that have not ended.
-- name: OpenMembers :many
SELECT m.node FROM (
    (SELECT j.node FROM jobs j
      WHERE j.workflow_id = @id AND j.node BETWEEN @low AND @high AND j.batch = @batch::int4
      ORDER BY j.node LIMIT @lim)
    UNION ALL
    (SELECT b.node FROM batches b
      WHERE b.workflow_id = @id AND b.node BETWEEN @low AND @high AND b.parent = @batch::int4 AND b.state <> 2
      ORDER BY b.node LIMIT @lim)
) m ORDER BY m.node LIMIT @lim;
