-- name: Fence :exec
SELECT heddle_fence(@epoch, @timeline);

-- name: Timeline :one
SELECT heddle_timeline();

-- name: FenceKey :one
SELECT lock_key FROM fence;

-- name: FenceLock :exec
SELECT pg_advisory_xact_lock(@key);

-- name: FenceState :one
SELECT cluster_id, epoch FROM fence;

-- name: SetFence :exec
UPDATE fence SET cluster_id = @cluster, epoch = @epoch;

-- name: DisownFence :execrows
UPDATE fence SET cluster_id = NULL WHERE cluster_id = @owner;

-- name: EndFenceHolders :one
SELECT heddle_end_fence_holders();

-- name: SetLockTimeout :exec
SELECT set_config('lock_timeout', @timeout::text, true);
