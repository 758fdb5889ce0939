-- $1 keys, $2 the partitions that they are written for.
SELECT changed.number, row.partition
FROM unnest($1::{key_array}[], $2::int[]) WITH ORDINALITY AS changed (key, partition, number)
JOIN {table} AS row ON row.key = changed.key::{key_type}
WHERE row.partition <> changed.partition
