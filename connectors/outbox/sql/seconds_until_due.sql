SELECT extract(epoch FROM min(available_at) - now())::float8
FROM redfaust.outbox
WHERE available_at IS NOT NULL
