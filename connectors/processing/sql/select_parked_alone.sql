-- An event without a key, which is a line of its own.
SELECT id, topic, partition, position, timestamp, key, value, headers, attempts
FROM redfaust.parked
WHERE id = $1
