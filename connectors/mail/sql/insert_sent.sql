-- Puts a mail on record, and forgets a few old ones with it, so that they never pile up and no mail
-- waits for a great clean-up. The time is that of the clock: the transaction began before the mail
-- was sent.
WITH forgotten AS (
    DELETE FROM redfaust.mails_sent WHERE idempotency_key IN (
        SELECT idempotency_key FROM redfaust.mails_sent
        WHERE sent_at < now() - $4::interval
        ORDER BY sent_at
        LIMIT 10
        FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO redfaust.mails_sent (idempotency_key, message_id, recipient, sent_at)
VALUES ($1, $2, $3, clock_timestamp())
ON CONFLICT (idempotency_key) DO NOTHING
