SELECT id, topic, key, value, headers
FROM (
    (
        SELECT id, topic, key, value, headers, available_at
        FROM redfaust.outbox
        WHERE available_at <= now()
        ORDER BY available_at, id
        LIMIT $1
    )
    UNION ALL
    (
        SELECT id, topic, key, value, headers, available_at
        FROM redfaust.outbox
        WHERE available_at IS NULL
        ORDER BY id
        LIMIT $1
    )
) AS due
ORDER BY available_at NULLS LAST, id
LIMIT $1
