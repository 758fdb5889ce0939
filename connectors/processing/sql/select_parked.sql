-- The first events of a line from this id on. Of an event without a key the id is known.
SELECT id, topic, partition, position, timestamp, key, value, headers, attempts
FROM redfaust.parked
WHERE app = $1 AND agent = $2 AND topic = $3 AND partition = $4 AND id >= $6
    AND CASE WHEN $5::bytea IS NULL THEN id = $6 ELSE key = $5 END
ORDER BY id
LIMIT $7
