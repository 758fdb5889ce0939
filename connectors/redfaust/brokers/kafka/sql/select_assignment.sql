SELECT version, assignment
FROM redfaust.assignments
WHERE name = $1
