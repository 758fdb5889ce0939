-- $1 schema, $2 table: its columns, with what makes those that are generated.
SELECT
    attname AS name,
    attgenerated <> '' AS is_generated,
    col_description(attrelid, attnum) AS definition
FROM pg_catalog.pg_attribute
JOIN pg_catalog.pg_class AS class ON class.oid = attrelid
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE
    namespace.nspname = $1::text::name
    AND class.relname = $2::text::name
    AND attnum > 0
    AND NOT attisdropped
