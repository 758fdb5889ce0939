-- The time is that of the clock: the transaction began before the mail was sent.
INSERT INTO redfaust.mails_sent (idempotency_key, message_id, recipient, sent_at)
VALUES ($1, $2, $3, clock_timestamp())
ON CONFLICT (idempotency_key) DO NOTHING
