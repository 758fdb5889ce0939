-- $1 schema, $2 table, $3 indexes: what of them is not there. The kind is 'r' for a table, and NULL
-- where there is nothing of that name. The catalog tells it to every role.
SELECT
    namespace.oid IS NULL AS lacks_schema,
    there.relkind::text AS kind,
    ARRAY(
        SELECT name
        FROM unnest($3::text[]) WITH ORDINALITY AS index_wanted (name, place)
        WHERE NOT EXISTS (
            SELECT
            FROM pg_catalog.pg_class
            WHERE relnamespace = namespace.oid AND relname = name::name
        )
        ORDER BY place
    ) AS indexes
FROM (SELECT $1::text::name AS name) AS given
LEFT JOIN pg_catalog.pg_namespace AS namespace ON namespace.nspname = given.name
LEFT JOIN pg_catalog.pg_class AS there
    ON there.relnamespace = namespace.oid AND there.relname = $2::text::name
