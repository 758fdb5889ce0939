SELECT id, recipient, subject, received_at FROM public.mailbox ORDER BY id DESC LIMIT $1
