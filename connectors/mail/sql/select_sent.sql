SELECT EXISTS (SELECT FROM redfaust.mails_sent WHERE idempotency_key = $1)
