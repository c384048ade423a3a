-- name: InsertEdges :exec
INSERT INTO edges (workflow_id, parent, child, on_set)
SELECT unnest(@workflow_ids::uuid[]), unnest(@parents::int4[]), unnest(@children::int4[]), unnest(@on_sets::int2[]);

-- name: EdgesAmong :many
-- The edges whose child is one of these nodes.
SELECT parent, child, on_set FROM edges WHERE workflow_id = @workflow_id AND child = ANY(@children::int4[]) ORDER BY child, parent LIMIT @max_rows;
