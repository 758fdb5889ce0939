DELETE FROM redfaust.beats
WHERE name = $1 AND member = ANY ($2::text[])
