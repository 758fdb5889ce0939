SELECT id, lane, number, topic, key, value, headers
FROM redfaust.outbox
WHERE lane IS NOT NULL
ORDER BY lane, number
LIMIT $1
