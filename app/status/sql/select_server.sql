-- What this session may do. The outbox may not be there yet.
SELECT
    current_user::text AS role,
    current_setting('transaction_read_only') = 'on' AS is_read_only,
    pg_is_in_recovery() AS is_standby,
    coalesce(
        (
            SELECT has_schema_privilege(schema.oid, 'USAGE')
                AND has_table_privilege(outbox.oid, 'INSERT')
            FROM pg_class AS outbox
            JOIN pg_namespace AS schema ON schema.oid = outbox.relnamespace
            WHERE schema.nspname = 'redfaust' AND outbox.relname = 'outbox'
        ),
        true
    ) AS may_publish
