-- Takes partitions: whoever had them cannot commit any more. A partition that has no position in
-- this log is continued where the broker's group stands. So is one whose broker may have lost
-- entries, where the group stands further back: it follows the positions here, and was set back
-- together with the log.
WITH taken AS (
    SELECT *
    FROM unnest($4::text[], $5::int[], $6::numeric[], $7::numeric[])
        AS row (topic, partition, position, log_end)
)
INSERT INTO redfaust.positions AS held (app, log, incarnation, topic, partition, position, epoch)
SELECT $1, $2, $3, topic, partition, position, 1
FROM taken
-- Everybody locks in the same order, so that nobody waits for whom he keeps waiting.
ORDER BY topic, partition
ON CONFLICT (app, topic, partition) DO UPDATE
SET epoch = held.epoch + 1,
    position = CASE
        WHEN held.log <> excluded.log THEN excluded.position
        WHEN held.incarnation = excluded.incarnation THEN held.position
        ELSE least(held.position, excluded.position)
    END,
    passed = CASE
        WHEN held.log <> excluded.log THEN 0
        WHEN held.incarnation = excluded.incarnation THEN held.passed
        ELSE least(
            greatest(held.position, held.passed),
            (
                SELECT log_end
                FROM taken
                WHERE taken.topic = held.topic AND taken.partition = held.partition
            )
        )
    END,
    -- In another log an offset means another event. A lane and its number mean the same, also
    -- where what was lost with the log is appended again.
    ahead = CASE
        WHEN held.log = excluded.log THEN held.ahead
        ELSE (
            SELECT coalesce(jsonb_object_agg(event, readers), '{}')
            FROM jsonb_each(held.ahead) AS finished (event, readers)
            WHERE event LIKE '%:%'
        )
    END,
    log = excluded.log,
    incarnation = excluded.incarnation
RETURNING topic, partition, position, passed, ahead, applied, epoch, batch
