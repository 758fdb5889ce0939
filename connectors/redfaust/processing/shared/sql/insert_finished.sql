-- Notes events as finished, and returns those that were not. Who comes second waits here until the
-- first has committed.
INSERT INTO redfaust.inbox AS known (agent, event, topic, partition, position)
SELECT $1, event, topic, partition, position
FROM unnest($2::text[], $3::text[], $4::int[], $5::numeric[])
    AS row (event, topic, partition, position)
-- Everybody locks in the same order, so that no two wait for each other.
ORDER BY event
ON CONFLICT (agent, event) DO UPDATE
SET due_at = NULL,
    changed_at = now()
WHERE known.due_at IS NOT NULL
RETURNING event
