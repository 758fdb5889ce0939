-- $1 schema, $2 table, $3 columns, $4 indexes: what of them is not there. Names are as long as Postgres
-- lets them be. The catalog tells it to every role.
WITH wanted AS (
    SELECT
        namespace.oid AS schema_id,
        (
            SELECT oid
            FROM pg_catalog.pg_class
            WHERE relnamespace = namespace.oid AND relname = $2::text::name
        ) AS table_id
    FROM (SELECT $1::text::name AS name) AS given
    LEFT JOIN pg_catalog.pg_namespace AS namespace ON namespace.nspname = given.name
)
SELECT
    schema_id IS NULL AS lacks_schema,
    table_id IS NULL AS lacks_table,
    ARRAY(
        SELECT name
        FROM unnest($3::text[]) WITH ORDINALITY AS column_wanted (name, place)
        WHERE NOT EXISTS (
            SELECT
            FROM pg_catalog.pg_attribute
            WHERE attrelid = table_id AND attname = name::name AND NOT attisdropped
        )
        ORDER BY place
    ) AS columns,
    ARRAY(
        SELECT name
        FROM unnest($4::text[]) WITH ORDINALITY AS index_wanted (name, place)
        WHERE NOT EXISTS (
            SELECT
            FROM pg_catalog.pg_class
            WHERE relnamespace = schema_id AND relname = name::name
        )
        ORDER BY place
    ) AS indexes
FROM wanted
