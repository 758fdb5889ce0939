WITH waiting AS (
    SELECT
        1::bigint AS entries,
        coalesce(available_at, created_at) AS due_at,
        available_at IS NULL OR available_at <= now() AS due
    FROM redfaust.outbox
    UNION ALL
    SELECT last_number - first_number + 1, committed_at, true
    FROM redfaust.batches
    WHERE published_at IS NULL
)
SELECT
    coalesce(sum(entries) FILTER (WHERE due), 0)::bigint AS depth,
    coalesce(extract(epoch FROM now() - min(due_at) FILTER (WHERE due)), 0)::float8 AS oldest_age,
    count(*) FILTER (WHERE NOT due) AS scheduled
FROM waiting
