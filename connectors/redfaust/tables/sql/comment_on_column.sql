-- By which the column is known at the next start: Postgres writes expressions in its own way.
COMMENT ON COLUMN {table}.{column} IS {definition}
