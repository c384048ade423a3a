-- What makes the partitions of the history. Takes SHARE UPDATE EXCLUSIVE on
-- payloads for a moment.

-- The smallest UUIDv7 of a UTC day: its milliseconds in 48 bits, then zeros.
CREATE FUNCTION heddle_day_bound(day date) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM day::timestamp AT TIME ZONE 'UTC') * 1000)::int8), 12, '0') || repeat('0', 20))::uuid
$$;

-- Creates what is missing of the partitions of the UTC days first..last and
-- tells how many tables that were. LIKE and ATTACH block no reader and no
-- writer of the history. The lock orders nodes that do the same at once; a
-- look into pg_class behind it, unlike to_regclass, whose caches an advisory
-- lock does not refresh, sees what the one before has committed.
CREATE FUNCTION heddle_ensure_partitions(first date, last date) RETURNS int4 LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    made   int4 := 0;
    locked bool := false;
    parent text;
    child  text;
    day    date := first;
BEGIN
    WHILE day <= last LOOP
        FOREACH parent IN ARRAY ARRAY['finished_jobs', 'payloads', 'attempts', 'edges'] LOOP
            child := parent || '_' || to_char(day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass(quote_ident(child)) IS NOT NULL;
            IF NOT locked THEN
                PERFORM pg_advisory_xact_lock(hashtextextended('heddle partitions ' || current_schema(), 0));
                locked := true;
            END IF;
            CONTINUE WHEN EXISTS (SELECT FROM pg_class c WHERE c.relname = child AND c.relnamespace = quote_ident(current_schema())::regnamespace);
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_freeze_min_age = 0)', child, parent);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child,
                heddle_day_bound(day), heddle_day_bound(day + 1));
            made := made + 1;
        END LOOP;
        day := day + 1;
    END LOOP;
    RETURN made;
END $$;

-- Large args and results are compressed with lz4 where the server knows it.
DO $$
BEGIN
    IF (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression') THEN
        ALTER TABLE payloads ALTER body SET COMPRESSION lz4;
    END IF;
END $$;
