-- Writes a group's register under a version that it never had, and wakes who waits for one.
WITH written AS (
    INSERT INTO redfaust.registers (name, version, register)
    VALUES ($1, gen_random_uuid(), $2)
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, register = excluded.register
    RETURNING name
)
SELECT pg_notify($3, name)
FROM written
