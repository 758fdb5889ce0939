-- $1 the producer, $2 the last number of the batch, $3 its entries.
UPDATE redfaust.batches SET entries = $3::redfaust.entry[] WHERE producer_id = $1 AND last_sequence = $2
