-- Events that wait for another attempt: those of ordered agents are parked, those of agents with
-- shared delivery stay claimed.
SELECT topic, sum(events)::bigint AS events
FROM (
    SELECT topic, count(*) AS events
    FROM redfaust.parked
    WHERE app = $1
    GROUP BY topic
    UNION ALL
    SELECT topic, count(*)
    FROM redfaust.inbox
    WHERE starts_with(agent, $1 || '/') AND due_at IS NOT NULL
    GROUP BY topic
) AS waiting
GROUP BY topic
ORDER BY topic
