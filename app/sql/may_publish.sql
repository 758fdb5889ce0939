-- Whether this role may insert into the outbox; no row where there is none.
SELECT
    has_schema_privilege(namespace.oid, 'USAGE')
    AND has_table_privilege(class.oid, 'INSERT')
FROM pg_catalog.pg_class AS class
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = 'redfaust' AND class.relname = 'outbox'
