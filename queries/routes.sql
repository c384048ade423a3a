-- name: ListRoutes :many
SELECT id, queue, kind FROM routes ORDER BY id;

-- name: InsertRoutes :exec
INSERT INTO routes (queue, kind)
SELECT u.queue, u.kind FROM (SELECT unnest(@queues::text[]) AS queue, unnest(@kinds::text[]) AS kind) u
ON CONFLICT DO NOTHING;

-- name: FindRoutes :many
SELECT r.id, r.queue, r.kind
  FROM (SELECT unnest(@queues::text[]) AS queue, unnest(@kinds::text[]) AS kind) u
  JOIN routes r ON r.queue = u.queue AND r.kind = u.kind;
