-- name: InsertPayloads :exec
INSERT INTO payloads (workflow_id, node, slot, body)
SELECT unnest(@workflow_ids::uuid[]), unnest(@nodes::int4[]), unnest(@slots::int2[]), unnest(@bodies::bytea[]);

-- name: ReadPayloads :many
SELECT p.workflow_id, p.node, p.body
  FROM (SELECT unnest(@workflow_ids::uuid[]) AS workflow_id, unnest(@nodes::int4[]) AS node) u
  JOIN payloads p ON p.workflow_id = u.workflow_id AND p.node = u.node AND p.slot = @slot::int2;
