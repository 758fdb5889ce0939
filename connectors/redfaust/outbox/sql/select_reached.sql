-- $1 lanes, $2 batches of each at most. How far each has come in each log, and under which
-- incarnations of the broker.
SELECT
    latest.lane,
    place.topic,
    place.partition,
    max(place.mark) AS mark,
    array_agg(DISTINCT latest.incarnation) AS incarnations
FROM unnest($1::text[]) AS given (name)
CROSS JOIN LATERAL (
    SELECT lane, places, incarnation
    FROM redfaust.batches
    WHERE lane = given.name AND published_at IS NOT NULL
    ORDER BY last_number DESC
    LIMIT $2
) AS latest
CROSS JOIN LATERAL unnest(latest.places) AS place
GROUP BY latest.lane, place.topic, place.partition
