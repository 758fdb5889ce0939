INSERT INTO redfaust.positions (app, log, topic, partition, position)
SELECT $1, $2, topic, partition, position
FROM unnest($3::text[], $4::int[], $5::numeric[]) AS advanced (topic, partition, position)
ON CONFLICT (app, topic, partition) DO UPDATE
SET position = excluded.position, log = excluded.log, committed_at = now()
