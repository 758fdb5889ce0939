-- Postgres breaks base64 into lines, which nobody else expects.
INSERT INTO redfaust.outbox (topic, key, value, headers)
SELECT
    letter.topic,
    letter.key,
    CASE WHEN $2::boolean THEN $3::bytea ELSE letter.value END,
    letter.headers || (
        SELECT jsonb_agg(
            jsonb_build_array(
                name, replace(encode(convert_to(text, 'UTF8'), 'base64'), E'\n', '')
            )
        )
        FROM (
            VALUES ($4::text, letter.id::text), ($5::text, letter.app || '/' || letter.agent)
        ) AS header (name, text)
        WHERE text IS NOT NULL
    )
FROM redfaust.dead_letters AS letter
WHERE letter.id = ANY($1::bigint[])
ORDER BY letter.id
