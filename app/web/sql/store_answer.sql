UPDATE public.idempotency_keys SET status = $2, body = $3 WHERE key = $1
