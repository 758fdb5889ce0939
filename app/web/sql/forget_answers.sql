-- A few with every new one, so that they never pile up and no request waits for a great clean-up.
DELETE FROM public.idempotency_keys WHERE key IN (
    SELECT key FROM public.idempotency_keys
    WHERE created_at < now() - $1::interval
    ORDER BY created_at
    LIMIT 10
    FOR UPDATE SKIP LOCKED
)
