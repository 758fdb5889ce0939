SELECT version
FROM redfaust.assignments
WHERE name = $1
