-- name: EnsurePartitions :one
SELECT heddle_ensure_partitions(@first::date, @last::date);

-- name: DatabaseNow :one
SELECT clock_timestamp()::timestamptz;
