-- How the database is.

-- name: DatabaseFacts :one
SELECT current_setting('server_version')::text AS version, current_setting('max_connections')::int4 AS max_connections,
       pg_database_size(current_database())::int8 AS bytes,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datname = current_database())::int4 AS connections;

-- name: OldestTransaction :many
SELECT (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000000)::int8 AS age_us, left(COALESCE(a.query, ''), 300)::text AS what
  FROM pg_catalog.pg_stat_activity a
 WHERE a.datname = current_database() AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
 ORDER BY a.xact_start LIMIT 1;

-- name: TableSizes :many
-- Tables of this schema, partitions counted to their parent.
SELECT COALESCE(p.relname, c.relname)::text AS name, sum(pg_total_relation_size(c.oid))::int8 AS bytes, sum(greatest(c.reltuples, 0))::int8 AS rows
  FROM pg_catalog.pg_class c
  LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
  LEFT JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
 WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind = 'r'
 GROUP BY 1 ORDER BY 2 DESC, 1;
