INSERT INTO redfaust.kafka_marks AS kept (
    log, lane, topic, partition, mark, position, since, losses
)
SELECT $1, lane, topic, partition, mark, position, since, losses
FROM unnest(
    $2::text[], $3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]
) AS row (lane, topic, partition, mark, position, since, losses)
ORDER BY lane, topic, partition
ON CONFLICT (log, lane, topic, partition) DO UPDATE
SET mark = excluded.mark,
    position = excluded.position,
    since = excluded.since,
    losses = excluded.losses
