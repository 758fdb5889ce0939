-- Notes below which positions an agent has finished everything. None moves back, unless the log is
-- another one: it ends before the position, or is another broker's.
INSERT INTO redfaust.shared_floors AS known (agent, log, topic, partition, position)
SELECT $1, $2, topic, partition, floor
FROM unnest($3::text[], $4::int[], $5::numeric[]) AS row (topic, partition, floor)
-- Everybody locks in the same order, so that no two wait for each other.
ORDER BY topic, partition
ON CONFLICT (agent, topic, partition) DO UPDATE
SET log = excluded.log,
    position = excluded.position
WHERE known.log <> excluded.log
    OR known.position < excluded.position
    OR known.position > (
        SELECT log_end
        FROM unnest($3::text[], $4::int[], $6::numeric[]) AS ends (topic, partition, log_end)
        WHERE ends.topic = known.topic AND ends.partition = known.partition
    )
