SELECT
    count(*) FILTER (WHERE due) AS depth,
    coalesce(
        extract(epoch FROM now() - min(coalesce(available_at, created_at)) FILTER (WHERE due)), 0
    )::float8 AS oldest_age,
    count(*) FILTER (WHERE NOT due) AS scheduled
FROM redfaust.outbox
CROSS JOIN LATERAL (SELECT available_at IS NULL OR available_at <= now() AS due) AS state
