UPDATE redfaust.parked AS parked
SET attempts = failed.attempts,
    due_at = now() + make_interval(secs => failed.delay),
    error_type = failed.error_type,
    error = failed.error
FROM unnest($1::bigint[], $2::int[], $3::float8[], $4::text[], $5::text[])
    AS failed (id, attempts, delay, error_type, error)
WHERE parked.id = failed.id
