UPDATE {table} AS row
SET partition = moved.partition
FROM unnest($1::{key_array}[], $2::int[]) AS moved (key, partition)
WHERE row.key = moved.key::{key_type}
