-- name: AddMinutes :exec
INSERT INTO stats_minutely (minute, route, succeeded, failed, cancelled, retried, run_us, wait_us)
SELECT u.minute, u.route, u.succeeded, u.failed, u.cancelled, u.retried, u.run_us, u.wait_us
  FROM (SELECT unnest(@minutes::timestamptz[]) AS minute, unnest(@routes::int4[]) AS route, unnest(@succeeded::int8[]) AS succeeded, unnest(@failed::int8[]) AS failed,
               unnest(@cancelled::int8[]) AS cancelled, unnest(@retried::int8[]) AS retried, unnest(@run_us::int8[]) AS run_us, unnest(@wait_us::int8[]) AS wait_us) u
 ORDER BY u.minute, u.route
ON CONFLICT (minute, route) DO UPDATE
   SET succeeded = stats_minutely.succeeded + excluded.succeeded, failed = stats_minutely.failed + excluded.failed,
       cancelled = stats_minutely.cancelled + excluded.cancelled, retried = stats_minutely.retried + excluded.retried,
       run_us = stats_minutely.run_us + excluded.run_us, wait_us = stats_minutely.wait_us + excluded.wait_us;

-- name: SumMinutes :many
-- Sums by point, a point being @width seconds wide, from @from_at on.
SELECT (floor(extract(epoch FROM m.minute - @from_at::timestamptz) / @width::int4))::int4 AS point, sum(m.succeeded)::int8 AS succeeded, sum(m.failed)::int8 AS failed,
       sum(m.cancelled)::int8 AS cancelled, sum(m.retried)::int8 AS retried, sum(m.run_us)::int8 AS run_us, sum(m.wait_us)::int8 AS wait_us
  FROM stats_minutely m
 WHERE m.minute >= @from_at::timestamptz AND m.minute < @to_at::timestamptz AND (@any_route::bool OR m.route = ANY(@routes::int4[]))
 GROUP BY 1 ORDER BY 1;

-- name: RemoveMinutes :execrows
DELETE FROM stats_minutely WHERE minute < @before;

-- name: EndedByRoute :many
-- Jobs ended, by route, in the minute before this one and in this one so far.
SELECT m.route, sum(m.succeeded + m.failed + m.cancelled)::int8 AS jobs
  FROM stats_minutely m
 WHERE m.minute >= date_trunc('minute', @now::timestamptz) - interval '1 minute'
 GROUP BY m.route;
