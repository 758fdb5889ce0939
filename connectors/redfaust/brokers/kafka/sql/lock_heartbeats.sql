SELECT member, number
FROM redfaust.heartbeats
WHERE name = $1 AND member = ANY ($2::text[])
ORDER BY member
FOR UPDATE
