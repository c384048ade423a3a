-- name: InsertBatches :exec
INSERT INTO batches (workflow_id, started_at, node, parent, lo, hi, need, slack, join_k, flags, total, tolerance_count, tolerance_percent, state, priority, name)
SELECT u.workflow_id, u.started_at, u.node, u.parent, u.lo, u.hi, u.need, u.slack, NULLIF(u.join_k, 0), u.flags, u.total, u.tolerance_count, u.tolerance_percent, u.state, u.priority, NULLIF(u.name, '')
  FROM (SELECT unnest(@workflow_ids::uuid[]) AS workflow_id, unnest(@started_ats::timestamptz[]) AS started_at, unnest(@nodes::int4[]) AS node, unnest(@parents::int4[]) AS parent,
               unnest(@los::int4[]) AS lo, unnest(@his::int4[]) AS hi, unnest(@needs::int4[]) AS need, unnest(@slacks::int4[]) AS slack, unnest(@join_ks::int4[]) AS join_k,
               unnest(@flags::int4[]) AS flags, unnest(@totals::int4[]) AS total, unnest(@tolerance_counts::int4[]) AS tolerance_count,
               unnest(@tolerance_percents::float8[]) AS tolerance_percent, unnest(@states::int2[]) AS state, unnest(@priorities::int2[]) AS priority, unnest(@names::text[]) AS name) u;
