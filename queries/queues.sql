-- name: ListQueues :many
SELECT q.name, (p.paused_at IS NOT NULL)::bool AS paused
  FROM (SELECT DISTINCT queue AS name FROM routes UNION SELECT queues.name FROM queues) q
  LEFT JOIN queues p ON p.name = q.name
 ORDER BY q.name;

-- name: QueueWaiting :one
-- Due jobs of one route, counted up to @max_rows, and the due time of the oldest.
SELECT count(*) AS jobs, min(w.run_at)::timestamptz AS oldest
  FROM (SELECT j.run_at FROM jobs j WHERE j.state = 1 AND j.route = @route AND j.run_at <= @now::timestamptz LIMIT @max_rows) w;

-- name: PauseQueue :exec
INSERT INTO queues (name, paused_at) VALUES (@name, now())
ON CONFLICT (name) DO UPDATE SET paused_at = COALESCE(queues.paused_at, now());

-- name: ResumeQueue :exec
UPDATE queues SET paused_at = NULL WHERE name = @name;

-- name: QueuePaused :one
SELECT EXISTS (SELECT FROM queues WHERE name = @name AND paused_at IS NOT NULL);
