SELECT idempotency_key FROM redfaust.mails_sent WHERE idempotency_key = ANY ($1::text[])
