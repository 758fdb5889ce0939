-- $1 transactional ids, as applications of this database name them.
INSERT INTO redfaust.producers AS producer (producer_id, transactional_id)
SELECT
    left(replace(gen_random_uuid()::text, '-', ''), 16),
    -- The timeline is another one behind each promotion and each restore.
    control.system_identifier || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
    || '/' || database.oid || '/' || wanted.name
FROM
    unnest($1::text[]) AS wanted (name),
    pg_control_system() AS control,
    pg_database AS database
WHERE database.datname = current_database()
-- Every worker in the same order, or two would wait for each other.
ORDER BY wanted.name
-- Changes nothing, but returns the producer that is there.
ON CONFLICT (transactional_id) DO UPDATE SET transactional_id = excluded.transactional_id
RETURNING
    producer.producer_id,
    regexp_replace(producer.transactional_id, '^[^/]*/[^/]*/', '') AS transactional_id
