-- $1 lanes, $2 the last number of each behind which to begin, $3 batches of each at most,
-- $4 seconds for which they have been published, $5 places after which no further batch of a lane is
-- selected.
SELECT batch.lane, batch.last_number, batch.places, batch.incarnation
FROM unnest($1::text[], $2::bigint[]) AS begin (lane, behind)
CROSS JOIN LATERAL (
    SELECT
        *,
        sum(cardinality(places)) OVER (ORDER BY last_number) - cardinality(places) AS places_before
    FROM (
        SELECT lane, last_number, places, incarnation
        FROM redfaust.batches
        WHERE
            lane = begin.lane
            AND last_number > begin.behind
            AND published_at < now() - make_interval(secs => $4)
        ORDER BY last_number
        LIMIT $3
    ) AS first
) AS batch
WHERE batch.places_before < $5
