-- $1 the producer, $2 the last number of the batch.
SELECT entries FROM redfaust.batches WHERE producer_id = $1 AND last_sequence = $2 FOR UPDATE
