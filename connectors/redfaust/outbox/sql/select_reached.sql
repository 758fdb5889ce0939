-- $1 producers, $2 batches of each at most. How far each has come in each log, and under which
-- incarnations of the broker.
SELECT
    latest.producer_id,
    place.topic,
    place.partition,
    max(place.last_sequence) AS last_sequence,
    array_agg(DISTINCT latest.incarnation) AS incarnations
FROM unnest($1::text[]) AS given (name)
CROSS JOIN LATERAL (
    SELECT producer_id, places, incarnation
    FROM redfaust.batches
    WHERE producer_id = given.name AND published_at IS NOT NULL
    ORDER BY last_sequence DESC
    LIMIT $2
) AS latest
CROSS JOIN LATERAL unnest(latest.places) AS place
GROUP BY latest.producer_id, place.topic, place.partition
