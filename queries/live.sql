-- What the page shows all the time. Every count is bounded, and reads the newest
-- entries of an index first: behind them lie those of jobs that are gone.

-- name: ReadyCounts :one
-- Released jobs by stream, the last stream first, at most @most_streams of them;
-- due ones and later ones are counted up to @max_rows each. Leased jobs are due.
WITH RECURSIVE streams AS (
    (SELECT j.route, j.key, j.priority FROM jobs j WHERE j.state = 1 ORDER BY j.route DESC, j.key DESC, j.priority DESC LIMIT 1)
    UNION ALL
    SELECT n.route, n.key, n.priority FROM streams s CROSS JOIN LATERAL (
        SELECT j.route, j.key, j.priority FROM jobs j
         WHERE j.state = 1 AND (j.route, j.key, j.priority) < (s.route, s.key, s.priority)
         ORDER BY j.route DESC, j.key DESC, j.priority DESC LIMIT 1) n
), known AS MATERIALIZED (SELECT * FROM streams LIMIT @most_streams)
SELECT (SELECT count(*) FROM known) AS streams,
       (SELECT count(*) FROM (
            SELECT FROM known s CROSS JOIN LATERAL (
                SELECT FROM jobs j WHERE j.state = 1 AND j.route = s.route AND j.key = s.key AND j.priority = s.priority AND j.run_at <= @now::timestamptz
                 ORDER BY j.run_at DESC, j.workflow_id DESC, j.node DESC LIMIT @max_rows::int4) d
             LIMIT @max_rows::int4) x) AS due,
       y.scheduled, y.retryable
  FROM (SELECT count(*) FILTER (WHERE l.attempt = 0) AS scheduled, count(*) FILTER (WHERE l.attempt > 0) AS retryable
          FROM (SELECT l.attempt FROM known s CROSS JOIN LATERAL (
                    SELECT j.attempt FROM jobs j
                     WHERE j.state = 1 AND j.route = s.route AND j.key = s.key AND j.priority = s.priority AND j.run_at > @now::timestamptz
                     ORDER BY j.run_at DESC, j.workflow_id DESC, j.node DESC LIMIT @max_rows::int4) l
                 LIMIT @max_rows::int4) l) y;

-- name: GraphCounts :one
-- Running workflows, the newest first, with their blocked jobs and running
-- batches; @rows bounds what is read of either.
WITH w AS MATERIALIZED (SELECT id FROM workflows WHERE state = 1 ORDER BY id DESC LIMIT @max_rows::int4)
SELECT (SELECT count(*) FROM w) AS workflows, j.blocked, j.jobs_read, b.running, b.batches_read
  FROM (SELECT count(*) FILTER (WHERE x.state = 0) AS blocked, count(*) AS jobs_read
          FROM (SELECT j.state FROM w CROSS JOIN LATERAL (SELECT i.state FROM jobs i WHERE i.workflow_id = w.id LIMIT @rows::int4) j LIMIT @rows::int4) x) j,
       (SELECT count(*) FILTER (WHERE x.state = 1) AS running, count(*) AS batches_read
          FROM (SELECT b.state FROM w CROSS JOIN LATERAL (SELECT i.state FROM batches i WHERE i.workflow_id = w.id LIMIT @rows::int4) b LIMIT @rows::int4) x) b;

-- name: OtherCounts :one
-- What ended since in another way than success, and all failed jobs there are,
-- each counted up to @max_rows.
SELECT (SELECT count(*) FROM (SELECT FROM finished_jobs WHERE outcome = 2 AND outcome <> 1 AND finished_at >= @since::timestamptz LIMIT @max_rows::int4) x) AS failed,
       (SELECT count(*) FROM (SELECT FROM finished_jobs WHERE outcome = 4 AND outcome <> 1 AND finished_at >= @since::timestamptz LIMIT @max_rows::int4) x) AS cancelled,
       (SELECT count(*) FROM (SELECT FROM finished_jobs WHERE outcome = 8 AND outcome <> 1 AND finished_at >= @since::timestamptz LIMIT @max_rows::int4) x) AS skipped,
       (SELECT count(*) FROM (SELECT FROM finished_jobs WHERE outcome = 2 AND outcome <> 1 LIMIT @max_rows::int4) x) AS unresolved;

-- name: FailedErrors :many
-- Errors of failed jobs, the latest first.
SELECT f.workflow_id, f.node, f.route, f.finished_at, left(COALESCE(f.error, ''), 1000)::text AS error
  FROM finished_jobs f
 WHERE f.outcome = 2 AND f.outcome <> 1 AND (f.finished_at, f.workflow_id, f.node) < (@finished_at::timestamptz, @workflow_id::uuid, @node::int4)
   AND (@any_route::bool OR f.route = ANY(@routes::int4[]))
 ORDER BY f.finished_at DESC, f.workflow_id DESC, f.node DESC LIMIT @max_rows;
