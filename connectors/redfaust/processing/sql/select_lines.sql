-- The lines of these partitions. An event without a key is a line of its own.
SELECT
    topic,
    partition,
    agent,
    key,
    min(id) AS first_id,
    count(*) AS length,
    extract(epoch FROM (array_agg(due_at ORDER BY id))[1] - now())::float8 AS due_in
FROM redfaust.parked
JOIN unnest($2::text[], $3::int[]) AS taken (topic, partition) USING (topic, partition)
WHERE app = $1
GROUP BY topic, partition, agent, key, CASE WHEN key IS NULL THEN id END
