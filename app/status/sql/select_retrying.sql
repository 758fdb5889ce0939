-- $1 application, $2 rows of each kind at most that are looked at. Events that wait for another
-- attempt, or behind one that does, by agent and topic, with what the worst of them raised last.
-- An event whose row cannot be read has no attempts, and an error.
WITH waiting AS (
    (
        SELECT agent, topic, attempts, due_at, parked_at AS since, error_type, left(error, 300) AS error
        FROM redfaust.parked
        WHERE app = $1
        LIMIT $2
    )
    UNION ALL
    (
        SELECT
            substr(agent, length($1) + 2),
            topic,
            attempts,
            due_at,
            coalesce(failed_at, changed_at),
            error_type,
            left(error, 300)
        FROM redfaust.inbox
        WHERE due_at IS NOT NULL AND starts_with(agent, $1 || '/')
        LIMIT $2
    )
)
SELECT
    agent,
    topic,
    count(*) AS events,
    min(since) FILTER (WHERE attempts > 0 OR error_type <> '') AS since,
    min(due_at) FILTER (WHERE attempts > 0 OR error_type <> '') AS next_attempt,
    max(attempts) AS attempts,
    (array_agg(error_type ORDER BY attempts DESC, error_type <> '' DESC NULLS LAST, since))[1] AS error_type,
    (array_agg(error ORDER BY attempts DESC, error_type <> '' DESC NULLS LAST, since))[1] AS error
FROM waiting
GROUP BY agent, topic
ORDER BY agent, topic
