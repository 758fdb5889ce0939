-- $1 lanes, $2 batches at most.
SELECT lane, first_number, last_number, entries
FROM redfaust.batches
WHERE published_at IS NULL AND lane = ANY ($1)
ORDER BY lane, last_number
LIMIT $2
