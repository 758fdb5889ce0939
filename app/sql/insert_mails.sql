INSERT INTO mailbox (message_id, recipient, subject, body)
VALUES ($1, $2, $3, $4)
ON CONFLICT (message_id) DO NOTHING
