-- $1 the lane, $2 the last number behind which to begin, $3 batches at most. The transaction's end
-- waits until a synchronous standby has them, as in select_unpublished.
SELECT lane, first_number, last_number, entries
FROM redfaust.batches
WHERE
    lane = $1
    AND last_number > $2
    AND (SELECT pg_logical_emit_message(true, 'redfaust', '')) IS NOT NULL
ORDER BY last_number
LIMIT $3
