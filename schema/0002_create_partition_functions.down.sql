-- Takes no lock on a table. Existing partitions stay.
DROP FUNCTION heddle_ensure_partitions(date, date);
DROP FUNCTION heddle_day_bound(date);
