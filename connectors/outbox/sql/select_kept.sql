-- $1 the lane, $2 the last number behind which to begin, $3 batches at most.
SELECT lane, first_number, last_number, entries
FROM redfaust.batches
WHERE lane = $1 AND last_number > $2
ORDER BY last_number
LIMIT $3
