-- The number says which key a row belongs to: JSON does not always come back as it went in.
-- LIMIT has each key looked up by itself. A join would be free to read the whole table.
SELECT asked.number, stored.value, stored.partition
FROM unnest($1::{key_array}[]) WITH ORDINALITY AS asked (key, number)
CROSS JOIN LATERAL (
    SELECT value{value_cast} AS value, partition FROM {table}
    WHERE key = asked.key::{key_type} LIMIT 1
) AS stored
