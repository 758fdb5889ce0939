-- $1 the lane, $2 the last number of the batch. Where it was published, or nothing if it was not.
SELECT place.*
FROM redfaust.batches AS batch
CROSS JOIN LATERAL unnest(batch.places) AS place
WHERE batch.lane = $1 AND batch.last_number = $2
