-- A few with every new one, so that they never pile up and no mail waits for a great clean-up.
DELETE FROM redfaust.mails_sent WHERE idempotency_key IN (
    SELECT idempotency_key FROM redfaust.mails_sent
    WHERE sent_at < now() - $1::interval
    ORDER BY sent_at
    LIMIT 10
    FOR UPDATE SKIP LOCKED
)
