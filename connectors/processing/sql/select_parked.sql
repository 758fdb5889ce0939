-- The first events of a key's line from this id on.
SELECT id, topic, partition, position, timestamp, key, value, headers, attempts
FROM redfaust.parked
WHERE app = $1 AND agent = $2 AND topic = $3 AND partition = $4 AND key = $5 AND id >= $6
ORDER BY id
LIMIT $7
