-- $1 lanes, $2 batches at most. The transaction's end waits until a synchronous standby has them: one
-- whose own commit was interrupted while it waited for that is there, and would be lost with us.
SELECT lane, first_number, last_number, entries
FROM redfaust.batches
WHERE
    published_at IS NULL
    AND lane = ANY ($1)
    AND (SELECT pg_logical_emit_message(true, 'redfaust', '')) IS NOT NULL
ORDER BY lane, last_number
LIMIT $2
