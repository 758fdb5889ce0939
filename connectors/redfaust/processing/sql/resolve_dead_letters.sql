UPDATE redfaust.dead_letters
SET state = $2, resolved_at = now()
WHERE id = ANY($1::bigint[])
