-- Each argument is one text of all rows' keys, values, partitions. A row that lies in another
-- partition stays as it is, whoever believes to own it: then fewer rows are affected.
INSERT INTO {table} AS row (key, value, partition)
SELECT key::{key_type}, value::{value_type}, partition::int
FROM ROWS FROM ({keys}, {values}, {partitions}) AS changed (key, value, partition)
ON CONFLICT (key) DO UPDATE
SET value = excluded.value, updated_at = now()
WHERE row.partition = excluded.partition
