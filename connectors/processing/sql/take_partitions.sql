-- Takes partitions: whoever had them cannot commit any more. A partition that has no position in
-- this log is continued where the broker's group stands.
INSERT INTO redfaust.positions AS held (app, log, topic, partition, position, epoch)
SELECT $1, $2, topic, partition, position, 1
FROM unnest($3::text[], $4::int[], $5::numeric[]) AS taken (topic, partition, position)
-- Everybody locks in the same order, so that nobody waits for whom he keeps waiting.
ORDER BY topic, partition
ON CONFLICT (app, topic, partition) DO UPDATE
SET epoch = held.epoch + 1,
    position = CASE WHEN held.log = excluded.log THEN held.position ELSE excluded.position END,
    ahead = CASE WHEN held.log = excluded.log THEN held.ahead ELSE '{}' END,
    log = excluded.log
RETURNING topic, partition, position, ahead, epoch
