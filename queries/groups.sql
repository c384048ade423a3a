-- name: InsertGroupRanges :exec
INSERT INTO group_ranges (workflow_id, los, grps, groups, merged) VALUES (@workflow_id, @los::int4[], @grps::int4[], @groups, @merged);

-- name: InsertGroups :exec
INSERT INTO groups (workflow_id, grp, batch, box, node, first_node, last_node, rank, last_rank, size, x, y, width, height, is_batch, label, kind)
SELECT u.workflow_id, u.grp, u.batch, u.box, NULLIF(u.node, 0), u.first_node, u.last_node, u.rank, u.last_rank, u.size, u.x, u.y, u.width, u.height, u.is_batch, u.label, u.kind
  FROM (SELECT unnest(@workflow_ids::uuid[]) AS workflow_id, unnest(@grps::int4[]) AS grp, unnest(@batches::int4[]) AS batch, unnest(@boxes::int4[]) AS box,
               unnest(@nodes::int4[]) AS node, unnest(@first_nodes::int4[]) AS first_node, unnest(@last_nodes::int4[]) AS last_node,
               unnest(@ranks::int4[]) AS rank, unnest(@last_ranks::int4[]) AS last_rank, unnest(@sizes::int4[]) AS size,
               unnest(@xs::float8[]) AS x, unnest(@ys::float8[]) AS y, unnest(@widths::float8[]) AS width, unnest(@heights::float8[]) AS height,
               unnest(@is_batches::bool[]) AS is_batch, unnest(@labels::text[]) AS label, unnest(@kinds::text[]) AS kind) u;

-- name: InsertGroupEdges :exec
INSERT INTO group_edges (workflow_id, from_grp, to_grp, on_set, size)
SELECT unnest(@workflow_ids::uuid[]), unnest(@from_grps::int4[]), unnest(@to_grps::int4[]), unnest(@on_sets::int2[]), unnest(@sizes::int4[]);

-- name: ListGroups :many
SELECT * FROM groups WHERE workflow_id = @workflow_id ORDER BY grp;

-- name: ListGroupEdges :many
SELECT from_grp, to_grp, on_set, size FROM group_edges WHERE workflow_id = @workflow_id ORDER BY from_grp, to_grp;

-- name: GetGroupRanges :many
SELECT * FROM group_ranges WHERE workflow_id = @workflow_id;

-- name: GroupCounts :many
-- Jobs of a workflow by range of numbers (1: from los[1] on) and by state: 1 to
-- 5 as in heddle.v1.State for open ones, of which those in @leased run;
-- 10 + outcome for ended ones.
SELECT width_bucket(j.node, @los::int4[]) AS range,
       (CASE WHEN j.state = 0 THEN 1 WHEN j.node = ANY(@leased::int4[]) THEN 4 WHEN j.run_at <= @now::timestamptz THEN 3 WHEN j.attempt = 0 THEN 2 ELSE 5 END)::int4 AS state,
       count(*) AS jobs
  FROM jobs j WHERE j.workflow_id = @workflow_id GROUP BY 1, 2
UNION ALL
SELECT width_bucket(f.node, @los::int4[]), (10 + f.outcome)::int4, count(*)
  FROM finished_jobs f WHERE f.workflow_id = @workflow_id GROUP BY 1, 2;

-- name: GroupBatchCounts :many
-- Batches of a workflow by range of numbers, state and outcome.
SELECT width_bucket(b.node, @los::int4[]) AS range, b.state, b.outcome, count(*) AS batches
  FROM batches b WHERE b.workflow_id = @workflow_id GROUP BY 1, 2, 3;

-- name: NodesOfGraph :many
-- The structure of a graph, as its cards need it. A batch has route 0.
SELECT j.node, COALESCE(j.batch, 0)::int4 AS batch, j.route, COALESCE(j.name, '')::text AS name, false AS is_batch
  FROM jobs j WHERE j.workflow_id = @workflow_id
UNION ALL
SELECT f.node, COALESCE(f.batch, 0)::int4, f.route, COALESCE(f.name, '')::text, false
  FROM finished_jobs f WHERE f.workflow_id = @workflow_id
UNION ALL
SELECT b.node, b.parent, 0::int4, COALESCE(b.name, '')::text, true
  FROM batches b WHERE b.workflow_id = @workflow_id
 LIMIT @max_rows;

-- name: EdgesOfGraph :many
SELECT parent, child, on_set FROM edges WHERE workflow_id = @workflow_id LIMIT @max_rows;
