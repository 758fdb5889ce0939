-- Events without a key, each of which is a line of its own.
SELECT id, topic, partition, position, timestamp, key, value, headers, attempts
FROM redfaust.parked
WHERE id = ANY ($1::bigint[])
