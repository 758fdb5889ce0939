SELECT id
FROM redfaust.dead_letters
WHERE state = 'waiting'
    AND ($1::text IS NULL OR app = $1)
    AND ($2::text IS NULL OR topic = $2)
ORDER BY id
