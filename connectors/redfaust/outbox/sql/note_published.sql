-- $1 producers and $2 last numbers of batches, and of their producers' places $3 producer, $4 topic, $5 partition,
-- $6 last sequence, $7 position, and $8 the broker's incarnation.
-- Does not wait for the disk: a batch that a crash of the server makes unpublished again is
-- appended again, which is harmless.
WITH place AS (
    SELECT producer_id, array_agg(ROW(topic, partition, last_sequence, position)::redfaust.place) AS places
    FROM unnest($3::text[], $4::text[], $5::int[], $6::bigint[], $7::numeric[])
        AS place (producer_id, topic, partition, last_sequence, position)
    GROUP BY producer_id
)
UPDATE redfaust.batches AS batch
SET published_at = now(), places = coalesce(place.places, '{}'), incarnation = $8
FROM unnest($1::text[], $2::bigint[]) AS published (producer_id, last_sequence)
LEFT JOIN place USING (producer_id)
WHERE
    batch.producer_id = published.producer_id
    AND batch.last_sequence = published.last_sequence
    AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
