SELECT id
FROM redfaust.dead_letters
WHERE state = 'waiting'
    AND ($1::text IS NULL OR app = $1)
    AND ($2::text IS NULL OR topic = $2)
    AND ($3::text IS NULL OR agent = $3)
    AND ($4::text IS NULL OR error_type = $4)
ORDER BY id
