-- Where the last group stands in each partition.
SELECT topic, partition, min(position)
FROM redfaust.kafka_groups
JOIN unnest($2::text[], $3::int[]) AS wanted (topic, partition) USING (topic, partition)
WHERE log = $1
GROUP BY topic, partition
