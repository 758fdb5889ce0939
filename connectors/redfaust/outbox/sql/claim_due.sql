-- $1 the producer, $2 its last number as the caller knows it, $3 rows at most, $4 bytes after which no
-- further row is claimed.
-- Claims nothing if the producer has another last number by now.
WITH candidates AS (
    SELECT
        id,
        row_number() OVER claimed_first AS place,
        sum(size) OVER claimed_first AS bytes
    FROM (
        (
            SELECT
                id,
                available_at,
                -- What a value's own bytes are is known without reading them.
                coalesce(octet_length(value), 0) + coalesce(octet_length(key), 0)
                + octet_length(headers::text) AS size
            FROM redfaust.outbox
            WHERE available_at <= now()
            ORDER BY available_at, id
            LIMIT $3
        )
        UNION ALL
        (
            SELECT
                id,
                available_at,
                coalesce(octet_length(value), 0) + coalesce(octet_length(key), 0)
                + octet_length(headers::text) AS size
            FROM redfaust.outbox
            WHERE available_at IS NULL
            ORDER BY id
            LIMIT $3
        )
    ) AS ready
    WINDOW claimed_first AS (ORDER BY available_at NULLS LAST, id)
),
due AS (
    SELECT id, place
    FROM candidates
    WHERE place <= $3 AND (place = 1 OR bytes <= $4)
),
counter AS (
    UPDATE redfaust.producers
    SET last_sequence = last_sequence + (SELECT count(*) FROM due)
    WHERE producer_id = $1 AND last_sequence = $2 AND EXISTS (SELECT FROM due)
    RETURNING producer_id, last_sequence
),
claimed AS (
    DELETE FROM redfaust.outbox AS row
    USING due, counter
    -- The array says the same once more, so that the planner expects few rows.
    WHERE row.id = due.id AND row.id = ANY (ARRAY(SELECT id FROM due))
    RETURNING
        counter.producer_id,
        counter.last_sequence,
        ROW(
            $2 + due.place, row.topic, row.partition, row.key, row.value, row.headers, row.timestamp
        )::redfaust.entry AS entry
)
INSERT INTO redfaust.batches (producer_id, first_sequence, last_sequence, entries)
SELECT producer_id, $2 + 1, last_sequence, array_agg(entry ORDER BY (entry).number)
FROM claimed
GROUP BY producer_id, last_sequence
RETURNING producer_id, first_sequence, last_sequence, entries
