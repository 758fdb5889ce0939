INSERT INTO redfaust.parked (
    app, agent, topic, partition, position, timestamp, key, value, headers,
    attempts, due_at, error_type, error
)
SELECT
    $1, agent, topic, partition, position, timestamp, key, value, headers::jsonb,
    attempts, now() + make_interval(secs => delay), error_type, error
FROM unnest(
    $2::text[], $3::text[], $4::int[], $5::numeric[], $6::float8[], $7::bytea[], $8::bytea[],
    $9::text[], $10::int[], $11::float8[], $12::text[], $13::text[]
) WITH ORDINALITY AS row (
    agent, topic, partition, position, timestamp, key, value, headers,
    attempts, delay, error_type, error, place
)
ORDER BY place
RETURNING id
