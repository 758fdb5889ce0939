-- Moves the positions of partitions whose epoch is still the caller's, who counts them, and of which
-- the caller knows the last batch: a database that was set back has forgotten it.
WITH advanced AS (
    SELECT *
    FROM unnest(
        $2::text[], $3::int[], $4::bigint[], $5::uuid[], $6::numeric[], $7::jsonb[], $8::jsonb[]
    ) AS row (topic, partition, epoch, last_batch, position, ahead, applied)
),
held AS MATERIALIZED (
    SELECT held.app, held.topic, held.partition, held.epoch, held.batch
    FROM redfaust.positions AS held
    JOIN advanced USING (topic, partition)
    WHERE held.app = $1
    ORDER BY held.topic, held.partition
    FOR UPDATE OF held
)
UPDATE redfaust.positions AS kept
SET position = advanced.position,
    ahead = advanced.ahead,
    applied = advanced.applied,
    batch = $9,
    committed_at = now()
FROM held
JOIN advanced USING (topic, partition, epoch)
WHERE
    kept.app = held.app
    AND kept.topic = held.topic
    AND kept.partition = held.partition
    AND held.batch IS NOT DISTINCT FROM advanced.last_batch
