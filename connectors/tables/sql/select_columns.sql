-- Columns of a table, with what makes those that are generated.
SELECT
    attname AS name,
    attgenerated <> '' AS is_generated,
    col_description(attrelid, attnum) AS definition
FROM pg_catalog.pg_attribute
WHERE attrelid = pg_catalog.to_regclass($1) AND attnum > 0 AND NOT attisdropped
