-- name: LastErrors :many
-- Errors of the latest attempts of jobs.
SELECT (u.ord)::int4 AS ord, COALESCE(a.error, '')::text AS error
  FROM (SELECT unnest(@ords::int4[]) AS ord, unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node) u
 CROSS JOIN LATERAL (SELECT i.error FROM attempts i WHERE i.workflow_id = u.id AND i.node = u.node ORDER BY i.turn DESC LIMIT 1) a;

-- Attempts of these turns, to tell a repeated flush from a stale report.
-- name: FindAttempts :many
SELECT (r.ord)::int4 AS ord, a.how
  FROM (SELECT unnest(@ords::int4[]) AS ord, unnest(@ids::uuid[]) AS id, unnest(@nodes::int4[]) AS node, unnest(@turns::int4[]) AS turn) r
  JOIN attempts a ON a.workflow_id = r.id AND a.node = r.node AND a.turn = r.turn;
