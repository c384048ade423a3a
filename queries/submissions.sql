-- name: TakeSubmissions :many
-- Submissions that no other node is importing, the oldest first. Their parts
-- were committed together.
SELECT workflow_id, created_at FROM submissions WHERE part = 0
 ORDER BY created_at, workflow_id LIMIT @max_rows FOR UPDATE SKIP LOCKED;

-- name: SubmissionParts :many
SELECT parts, body FROM submissions WHERE workflow_id = @workflow_id ORDER BY part;

-- name: RemoveSubmissions :exec
DELETE FROM submissions WHERE workflow_id = ANY(@ids::uuid[]);
