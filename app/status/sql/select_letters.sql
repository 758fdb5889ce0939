-- $1 application, $2 letters at most that are counted.
SELECT count(*) AS waiting, min(created_at) AS oldest, max(created_at) AS newest
FROM (
    SELECT created_at
    FROM redfaust.dead_letters
    WHERE app = $1 AND state = 'waiting'
    ORDER BY id DESC
    LIMIT $2
) AS waiting
