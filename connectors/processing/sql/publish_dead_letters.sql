INSERT INTO redfaust.outbox (topic, key, value, headers)
SELECT
    topic,
    key,
    CASE WHEN $2::boolean THEN $3::bytea ELSE value END,
    headers || jsonb_build_array(
        jsonb_build_array($4::text, encode(convert_to(id::text, 'UTF8'), 'base64'))
    )
FROM redfaust.dead_letters
WHERE id = ANY($1::bigint[])
ORDER BY id
