-- $1 keys, $2 their partitions. Returns those that lie in another partition, and so are not deleted.
WITH gone AS (
    SELECT key::{key_type} AS key, partition, number
    FROM unnest($1::{key_array}[], $2::int[]) WITH ORDINALITY AS gone (key, partition, number)
),
deleted AS (
    DELETE FROM {table} AS row
    USING gone
    WHERE row.key = gone.key AND row.partition = gone.partition
)
SELECT gone.number, row.partition
FROM gone
JOIN {table} AS row ON row.key = gone.key
WHERE row.partition <> gone.partition
