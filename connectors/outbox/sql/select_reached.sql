-- $1 lanes, $2 batches of each at most. How far each has come in each log.
SELECT latest.lane, place.topic, place.partition, max(place.mark) AS mark
FROM unnest($1::text[]) AS given (name)
CROSS JOIN LATERAL (
    SELECT lane, places
    FROM redfaust.batches
    WHERE lane = given.name AND published_at IS NOT NULL
    ORDER BY last_number DESC
    LIMIT $2
) AS latest
CROSS JOIN LATERAL unnest(latest.places) AS place
GROUP BY latest.lane, place.topic, place.partition
