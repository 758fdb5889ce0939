INSERT INTO redfaust.outbox (topic, partition, key, value, headers, timestamp)
SELECT topic, partition, key, value, headers::jsonb, timestamp
FROM unnest($1::text[], $2::int[], $3::bytea[], $4::bytea[], $5::text[], $6::float8[])
    WITH ORDINALITY AS row (topic, partition, key, value, headers, timestamp, place)
ORDER BY place
