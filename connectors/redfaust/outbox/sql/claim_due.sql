-- $1 the lane, $2 its last number as the caller knows it, $3 rows at most, $4 bytes after which no
-- further row is claimed.
-- Claims nothing if the lane has another last number by now.
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
    UPDATE redfaust.lanes
    SET last_number = last_number + (SELECT count(*) FROM due)
    WHERE lane = $1 AND last_number = $2 AND EXISTS (SELECT FROM due)
    RETURNING lane, last_number
),
claimed AS (
    DELETE FROM redfaust.outbox AS row
    USING due, counter
    -- The array says the same once more, so that the planner expects few rows.
    WHERE row.id = due.id AND row.id = ANY (ARRAY(SELECT id FROM due))
    RETURNING
        counter.lane,
        counter.last_number,
        ROW(
            $2 + due.place, row.topic, row.partition, row.key, row.value, row.headers, row.timestamp
        )::redfaust.entry AS entry
)
INSERT INTO redfaust.batches (lane, first_number, last_number, entries)
SELECT lane, $2 + 1, last_number, array_agg(entry ORDER BY (entry).number)
FROM claimed
GROUP BY lane, last_number
RETURNING lane, first_number, last_number, entries
