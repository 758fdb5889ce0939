-- Two workers that start at once would otherwise both try to create the table.
SELECT pg_advisory_xact_lock($1)
