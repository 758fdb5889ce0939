INSERT INTO redfaust.kafka_producers AS kept (
    log, producer_id, topic, partition, last_sequence, position, since, losses
)
SELECT $1, producer_id, topic, partition, last_sequence, position, since, losses
FROM unnest(
    $2::text[], $3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]
) AS row (producer_id, topic, partition, last_sequence, position, since, losses)
ORDER BY producer_id, topic, partition
ON CONFLICT (log, producer_id, topic, partition) DO UPDATE
SET last_sequence = excluded.last_sequence,
    position = excluded.position,
    since = excluded.since,
    losses = excluded.losses
