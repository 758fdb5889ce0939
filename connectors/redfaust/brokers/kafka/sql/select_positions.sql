SELECT topic, partition, position
FROM redfaust.kafka_groups
JOIN unnest($3::text[], $4::int[]) AS wanted (topic, partition) USING (topic, partition)
WHERE log = $1 AND name = $2
