-- Who has taken these partitions last, and what was committed of them last.
SELECT topic, partition, epoch, batch
FROM redfaust.positions
JOIN unnest($2::text[], $3::int[]) AS asked (topic, partition) USING (topic, partition)
WHERE app = $1
