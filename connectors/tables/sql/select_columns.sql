-- The columns of a table: name, type, and the expression of those that are generated.
SELECT
    column_.attname,
    format_type(column_.atttypid, column_.atttypmod) AS sql_type,
    CASE
        WHEN column_.attgenerated <> '' THEN pg_get_expr(definition.adbin, definition.adrelid)
    END AS expression
FROM pg_attribute AS column_
LEFT JOIN
    pg_attrdef AS definition
    ON definition.adrelid = column_.attrelid AND definition.adnum = column_.attnum
WHERE column_.attrelid = to_regclass($1) AND column_.attnum > 0 AND NOT column_.attisdropped
