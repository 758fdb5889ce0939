-- $1 the producer, $2 the last number of the batch. Where it was published, or nothing if it was not.
SELECT place.*
FROM redfaust.batches AS batch
CROSS JOIN LATERAL unnest(batch.places) AS place
WHERE batch.producer_id = $1 AND batch.last_sequence = $2
