-- Each argument is one text of all rows' keys, values, partitions.
INSERT INTO {table} (key, value, partition)
SELECT key::{key_type}, value::{value_type}, partition::int
FROM ROWS FROM ({keys}, {values}, {partitions}) AS changed (key, value, partition)
ON CONFLICT (key) DO UPDATE
SET value = excluded.value, partition = excluded.partition, updated_at = now()
