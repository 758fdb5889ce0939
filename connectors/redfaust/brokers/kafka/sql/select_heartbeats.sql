-- Anybody may write here: a time that is none has no age.
SELECT member, number, said, extract(EPOCH FROM clock_timestamp() - heard_at)::float8
FROM redfaust.heartbeats
WHERE name = $1 AND isfinite(heard_at)
ORDER BY member
