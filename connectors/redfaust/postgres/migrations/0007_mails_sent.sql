-- Mails that a server has taken, so that none of them is sent again.
CREATE TABLE redfaust.mails_sent (
    idempotency_key text PRIMARY KEY,
    message_id text NOT NULL,
    recipient text NOT NULL,
    sent_at timestamptz NOT NULL
);

CREATE INDEX mails_sent_sent_at ON redfaust.mails_sent (sent_at);
