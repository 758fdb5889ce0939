SELECT request, status, body FROM public.idempotency_keys WHERE key = $1
