SELECT request, status, body FROM idempotency_keys WHERE key = $1
