INSERT INTO {table} (key, value, partition)
SELECT key::{key_type}, value::{value_type}, partition
FROM unnest($1::{key_array}[], $2::{value_array}[], $3::int[]) AS changed (key, value, partition)
ON CONFLICT (key) DO UPDATE
SET value = excluded.value, partition = excluded.partition, updated_at = now()
