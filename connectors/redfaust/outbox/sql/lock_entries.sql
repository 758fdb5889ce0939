-- $1 the lane, $2 the last number of the batch.
SELECT entries FROM redfaust.batches WHERE lane = $1 AND last_number = $2 FOR UPDATE
