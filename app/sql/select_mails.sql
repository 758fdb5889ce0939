SELECT id, recipient, subject, received_at FROM mailbox ORDER BY id DESC LIMIT $1
