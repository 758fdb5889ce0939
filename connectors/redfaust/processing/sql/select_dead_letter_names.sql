-- What waits, by what can be asked for: agents, topics, classes of errors, at most $2 of each.
-- $1 application, or NULL for all.
WITH waiting AS (
    SELECT agent, topic, error_type
    FROM redfaust.dead_letters
    WHERE state = 'waiting' AND ($1::text IS NULL OR app = $1)
)
SELECT what, name, letters
FROM (
    SELECT
        what,
        name,
        count(*) AS letters,
        row_number() OVER (PARTITION BY what ORDER BY count(*) DESC, name) AS place
    FROM waiting
    CROSS JOIN LATERAL (
        VALUES ('agent', agent), ('topic', topic), ('error', error_type)
    ) AS named (what, name)
    WHERE name IS NOT NULL
    GROUP BY what, name
) AS counted
WHERE place <= $2
ORDER BY what, place
