SELECT event, attempts, extract(epoch FROM due_at - now())::float8 AS due_in
FROM redfaust.inbox
WHERE agent = $1 AND event = ANY ($2::text[])
