-- $1 transactional_ids, as applications of this database name them.
INSERT INTO redfaust.producers AS producer_id (producer_id, transactional_id)
SELECT
    left(replace(gen_random_uuid()::text, '-', ''), 16),
    -- The timeline is another one behind each promotion and each restore.
    control.system_identifier || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
    || '/' || database.oid || '/' || transactional_id.name
FROM
    unnest($1::text[]) AS transactional_id (name),
    pg_control_system() AS control,
    pg_database AS database
WHERE database.datname = current_database()
-- Every worker in the same order, or two would wait for each other.
ORDER BY transactional_id.name
-- Changes nothing, but returns the producer that is there.
ON CONFLICT (transactional_id) DO UPDATE SET transactional_id = excluded.transactional_id
RETURNING producer_id.producer_id, regexp_replace(producer_id.transactional_id, '^[^/]*/[^/]*/', '') AS transactional_id
