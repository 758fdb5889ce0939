-- $1 producers, $2 the last number of each behind which to begin, $3 batches of each at most,
-- $4 seconds for which they have been published, $5 places after which no further batch of a producer is
-- selected.
SELECT batch.producer_id, batch.last_sequence, batch.places, batch.incarnation
FROM unnest($1::text[], $2::bigint[]) AS begin (producer_id, behind)
CROSS JOIN LATERAL (
    SELECT
        *,
        sum(cardinality(places)) OVER (ORDER BY last_sequence) - cardinality(places) AS places_before
    FROM (
        SELECT producer_id, last_sequence, places, incarnation
        FROM redfaust.batches
        WHERE
            producer_id = begin.producer_id
            AND last_sequence > begin.behind
            AND published_at < now() - make_interval(secs => $4)
        ORDER BY last_sequence
        LIMIT $3
    ) AS first
) AS batch
WHERE batch.places_before < $5
