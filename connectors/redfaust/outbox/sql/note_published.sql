-- $1 lanes and $2 last numbers of batches, and of their lanes' places $3 lane, $4 topic, $5 partition,
-- $6 mark, $7 position, and $8 the broker's incarnation.
-- Does not wait for the disk: a batch that a crash of the server makes unpublished again is
-- appended again, which is harmless.
WITH place AS (
    SELECT lane, array_agg(ROW(topic, partition, mark, position)::redfaust.place) AS places
    FROM unnest($3::text[], $4::text[], $5::int[], $6::bigint[], $7::numeric[])
        AS place (lane, topic, partition, mark, position)
    GROUP BY lane
)
UPDATE redfaust.batches AS batch
SET published_at = now(), places = coalesce(place.places, '{}'), incarnation = $8
FROM unnest($1::text[], $2::bigint[]) AS published (lane, last_number)
LEFT JOIN place USING (lane)
WHERE
    batch.lane = published.lane
    AND batch.last_number = published.last_number
    AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
