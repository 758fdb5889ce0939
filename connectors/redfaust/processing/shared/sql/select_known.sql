-- Each event by itself, and at most once: where the table has just been filled, the planner takes it
-- for empty, and would read all that the agent ever had for each few.
SELECT asked.event, known.attempts, extract(epoch FROM known.due_at - now())::float8 AS due_in
FROM unnest($2::text[]) AS asked (event)
CROSS JOIN LATERAL (
    SELECT attempts, due_at
    FROM redfaust.inbox
    WHERE agent = $1 AND event = asked.event
    LIMIT 1
) AS known
