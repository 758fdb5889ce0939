-- Waits while another transaction holds the same key, and then returns nothing, unless that one
-- was rolled back or its answer is too old to be kept to.
INSERT INTO public.idempotency_keys AS kept (key, request)
VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE
SET request = excluded.request, status = NULL, body = NULL, created_at = now()
WHERE kept.created_at < now() - $3::interval
RETURNING key
