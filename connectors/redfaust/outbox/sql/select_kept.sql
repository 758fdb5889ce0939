-- $1 the producer, $2 the last number behind which to begin, $3 batches at most, $4 bytes after which no
-- further batch is selected. The transaction's end waits until a synchronous standby has them, as in
-- select_unpublished.
SELECT producer_id, first_sequence, last_sequence, entries
FROM (
    SELECT
        *,
        row_number() OVER in_order AS place,
        sum(pg_column_size(entries)) OVER in_order AS bytes
    FROM (
        SELECT producer_id, first_sequence, last_sequence, entries
        FROM redfaust.batches
        WHERE producer_id = $1 AND last_sequence > $2
        ORDER BY last_sequence
        LIMIT $3
    ) AS first
    WINDOW in_order AS (ORDER BY last_sequence)
) AS page
WHERE
    (place = 1 OR bytes <= $4)
    AND (SELECT pg_logical_emit_message(true, 'redfaust', '')) IS NOT NULL
ORDER BY last_sequence
