-- Gives a group positions where it has none.
INSERT INTO redfaust.kafka_groups (log, name, topic, partition, position)
SELECT $1, $2, topic, partition, position
FROM unnest($3::text[], $4::int[], $5::bigint[]) AS row (topic, partition, position)
ORDER BY topic, partition
ON CONFLICT (log, name, topic, partition) DO NOTHING
