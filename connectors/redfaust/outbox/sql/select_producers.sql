-- All producers that have batches, by one look into the index for each.
WITH RECURSIVE found AS (
    (SELECT producer_id FROM redfaust.batches ORDER BY producer_id LIMIT 1)
    UNION ALL
    SELECT (
        SELECT batch.producer_id
        FROM redfaust.batches AS batch
        WHERE batch.producer_id > found.producer_id
        ORDER BY batch.producer_id
        LIMIT 1
    )
    FROM found
    WHERE found.producer_id IS NOT NULL
)
SELECT producer_id FROM found WHERE producer_id IS NOT NULL
