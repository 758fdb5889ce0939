INSERT INTO redfaust.positions (app, log, topic, partition, position, ahead, batch)
SELECT $1, $2, topic, partition, position, ahead, $7
FROM unnest($3::text[], $4::int[], $5::numeric[], $6::jsonb[])
    AS advanced (topic, partition, position, ahead)
ON CONFLICT (app, topic, partition) DO UPDATE
SET position = excluded.position, ahead = excluded.ahead, batch = excluded.batch,
    log = excluded.log, committed_at = now()
