-- $1 application. When something was finished last: in each partition, and by each agent with shared
-- delivery, whose partition is null. The agents are found by one look into the index for each.
WITH RECURSIVE found AS (
    (SELECT agent FROM redfaust.inbox ORDER BY agent LIMIT 1)
    UNION ALL
    SELECT (
        SELECT inbox.agent
        FROM redfaust.inbox
        WHERE inbox.agent > found.agent
        ORDER BY inbox.agent
        LIMIT 1
    )
    FROM found
    WHERE found.agent IS NOT NULL
)
SELECT topic, partition, committed_at AS at
FROM redfaust.positions
WHERE app = $1
UNION ALL
SELECT
    substr(found.agent, length($1) + 2),
    NULL,
    (SELECT max(changed_at) FROM redfaust.inbox WHERE inbox.agent = found.agent)
FROM found
WHERE starts_with(found.agent, $1 || '/')
