-- Those of members that have been silent for so many seconds, and those whose time is none yet.
DELETE FROM redfaust.heartbeats
WHERE (name, member) IN (
    SELECT name, member
    FROM redfaust.heartbeats
    WHERE name = $1
        AND (
            heard_at < clock_timestamp() - make_interval(secs => $2)
            OR heard_at > clock_timestamp() + make_interval(secs => $2)
        )
    -- Whoever has locked them is about to delete them, or waits for this member's own.
    FOR UPDATE SKIP LOCKED
)
