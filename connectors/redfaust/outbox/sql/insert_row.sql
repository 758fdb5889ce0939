INSERT INTO redfaust.outbox (topic, key, value, headers, available_at)
VALUES ($1, $2, $3, $4, CASE WHEN $5::timestamptz > now() THEN $5::timestamptz END)
RETURNING id
