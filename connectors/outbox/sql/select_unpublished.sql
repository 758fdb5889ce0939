-- $1 lanes, $2 batches at most, $3 bytes after which no further batch is selected. The transaction's
-- end waits until a synchronous standby has them: one whose own commit was interrupted while it waited
-- for that is there, and would be lost with us.
SELECT lane, first_number, last_number, entries
FROM (
    SELECT
        *,
        row_number() OVER in_order AS place,
        sum(pg_column_size(entries)) OVER in_order AS bytes
    FROM (
        SELECT lane, first_number, last_number, entries
        FROM redfaust.batches
        WHERE published_at IS NULL AND lane = ANY ($1)
        ORDER BY lane, last_number
        LIMIT $2
    ) AS first
    WINDOW in_order AS (ORDER BY lane, last_number)
) AS page
WHERE
    (place = 1 OR bytes <= $3)
    AND (SELECT pg_logical_emit_message(true, 'redfaust', '')) IS NOT NULL
ORDER BY lane, last_number
