SELECT *
FROM redfaust.dead_letters
WHERE ($1::text IS NULL OR app = $1)
    AND ($2::text IS NULL OR topic = $2)
    AND ($3::text IS NULL OR agent = $3)
    AND ($4::text IS NULL OR error_type = $4)
    AND ($5::text IS NULL OR state = $5)
ORDER BY id DESC
LIMIT $6
