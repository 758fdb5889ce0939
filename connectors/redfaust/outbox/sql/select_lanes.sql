-- All lanes that have batches, by one look into the index for each.
WITH RECURSIVE found AS (
    (SELECT lane FROM redfaust.batches ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (
        SELECT batch.lane
        FROM redfaust.batches AS batch
        WHERE batch.lane > found.lane
        ORDER BY batch.lane
        LIMIT 1
    )
    FROM found
    WHERE found.lane IS NOT NULL
)
SELECT lane FROM found WHERE lane IS NOT NULL
