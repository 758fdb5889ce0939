-- $1 the lane, $2 its last number as the caller knows it, $3 rows at most.
-- Claims nothing if the lane has another last number by now.
WITH due AS (
    SELECT id, row_number() OVER (ORDER BY available_at NULLS LAST, id) AS place
    FROM (
        (
            SELECT id, available_at
            FROM redfaust.outbox
            WHERE lane IS NULL AND available_at <= now()
            ORDER BY available_at, id
            LIMIT $3
        )
        UNION ALL
        (
            SELECT id, available_at
            FROM redfaust.outbox
            WHERE lane IS NULL AND available_at IS NULL
            ORDER BY id
            LIMIT $3
        )
    ) AS candidates
    ORDER BY available_at NULLS LAST, id
    LIMIT $3
),
counter AS (
    UPDATE redfaust.lanes
    SET last_number = last_number + (SELECT count(*) FROM due)
    WHERE lane = $1 AND last_number = $2 AND EXISTS (SELECT FROM due)
    RETURNING lane
),
claimed AS (
    UPDATE redfaust.outbox AS row
    SET lane = counter.lane, number = $2 + due.place
    FROM due, counter
    -- The array says the same once more, so that the planner expects few rows.
    WHERE row.id = due.id AND row.id = ANY (ARRAY(SELECT id FROM due))
    RETURNING row.id, row.lane, row.number, row.topic, row.key, row.value, row.headers
)
SELECT id, lane, number, topic, key, value, headers FROM claimed ORDER BY number
