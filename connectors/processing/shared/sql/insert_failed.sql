-- Notes attempts that have failed, unless somebody has finished the event or failed more often.
INSERT INTO redfaust.inbox AS known (agent, event, topic, partition, position, attempts, due_at)
SELECT $1, event, topic, partition, position, attempts, now() + make_interval(secs => pause)
FROM unnest($2::text[], $3::text[], $4::int[], $5::numeric[], $6::int[], $7::float8[])
    AS row (event, topic, partition, position, attempts, pause)
ORDER BY event
ON CONFLICT (agent, event) DO UPDATE
SET attempts = excluded.attempts,
    due_at = excluded.due_at,
    changed_at = now()
WHERE known.due_at IS NOT NULL AND known.attempts < excluded.attempts
