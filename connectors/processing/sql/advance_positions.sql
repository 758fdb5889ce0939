-- Moves the positions of partitions whose epoch is still the caller's, who counts them.
WITH advanced AS (
    SELECT *
    FROM unnest($2::text[], $3::int[], $4::bigint[], $5::numeric[], $6::jsonb[], $7::jsonb[])
        AS row (topic, partition, epoch, position, ahead, applied)
),
held AS MATERIALIZED (
    SELECT held.app, held.topic, held.partition, held.epoch
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
    batch = $8,
    committed_at = now()
FROM held
JOIN advanced USING (topic, partition, epoch)
WHERE kept.app = held.app AND kept.topic = held.topic AND kept.partition = held.partition
