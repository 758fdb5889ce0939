-- $1 producers, as applications of this database name them.
INSERT INTO redfaust.lanes AS lane (lane, producer)
SELECT
    left(replace(gen_random_uuid()::text, '-', ''), 16),
    -- The timeline is another one behind each promotion and each restore.
    control.system_identifier || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
    || '/' || database.oid || '/' || producer.name
FROM
    unnest($1::text[]) AS producer (name),
    pg_control_system() AS control,
    pg_database AS database
WHERE database.datname = current_database()
-- Every worker in the same order, or two would wait for each other.
ORDER BY producer.name
-- Changes nothing, but returns the lane that is there.
ON CONFLICT (producer) DO UPDATE SET producer = excluded.producer
RETURNING lane.lane, regexp_replace(lane.producer, '^[^/]*/[^/]*/', '') AS producer
