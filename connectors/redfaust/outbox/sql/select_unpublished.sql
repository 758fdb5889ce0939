-- $1 producers, $2 and $3 the producer and last number of the batch behind which to begin, $4 batches at most,
-- $5 bytes after which no further batch is selected. The transaction's end waits until a synchronous
-- standby has them: one whose own commit was interrupted while it waited for that is there, and would
-- be lost with us.
SELECT producer_id, first_sequence, last_sequence, entries
FROM (
    SELECT
        *,
        row_number() OVER in_order AS place,
        sum(pg_column_size(entries)) OVER in_order AS bytes
    FROM (
        SELECT producer_id, first_sequence, last_sequence, entries
        FROM redfaust.batches
        WHERE published_at IS NULL AND producer_id = ANY ($1) AND (producer_id, last_sequence) > ($2, $3)
        ORDER BY producer_id, last_sequence
        LIMIT $4
    ) AS first
    WINDOW in_order AS (ORDER BY producer_id, last_sequence)
) AS page
WHERE
    (place = 1 OR bytes <= $5)
    AND (SELECT pg_logical_emit_message(true, 'redfaust', '')) IS NOT NULL
ORDER BY producer_id, last_sequence
