-- Writes a group's assignment under a version that it never had, and wakes the members that wait for one.
WITH written AS (
    INSERT INTO redfaust.assignments (name, version, assignment)
    VALUES ($1, gen_random_uuid(), $2)
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, assignment = excluded.assignment
    RETURNING name
)
SELECT pg_notify($3, name)
FROM written
