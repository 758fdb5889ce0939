SELECT member, number, said, extract(EPOCH FROM clock_timestamp() - heard_at)::float8
FROM redfaust.beats
WHERE name = $1
ORDER BY member
