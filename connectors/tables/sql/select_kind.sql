-- 'r' for a table, and NULL where there is nothing of that name.
SELECT relkind::text FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1)
