-- Notes attempts that have failed, unless somebody has finished the event or failed more often.
INSERT INTO redfaust.inbox AS known (
    agent, event, topic, partition, position, attempts, due_at, error_type, error, failed_at
)
SELECT
    $1, event, topic, partition, position, attempts, now() + make_interval(secs => pause),
    error_type, error, now()
FROM unnest(
    $2::text[], $3::text[], $4::int[], $5::numeric[], $6::int[], $7::float8[], $8::text[], $9::text[]
) AS row (event, topic, partition, position, attempts, pause, error_type, error)
ORDER BY event
ON CONFLICT (agent, event) DO UPDATE
SET attempts = excluded.attempts,
    due_at = excluded.due_at,
    error_type = excluded.error_type,
    error = excluded.error,
    changed_at = now()
WHERE known.due_at IS NOT NULL AND known.attempts < excluded.attempts
