-- Takes partitions: whoever had them cannot commit any more. A partition that has no position in
-- this log is continued where the broker's group stands. So is one whose broker may have lost
-- entries, where the group stands further back: it follows the positions here, and was set back
-- together with the log.
--
-- A log that ends before the position is another one (deleted and made again, for example), unless
-- its broker may have lost the end of it: then the group stands where the rest of it was finished,
-- and only in another log at the beginning. 0 and 1 are before every entry.
WITH taken AS (
    SELECT *
    FROM unnest($4::text[], $5::int[], $6::numeric[], $7::numeric[])
        AS row (topic, partition, position, log_end)
),
before AS (
    SELECT topic, partition, known.position
    FROM redfaust.positions AS known
    JOIN taken USING (topic, partition)
    WHERE app = $1
),
held AS (
    INSERT INTO redfaust.positions AS held
        (app, log, incarnation, topic, partition, position, epoch)
    SELECT $1, $2, $3, topic, partition, position, 1
    FROM taken
    -- Everybody locks in the same order, so that no two wait for each other.
    ORDER BY topic, partition
    ON CONFLICT (app, topic, partition) DO UPDATE
    SET epoch = held.epoch + 1,
        log = excluded.log,
        incarnation = excluded.incarnation,
        (position, passed, ahead) = (
            SELECT
                CASE
                    WHEN is_another THEN excluded.position
                    WHEN held.incarnation = excluded.incarnation THEN held.position
                    ELSE least(held.position, excluded.position)
                END,
                CASE
                    WHEN is_another THEN 0
                    WHEN held.incarnation = excluded.incarnation THEN held.passed
                    ELSE least(greatest(held.position, held.passed), log_end)
                END,
                -- In another log an offset means another event. A producer and its number mean the
                -- same, also where what was lost with the log is appended again.
                CASE
                    WHEN NOT is_another THEN held.ahead
                    ELSE (
                        SELECT coalesce(jsonb_object_agg(event, readers), '{}')
                        FROM jsonb_each(held.ahead) AS finished (event, readers)
                        WHERE event LIKE '%:%'
                    )
                END
            FROM taken
            CROSS JOIN LATERAL (
                SELECT held.log <> excluded.log
                    OR held.position > log_end
                        AND (held.incarnation = excluded.incarnation OR excluded.position <= 1)
                    AS is_another
            ) AS log
            WHERE taken.topic = held.topic AND taken.partition = held.partition
        )
    RETURNING topic, partition, position, passed, ahead, applied, epoch, batch
)
SELECT held.*, before.position AS position_before
FROM held
LEFT JOIN before USING (topic, partition)
