SELECT id, recipient, subject, body, received_at FROM mailbox WHERE id = $1
