-- Puts mails on record, and forgets some old ones with them, so that they never pile up and no mail
-- waits for a great clean-up.
WITH forgotten AS (
    DELETE FROM redfaust.mails_sent WHERE idempotency_key IN (
        SELECT idempotency_key FROM redfaust.mails_sent
        WHERE sent_at < now() - $4::interval
        ORDER BY sent_at
        LIMIT 10 * cardinality($1::text[])
        FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO redfaust.mails_sent (idempotency_key, message_id, recipient, sent_at)
SELECT key, message_id, recipient, now()
FROM unnest($1::text[], $2::text[], $3::text[]) AS sent (key, message_id, recipient)
ON CONFLICT (idempotency_key) DO NOTHING
