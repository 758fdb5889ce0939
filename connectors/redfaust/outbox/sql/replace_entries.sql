-- $1 the lane, $2 the last number of the batch, $3 its entries.
UPDATE redfaust.batches SET entries = $3::redfaust.entry[] WHERE lane = $1 AND last_number = $2
