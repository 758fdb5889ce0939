-- As insert_row, of a topic that may be published to.
INSERT INTO redfaust.outbox (topic, key, value, headers, available_at)
SELECT
    $1::text,
    $2::bytea,
    $3::bytea,
    $4::jsonb,
    CASE WHEN $5::timestamptz > now() THEN $5::timestamptz END
FROM redfaust.check_topic($1)
RETURNING id
